"""Chains compute a linear layer and its activation in one operation, and nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl import nn

ACTIVATIONS = {
    "Tanh": nn.Tanh, "ReLU": nn.ReLU, "ReLU in place": lambda: nn.ReLU(inplace=True), "Sigmoid": nn.Sigmoid,
}  # fmt: skip


def chain(activation, bias=True):
    nbdl.manual_seed(3)
    layers = [
        nn.Linear(3, 8, bias, dtype="float64"),
        activation(),
        nn.Linear(8, 4, dtype="float64"),
        activation(),
    ]
    return nn.Sequential(*layers, nn.Linear(4, 2, dtype="float64"))


def one_by_one(model, x):
    for module in model:
        x = module(x)
    return x


def batch(shape=(5, 3)):
    return nbdl.tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)


def is_fused(model, x=None):
    return model[:2](batch() if x is None else x).grad_fn.name().startswith("Linear")


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (3,), (2, 5, 3)], ids=str)
def test_values_and_gradients(backend, activation, bias, shape):
    model, x = chain(ACTIVATIONS[activation], bias), batch(shape)
    wanted = [x, *model.parameters()]
    result, expected = model(x), one_by_one(model, x)
    np.testing.assert_allclose(result.detach(), expected.detach(), rtol=1e-13)
    found = nbdl.autograd.grad(result.square().sum(), wanted)
    for actual, other in zip(found, nbdl.autograd.grad(expected.square().sum(), wanted), strict=True):
        np.testing.assert_allclose(actual, other, rtol=1e-12, atol=1e-13)
    assert is_fused(model)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_derivatives_of_second_order(backend, activation):
    model, x = chain(ACTIVATIONS[activation]), batch()
    assert nbdl.autograd.gradcheck(model, x, check_forward_ad=True)
    assert nbdl.autograd.gradgradcheck(model, x)


def test_hooks_see_what_is_between(backend):
    for position in (0, 1):
        model, seen = chain(nn.Tanh), []
        model[position].register_forward_hook(lambda module, args, output, seen=seen: seen.append(output))
        model(batch())
        assert len(seen) == 1
        assert not is_fused(model)


def test_backward_hooks_see_gradients(backend):
    model, seen = chain(nn.ReLU), []
    model[0].register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(grad_output[0]))
    model(batch()).sum().backward()
    assert seen[0].shape == (5, 8)


def test_other_modules_are_called_one_by_one(backend):
    class Mine(nn.Linear):
        pass

    calls = []
    replaced = nn.Linear(3, 8, dtype="float64")
    replaced.forward = lambda x: calls.append(x) or nn.Linear.forward(replaced, x)
    for first in (Mine(3, 8, dtype="float64"), replaced):
        assert not is_fused(nn.Sequential(first, nn.Tanh()))
    assert len(calls) == 1
    assert not is_fused(nn.Sequential(nn.Linear(3, 8, dtype="float64"), nn.GELU()))
    last = nn.Sequential(nn.Tanh(), nn.Linear(3, 2, dtype="float64"))
    assert last(batch()).grad_fn.name() == "LinearBackward"
    twice = nn.Sequential(nn.Linear(3, 3, dtype="float64"), nn.Linear(3, 3, dtype="float64"), nn.Tanh())
    assert twice(batch()).grad_fn.name() == "LinearTanhBackward"


def test_anomaly_mode_names_the_activation(backend):
    model, x = chain(nn.Tanh), batch()
    with nbdl.autograd.detect_anomaly():
        assert not is_fused(model, x)


def test_errors_are_those_of_the_layer(backend):
    model = chain(nn.ReLU)
    with pytest.raises(RuntimeError, match="linear: the last axis of the input"):
        model(batch((5, 4)))
