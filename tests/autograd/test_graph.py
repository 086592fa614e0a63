"""Hooks of saved tensors, and the names of ``autograd.graph``."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import nbdl
from nbdl.autograd import graph


def network(x):
    """Saves operands, outputs, and a leaf as itself."""
    return (x * x).exp().tanh() @ x + (x.sigmoid() * nbdl.arange(3.0)).sum()


@pytest.mark.parametrize("hooks", [(lambda x: x, lambda x: x), (lambda x: x.numpy().copy(), nbdl.from_numpy)])
def test_derivatives_of_first_and_second_order(backend, hooks):
    x = nbdl.tensor([0.1, -0.5, 0.7], requires_grad=True)

    def both(y):
        (g,) = nbdl.autograd.grad(y, x, create_graph=True)
        (h,) = nbdl.autograd.grad(g.square().sum(), x)
        return g.detach(), h

    expected = both(network(x))
    with graph.saved_tensors_hooks(*hooks):
        y = network(x)
    for actual, wanted in zip(both(y), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-6)


def test_the_hooks_see_what_is_saved_without_history(backend):
    seen, read = [], []
    x = nbdl.tensor([1.0, 2.0], requires_grad=True)
    with graph.saved_tensors_hooks(
        lambda t: seen.append(t) or len(seen) - 1, lambda k: read.append(k) or seen[k]
    ):
        y = x * x.detach()
        z = y.exp()
    assert len(seen) in (2, 3)
    assert not any(t.requires_grad for t in seen)
    assert not read
    z.sum().backward(retain_graph=True)
    assert sorted(read) == list(range(len(seen)))
    np.testing.assert_allclose(x.grad, z.detach() * x.detach(), rtol=1e-6)


def test_the_innermost_hooks_count(backend):
    calls = []
    with graph.saved_tensors_hooks(lambda t: calls.append("outer") or t, lambda t: t):
        x = nbdl.ones(1, requires_grad=True)
        with graph.saved_tensors_hooks(lambda t: calls.append("inner") or t, lambda t: t):
            x.exp()
        x.exp()
    x.exp()
    assert calls == ["inner", "outer"]


def test_a_freed_graph_stays_freed(backend):
    x = nbdl.ones(1, requires_grad=True)
    with graph.save_on_cpu():
        y = x.exp()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    np.testing.assert_allclose(x.grad, y.detach())


def test_graphs_are_freed_by_reference_counts(backend):
    x = nbdl.ones(1, requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        y = x.exp().exp()
    node = weakref.ref(y.grad_fn)
    gc.disable()
    try:
        del y
        assert node() is None
    finally:
        gc.enable()


def test_vmap_of_a_gradient(backend):
    x = nbdl.arange(6.0).reshape(2, 3)
    expected = nbdl.func.vmap(nbdl.func.grad(network))(x)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        actual = nbdl.func.vmap(nbdl.func.grad(network))(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_what_hooks_must_not_do(backend):
    x = nbdl.ones(1, requires_grad=True)
    with (
        pytest.raises(RuntimeError, match="modified"),
        graph.saved_tensors_hooks(lambda t: t.add_(1), lambda t: t),
    ):
        x.exp()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 1.0):
        y = x.exp()
    with pytest.raises(TypeError, match="unpack_hook must return a Tensor"):
        y.backward()
    with (
        graph.disable_saved_tensors_hooks("not here"),
        pytest.raises(RuntimeError, match="not here"),
        graph.save_on_cpu(),
    ):
        pass
    with graph.save_on_cpu():
        pass


def test_increment_version(backend):
    x = nbdl.ones(1, requires_grad=True)
    y = x * 1
    z = y.square()
    graph.increment_version([y])
    assert y._version == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def products(torch):
    """Two leaves, two products of them."""
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, -1.0], requires_grad=True)
    return a, b, a * b, a * b


def multi_hooks(torch):
    """Which gradients hooks of several tensors see, in passes to all leaves and to one."""
    a, b, c, d = products(torch)
    seen = []
    every = torch.autograd.graph.register_multi_grad_hook(
        (a, b, c, d), lambda gs: seen.append([g is None or g.tolist() for g in gs])
    )
    torch.autograd.graph.register_multi_grad_hook((a, c), lambda g: seen.append(g.tolist()), mode="any")
    c.sum().backward(retain_graph=True)
    c.sum().backward(inputs=[a], retain_graph=True)
    every.remove()
    (c + d).sum().backward()
    return seen


def edges(torch):
    """Derivatives of edges and by edges, with dicts, and where the tensor is gone."""
    a, b, c, d = products(torch)
    edge = torch.autograd.graph.get_gradient_edge
    y = (c * d * d).sum()
    at_c, at_a = edge(c), edge(a)
    results = list(torch.autograd.grad(y, [at_c, at_a, d], retain_graph=True))
    del c
    results += torch.autograd.grad(at_c, [a, edge(b)], torch.tensor([1.0, 10.0]), retain_graph=True)
    torch.autograd.backward([edge(y)], inputs={"b": b}, retain_graph=True)
    by_name = torch.autograd.grad(y, {"x": a, "y": b}, retain_graph=True)
    assert list(by_name) == ["x", "y"]
    assert a.grad is None
    return [g.tolist() for g in [*results, b.grad, *by_name.values()]]


def node_hooks(torch):
    """Hooks of nodes change the gradients of outputs and operands; leaves have a node as well."""
    a, b, c, _ = products(torch)
    seen = []
    c.grad_fn.register_prehook(lambda gs: (gs[0] * 2,))
    handle = c.grad_fn.register_hook(lambda new, old: seen.append(old[0].tolist()) or (new[0], new[1] + 1))
    leaf = c.grad_fn.next_functions[0][0]
    assert leaf.variable is a
    leaf.register_prehook(lambda gs: (gs[0] + 5,))
    c.sum().backward(retain_graph=True)
    handle.remove()
    c.sum().backward()
    return [a.grad.tolist(), b.grad.tolist(), seen]


@pytest.mark.torch
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("program", [multi_hooks, edges, node_hooks])
def test_edges_and_hooks_of_nodes(program):
    import torch

    assert program(nbdl) == program(torch)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: graph.get_gradient_edge(x.detach()), RuntimeError),
        (lambda x: graph.register_multi_grad_hook([x], print, mode="one"), ValueError),
        (lambda x: nbdl.autograd.grad(x, "x"), TypeError),
        (lambda x: nbdl.autograd.grad(x, x, allow_unused=False, materialize_grads=True), ValueError),
    ],
)
def test_edges_that_do_not_exist(call, error):
    with pytest.raises(error):
        call(nbdl.ones((), requires_grad=True))
