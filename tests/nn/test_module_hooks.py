"""Modules: hooks around the call and the backward pass."""

from __future__ import annotations

import gc

import pytest
from nn.small_modules import Affine

import nbdl
from nbdl import nn


def test_forward_hooks_replace_arguments_and_outputs():
    net = Affine()
    seen = []
    net.register_forward_pre_hook(lambda module, args: seen.append("second"))
    net.register_forward_pre_hook(lambda module, args: (args[0] * 2,), prepend=True)
    handle = net.register_forward_hook(lambda module, args, out: seen.append(args[0].tolist()) or out + 1)
    assert net(nbdl.ones(1, 3)).tolist() == [[7.0, 7.0]]
    assert seen == ["second", [[2.0, 2.0, 2.0]]]
    handle.remove()
    assert net(nbdl.ones(1, 3)).tolist() == [[6.0, 6.0]]


def test_hooks_with_keywords_and_always():
    class Scaled(nn.Module):
        def forward(self, x, factor=1.0):
            if factor < 0:
                raise ValueError("negative")
            return x * factor

    net = Scaled()
    seen = []
    net.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"factor": kwargs["factor"] + 1}), with_kwargs=True
    )
    net.register_forward_hook(lambda m, args, kwargs, out: seen.append(kwargs), with_kwargs=True)
    net.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    assert net(nbdl.ones(1), factor=2.0).tolist() == [3.0]
    assert seen[0] == {"factor": 3.0}
    seen.clear()
    with pytest.raises(ValueError, match="negative"):
        net(nbdl.ones(1), factor=-5.0)
    assert seen == [None]
    net.register_forward_pre_hook(lambda m, args, kwargs: 5, with_kwargs=True)
    with pytest.raises(RuntimeError, match="new_args, new_kwargs"):
        net(nbdl.ones(1), factor=1.0)


def test_full_backward_hooks_see_and_replace_gradients():
    net = Affine()
    seen = []
    net.register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 10,))
    net.register_full_backward_hook(lambda module, gi, go: seen.append((gi[0].tolist(), go[0].tolist())))
    net.register_full_backward_hook(lambda module, gi, go: (gi[0] + 1,))
    x = nbdl.zeros(1, 3, requires_grad=True)
    net(x).sum().backward()
    assert seen == [([[20.0] * 3], [[10.0] * 2])]
    assert x.grad.tolist() == [[21.0] * 3]
    assert net.bias.grad.tolist() == [10.0, 10.0]


def test_backward_hook_without_differentiable_arguments():
    net = Affine()
    seen = []
    net.register_full_backward_hook(lambda module, gi, go: seen.append((gi, go[0].shape)))
    net(nbdl.zeros(1, 3)).sum().backward()
    assert seen == [((None,), (1, 2))]
    net.register_full_backward_hook(lambda module, gi, go: (nbdl.zeros(1, 3),))
    with pytest.raises(RuntimeError, match="no argument of the module requires grad"):
        net(nbdl.zeros(1, 3)).sum().backward()


def test_backward_hook_on_several_inputs_and_outputs():
    class Pair(nn.Module):
        def forward(self, a, text, b):
            return a * b, text, a + b

    net = Pair()
    seen = []
    net.register_full_backward_hook(lambda module, gi, go: seen.append([g and g.item() for g in (*gi, *go)]))
    a, b = nbdl.tensor(2.0, requires_grad=True), nbdl.tensor(5.0, requires_grad=True)
    product, text, total = net(a, "text", b)
    assert text == "text"
    (product + 3 * total).backward()
    assert seen == [[8.0, None, 5.0, 1.0, None, 3.0]]
    wrong = net.register_full_backward_hook(lambda module, gi, go: (gi[0],))
    with pytest.raises(RuntimeError, match="returned 1 gradients, but 3"):
        net(a, "text", b)[0].backward()
    wrong.remove()


def test_second_order_through_backward_hooks_leaves_no_cycle():
    class Cube(nn.Module):
        def forward(self, x):
            return x * x * x

    net = Cube()
    net.register_full_backward_hook(lambda module, gi, go: (gi[0] * 2,))

    def derivatives():
        x = nbdl.tensor(3.0, requires_grad=True)
        (first,) = nbdl.autograd.grad(net(x), x, create_graph=True)
        (second,) = nbdl.autograd.grad(first, x)
        return first.item(), second.item()

    # The hook is called in the second pass as well.
    assert derivatives() == (2 * 27, 2 * 2 * 18)
    gc.collect()
    gc.disable()
    try:
        derivatives()
        assert gc.collect() == 0
    finally:
        gc.enable()
