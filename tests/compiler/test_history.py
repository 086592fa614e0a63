"""Compiled functions whose results need gradients: the backward pass from them is a program, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.compiler import RecordingError


def values(*shape: int, seed: int = 0) -> nbdl.Tensor:
    return nbdl.tensor(np.random.default_rng(seed).normal(size=shape))


def same(run: Any, calls: int = 4) -> None:
    """``run(compile)`` gives a step and tensors to look at: eager and compiled, they agree at every call."""
    histories = []
    for wrapper in (lambda function: function, nbdl.compile):
        nbdl.manual_seed(5)
        step, state = run(wrapper)
        history = []
        for k in range(calls):
            results = [step(k), *state]
            # What a result that was not used has no gradient for is 0 from a program.
            gradients = [x.zeros_like() if x.grad is None else x.grad for x in state]
            history.append([x.detach().numpy().copy() for x in (*results, *gradients)])
        histories.append(history)
    for eager, compiled in zip(*histories, strict=True):
        for want, got in zip(eager, compiled, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


MODELS: dict[str, Any] = {
    "linear": lambda: nn.Linear(4, 2),
    "tanh, whose rule reads the result": lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh()),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 2)),
    "reshaped": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3), nn.Flatten()),
    "softmax": lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.LogSoftmax(1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_trained_in_a_loop_of_ones_own(backend, name):
    def run(wrapper):
        model = MODELS[name]().double().train()
        optimizer = nbdl.optim.Adam(model.parameters(), lr=0.05)
        forward = wrapper(model)

        def step(k):
            optimizer.zero_grad()
            loss = (forward(values(6, 4, seed=k)) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]

    same(run)


def test_between_eager_layers(backend):
    def run(wrapper):
        before, middle, after = nn.Linear(4, 3).double(), nn.Linear(3, 3).double(), nn.Linear(3, 1).double()
        compiled = wrapper(lambda h: h + middle(h).tanh())

        def step(k):
            loss = after(compiled(compiled(before(values(5, 4, seed=k))))).square().sum()
            loss.backward()  # gradients accumulate over the calls
            return loss

        return step, [*before.parameters(), *middle.parameters(), *after.parameters()]

    same(run)


def test_several_results(backend):
    def run(wrapper):
        weight = nbdl.ones(3, dtype=nbdl.float64, requires_grad=True)
        unused = nbdl.ones(3, dtype=nbdl.float64, requires_grad=True)

        @wrapper
        def function(x):
            y = weight * x
            return {"y": y.exp(), "largest": y.argmax(), "constant": 3, "both": (y.t(), (unused * x).sum())}

        def step(k):
            results = function(values(3, 3, seed=k))
            assert results["constant"] == 3 and not results["largest"].requires_grad
            loss = results["y"].sum()
            if k > 1:  # before that, gradients of results are missing
                loss = loss + results["both"][0][0].sum() * results["both"][1]
            loss.backward()
            return loss

        return step, [weight, unused]

    same(run)


def test_leaves_as_arguments_and_as_results(backend):
    def run(wrapper):
        x = values(4).requires_grad_()
        function = wrapper(lambda a, b: (a, a * b, a.detach() * 2))

        def step(k):
            y = x * (k + 1)
            first, second, third = function(y, y)
            direct = wrapper(lambda a: a.sin())(x)
            assert not third.requires_grad
            loss = (first * second + third + direct).sum()
            loss.backward()
            return loss

        return step, [x]

    same(run)


class Cube(nbdl.autograd.Function):
    """Its rule reads what it did not save for it, and a tensor that it made."""

    @staticmethod
    def forward(ctx, x):
        ctx.square = x * x
        return ctx.square * x

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.square * gradient


def test_rules_of_ones_own_checkpoints_and_constants(backend):
    def run(wrapper):
        weight = values(3, 3).requires_grad_()

        def part(h):
            return (h @ weight).sin()

        @wrapper
        def function(x):
            scale = nbdl.tensor([1.0, 2.0, 3.0], dtype=nbdl.float64)
            local = x.detach().requires_grad_()
            h = Cube.apply(x * weight) * scale + local * local
            return nbdl.utils.checkpoint.checkpoint(part, h, use_reentrant=False).mean()

        def step(k):
            loss = function(values(3, 3, seed=k))
            loss.backward()
            return loss

        return step, [weight]

    same(run)


def test_lazy_parameters(backend):
    layer = nn.LazyLinear(2)
    function = nbdl.compile(layer)
    for k in range(3):
        layer.zero_grad()
        function(nbdl.ones(1, 3) * k).sum().backward()
        assert layer.weight.grad.tolist() == [[k] * 3] * 2


def test_one_program_for_all_calls(backend):
    layer = nn.Linear(3, 3)
    function = nbdl.compile(lambda h: layer(h).relu())
    for k in range(3):
        function(layer(values(2, 3, seed=k).float())).sum().backward()
    assert "1 programs" in repr(function)
    with nbdl.no_grad():
        assert not function(nbdl.ones(2, 3)).requires_grad


def test_two_calls_before_a_backward_pass_and_retained_graphs(backend):
    def run(wrapper):
        weight = values(3, 3).requires_grad_()
        function = wrapper(lambda x: (x @ weight).tanh().sum(1))

        def step(k):
            first, second = function(values(2, 3, seed=k)), function(values(2, 3, seed=9 + k))
            loss = (first * second).sum()
            loss.backward(retain_graph=True)
            loss.backward()
            return loss

        return step, [weight]

    same(run)


def test_leaves_with_the_same_gradient_do_not_share_it(backend):
    first, second = nbdl.ones(2, requires_grad=True), nbdl.ones(2, requires_grad=True)
    function = nbdl.compile(lambda x: (first + second) * x)
    for k in range(1, 3):
        function(nbdl.ones(2)).sum().backward()
        with nbdl.no_grad():
            first.grad.mul_(2)
        assert second.grad.tolist() == [k, k]


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_frozen_parameters_are_noticed(backend, where):
    layer = nn.Linear(2, 2)
    model = nbdl.compile(layer)

    def step(x):
        layer(x).sum().backward()

    step = nbdl.compile(step) if where == "inside" else lambda x: model(x).sum().backward()
    for frozen in (False, True, False):
        layer.weight.requires_grad_(not frozen)
        layer.zero_grad()
        step(nbdl.ones(1, 2))
        assert (layer.weight.grad is None) is frozen and layer.bias.grad.tolist() == [1, 1]
    layer.requires_grad_(False)
    assert not model(nbdl.ones(1, 2)).requires_grad
    layer.requires_grad_()
    assert model(nbdl.ones(1, 2)).requires_grad


def test_hooks_of_leaves_see_the_gradients_of_a_call(backend):
    weight = nbdl.ones(2, requires_grad=True)
    seen = []
    weight.register_hook(lambda gradient: seen.append(gradient.tolist()))
    function = nbdl.compile(lambda x: weight * x)
    for k in range(2):
        (function(nbdl.ones(2) + k) * 3).sum().backward()
    assert seen == [[3, 3], [6, 6]]


# ----------------------------------------------------------------------------------------------- wrong uses
def test_changes_in_place_are_noticed(backend):
    weight, x = nbdl.ones(2, requires_grad=True), nbdl.ones(2)
    function = nbdl.compile(lambda x: (weight * weight * x).tanh())

    def change_weight(y):
        with nbdl.no_grad():
            weight.add_(1)

    for change in (change_weight, lambda y: x.add_(1), lambda y: y.detach().add_(1)):
        for _ in range(2):  # recorded, replayed
            y = function(x)
            change(y)
            with pytest.raises(RuntimeError, match=r"CompiledBackward.*modified|modified.*CompiledBackward"):
                y.sum().backward()
    function(x).sum().backward()  # and nothing is left behind


def test_a_second_pass_and_second_derivatives_are_refused(backend):
    weight = nbdl.ones(2, requires_grad=True)
    function = nbdl.compile(lambda x: (weight * x) ** 2)
    for _ in range(2):
        y = function(nbdl.ones(2)).sum()
        y.backward()
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()
        (gradient,) = nbdl.autograd.grad(function(nbdl.ones(2)).sum(), weight, create_graph=True)
        assert gradient.tolist() == [2, 2]
        with pytest.raises(RuntimeError, match=r"compile: .*differentiated again"):
            gradient.sum().backward()


def test_backward_inside_beyond_an_argument_is_refused(backend):
    x = nbdl.ones(2, requires_grad=True) * 2
    with pytest.raises(RecordingError, match="argument that has a history"):
        nbdl.compile(lambda h: (h * h).sum().backward())(x)


def test_hooks_that_keep_gradients_are_refused(backend):
    weight, kept = nbdl.ones(2, requires_grad=True), []

    @nbdl.compile
    def function(x):
        y = weight * x
        y.register_hook(lambda gradient: kept.append(gradient * 2))
        return y.exp()

    with pytest.raises(RecordingError, match="keeps a tensor"):
        function(nbdl.ones(2))


def test_transforms_of_the_backward_pass_alone_are_refused(backend):
    weight = nbdl.ones(2, requires_grad=True)
    function = nbdl.compile(lambda x: weight * x)
    y = function(nbdl.ones(2))
    with pytest.raises(RuntimeError, match=r"compile: .*neither be batched"):
        nbdl.autograd.grad(y, weight, nbdl.eye(2), is_grads_batched=True)
    with pytest.raises(RecordingError, match="result of another compiled function"):
        nbdl.compile(lambda: y.sum().backward())()
    assert nbdl.func.grad(lambda w: (nbdl.compile(lambda: w * w)() * w).sum())(nbdl.ones(2)).tolist() == [
        3,
        3,
    ]


def test_derivatives_with_respect_to_gradients_that_flow_in_are_refused():
    compiled = nbdl.compile(lambda w: w.square())
    w = nbdl.ones(2, requires_grad=True)
    for _ in range(2):
        u = nbdl.ones(2, requires_grad=True)
        (gradient,) = nbdl.autograd.grad(compiled(w), w, u, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            nbdl.autograd.grad(gradient.sum(), u)
