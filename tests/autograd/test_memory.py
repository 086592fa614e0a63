"""Memory: no reference cycles, so everything is freed at once and without the collector."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

import nbdl
from nbdl import func
from nbdl.autograd import Function, forward_ad


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        y = x * x
        out = y * x
        ctx.save_for_backward(x, y, out)
        ctx.save_for_forward(x)
        return out

    @staticmethod
    def backward(ctx, g):
        x, _, _ = ctx.saved_tensors
        return 3 * x * x * g

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 3 * x * x * t


def leaf():
    return nbdl.tensor(np.linspace(0.5, 1.5, 6).reshape(2, 3), requires_grad=True)


def first_order(x):
    (x.exp() * x + x.tanh().sum()).sum().backward()
    x.grad = None


def create_graph(x):
    (g,) = nbdl.autograd.grad((x.tanh() * x).sum(), x, create_graph=True)
    (g * g).sum().backward()
    x.grad = None


def backward_with_create_graph(x):
    (x.tanh() * x).sum().backward(create_graph=True)
    x.grad = None


def graph_that_is_never_used(x):
    x.exp() @ x.T.sin()


def retained(x):
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    x.grad = None


def hooks(x):
    y = x * 2
    handle = y.register_hook(lambda g: g * 2)
    y.retain_grad()
    y.sum().backward()
    handle.remove()
    x.grad = None


def in_place(x):
    y = x * 1
    view = y[0]
    view.mul_(2)
    y.add_(x)
    (y * view).sum().backward()
    x.grad = None


def functions(x):
    Cube.apply(x).sum().backward()
    x.grad = None
    (g,) = nbdl.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    g.sum().backward()
    x.grad = None


def forward_mode(x):
    with forward_ad.dual_level():
        forward_ad.unpack_dual((forward_ad.make_dual(x.detach(), x.detach()).exp() @ x.T).sum())
    func.jvp(Cube.apply, (x.detach(),), (x.detach(),))


def nested_transforms(x):
    func.hvp(lambda x: (x.tanh() * x).sum(), x.detach(), x.detach())
    func.hessian(lambda x: (x.tanh() * x).sum())(x.detach()[0])
    func.vjp(lambda x: x.exp(), x)[1](x.detach())
    func.linearize(lambda x: x.exp(), x.detach())[1](x.detach())


def errors(x):
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError):
        y.backward()
    x.grad = None


STEPS = [
    first_order, create_graph, backward_with_create_graph, graph_that_is_never_used, retained, hooks,
    in_place, functions,
    forward_mode, nested_transforms, errors,
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_step_leaves_nothing_behind(step, no_collector):
    x = leaf()
    for _ in range(3):
        step(x)
    gc.collect()  # what the first calls cached or imported
    before = len(gc.get_objects())
    for _ in range(20):
        step(x)
    # Without the collector every cycle would stay: at least one object a step.
    assert len(gc.get_objects()) - before < 10


def test_memory_is_flat_over_10_000_steps(no_collector):
    x = leaf()

    def steps(count):
        for _ in range(count):
            (x.exp() * x).sum().backward()
            x.grad = None
        for _ in range(count):
            (g,) = nbdl.autograd.grad((x.tanh() * x).sum(), x, create_graph=True)
            g.sum().backward()
            x.grad = None

    steps(2000)  # Python keeps up to 2000 freed tuples of each length
    before = sys.getallocatedblocks()
    steps(5000)
    assert sys.getallocatedblocks() - before < 1000


def test_intermediate_values_are_freed_by_backward(no_collector):
    x = leaf()
    y = x.exp()
    alive = weakref.ref(y)
    z = (y * y).sum()
    del y
    assert alive() is not None, "the product needs it"
    z.backward()
    assert alive() is None, "z itself keeps nothing"


def test_what_no_rule_needs_is_not_kept(no_collector):
    x = leaf()
    y = x * 2
    alive = weakref.ref(y)
    z = y + 1
    del y
    assert alive() is None
    z.sum().backward()


def test_views_keep_their_base(no_collector):
    base = nbdl.ones(3)
    view = base[1:]
    alive = weakref.ref(base)
    del base
    assert alive() is not None
    view.add_(1)
    del view
    assert alive() is None
