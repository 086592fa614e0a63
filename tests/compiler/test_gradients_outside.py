"""Gradients that a compiled function reads, assigns or forgets, while the loop around it does as it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import nn


def _model() -> Any:
    nbdl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def _backward(model: Any, k: int) -> None:
    data = np.random.default_rng(k).normal(size=(3, 4))
    model(nbdl.tensor(data)).square().sum().backward()


def step_alone(transform: Any, model: Any, optimizer: Any, k: int) -> None:
    model.zero_grad(set_to_none=k % 2 == 0)
    _backward(model, k)
    transform(optimizer.step)()


def step_without_some(transform: Any, model: Any, optimizer: Any, k: int) -> None:
    model.zero_grad()
    _backward(model, k)
    if k % 3 == 2:
        model[0].weight.grad = None
    transform(optimizer.step)()


def clipping_alone(transform: Any, model: Any, optimizer: Any, k: int) -> None:
    model.zero_grad()
    _backward(model, k)
    transform(nn.utils.clip_grad_norm_)(model.parameters(), 0.1)


def assigned(transform: Any, model: Any, optimizer: Any, k: int) -> None:
    def step(x: Any) -> None:
        loss = model(x).square().sum()
        gradients = nbdl.autograd.grad(loss, list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    transform(step)(nbdl.tensor(np.random.default_rng(k).normal(size=(3, 4))))


def assigned_constants(transform: Any, model: Any, optimizer: Any, k: int) -> None:
    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = nbdl.ones_like(parameter)

    transform(step)()
    for parameter in model.parameters():
        parameter.grad.add_(k)


def read_and_forgotten(transform: Any, model: Any, optimizer: Any, k: int) -> None:
    def step(x: Any) -> Any:
        model(x).sum().backward()
        found = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        return found

    found = transform(step)(nbdl.full((3, 4), 0.1 * k, dtype=nbdl.float64))
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        assert parameter.grad is None
        parameter.grad = gradient


STEPS: dict[str, Callable[..., None]] = {
    step.__name__: step
    for step in (
        step_alone,
        step_without_some,
        clipping_alone,
        assigned,
        assigned_constants,
        read_and_forgotten,
    )
}


@pytest.mark.parametrize("name", STEPS)
def test_gradients_are_those_of_the_call(name, backend):
    results = []
    for compiling in (False, True):
        compiled: dict[Any, Any] = {}

        def transform(function, compiling=compiling, compiled=compiled):
            known = compiled.setdefault(function.__name__, function)
            if compiling and known is function:
                known = compiled[function.__name__] = nbdl.compile(function)
            return known

        model = _model()
        optimizer = nbdl.optim.Adam(model.parameters(), lr=0.1)
        values = []
        for k in range(12):
            STEPS[name](transform, model, optimizer, k)
            for parameter in model.parameters():
                values.append(parameter.numpy(force=True).copy())
                values.append(None if parameter.grad is None else parameter.grad.numpy().copy())
        results.append(values)
    for expected, given in zip(*results, strict=True):
        assert (expected is None) == (given is None)
        if expected is not None:
            np.testing.assert_allclose(given, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_in_other_memory_take_the_same_program(name, clip, backend):
    def train(transform):
        model, kept, calls = _model(), [], []
        optimizer = getattr(nbdl.optim, name)(model.parameters(), lr=0.1)

        def step():
            calls.append(1)
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()

        run = transform(step)
        for k in range(7):
            optimizer.zero_grad(set_to_none=True)
            _backward(model, k)
            kept.append([parameter.grad for parameter in model.parameters()])
            run()
            assert all(p.grad is g for p, g in zip(model.parameters(), kept[-1], strict=True))
        return len(calls), [[p.detach() for p in model.parameters()], *kept]

    recordings, given = train(nbdl.compile)
    # Adam makes its state in the first call; that gradients change places shows in the second one.
    assert recordings == 1 + (name == "Adam") + clip
    nbdl.testing.assert_close(given, train(lambda step: step)[1], rtol=1e-10, atol=1e-12)


def test_gradients_that_share_memory(backend):
    one, other = nbdl.zeros(3, requires_grad=True), nbdl.zeros(3, requires_grad=True)
    hidden = [nbdl.ones(3)]

    def step():
        one.grad.mul_(2)
        return one.grad + other.grad + hidden[0]

    expected, given = [], []
    for values, run in ((expected, step), (given, nbdl.compile(step))):
        hidden[0] = nbdl.ones(3)
        for k in range(12):
            one.grad = nbdl.full((3,), float(k))
            other.grad = one.grad if k % 2 else nbdl.full((3,), 0.5 * k)
            if k % 5 == 4:
                hidden[0] = one.grad
            values.append(run().tolist())
            values.append(one.grad.tolist())
    assert given == expected


def test_gradients_that_are_results(backend):
    weight = nbdl.zeros(3, requires_grad=True)
    compiled = nbdl.compile(lambda: (weight.grad, weight.grad * 2))
    for k in range(4):
        weight.grad = nbdl.full((3,), float(k))
        same, doubled = compiled()
        assert same.tolist() == [k] * 3 and doubled.tolist() == [2 * k] * 3
        same.add_(1)
        assert weight.grad.tolist() == [k + 1] * 3


@pytest.mark.parametrize(
    "other", [None, nbdl.ones(3)[:, None].expand(3, 2).mT, nbdl.ones(2, 3).mT.contiguous().mT]
)
def test_gradients_of_another_layout(other, backend):
    weight = nbdl.zeros(2, 3, requires_grad=True)
    compiled = nbdl.compile(lambda: nbdl.zeros(2, 3) if weight.grad is None else weight.grad * 2)
    for k in range(5):
        weight.grad = nbdl.full((2, 3), float(k)) if k % 2 else other
        expected = nbdl.zeros(2, 3) if weight.grad is None else weight.grad * 2
        assert compiled().equal(expected)
