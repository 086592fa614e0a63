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
