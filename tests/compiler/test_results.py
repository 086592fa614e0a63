"""What a compiled function returns is what it returns without compiling: arguments, parameters and views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.compiler import RecordingError


def _data(k: int, *shape: int) -> Any:
    return nbdl.tensor(np.random.default_rng(k).normal(size=shape))


# Each is written to from outside after every call.
FUNCTIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "the argument": lambda x, state, weight: x,
    "the argument, changed": lambda x, state, weight: x.mul_(2),
    "views of the argument": lambda x, state, weight: (x[1:], x.t(), x.reshape(-1)[::2]),
    "the argument beside what is computed": lambda x, state, weight: (x, x * 2, [x[0], x + 1]),
    "state": lambda x, state, weight: state.add_(x),
    "a view of state": lambda x, state, weight: (state.add_(x).t(), state[0]),
    "a constant": lambda x, state, weight: (nbdl.ones(3), nbdl.arange(4), nbdl.eye(2), x + 1),
    "a constant twice": lambda x, state, weight: (lambda c: (c, c[1:], c.view(2, 2)))(nbdl.ones(4)),
    "the data of a parameter": lambda x, state, weight: (weight.detach(), weight.data[1]),
}


def _flat(result: Any) -> list[Any]:
    return (
        [result] if isinstance(result, nbdl.Tensor) else [leaf for entry in result for leaf in _flat(entry)]
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_memory_is_shared_as_without_compile(name, backend):
    recorded: list[list[Any]] = []
    for transform in (lambda function: function, nbdl.compile):
        state, weight = _data(1, 3, 2), _data(2, 3, 2).requires_grad_()
        function = transform(lambda x, state=state, weight=weight: FUNCTIONS[name](x, state, weight))
        values = []
        for k in range(4):
            x = _data(k, 3, 2)
            result = _flat(function(x))
            values += [leaf.tolist() for leaf in result]
            for leaf in result:
                leaf.add_(1)
            values += [leaf.tolist() for leaf in (*result, x, state, weight)]
        recorded.append(values)
    assert recorded[0] == recorded[1]


def test_arguments_are_themselves(backend):
    compiled = nbdl.compile(lambda x, array, y: (y, [x, array], y.sum()))
    for k in range(3):
        x, y, array = _data(k, 3).requires_grad_(), _data(k, 3).requires_grad_() * 1, np.ones(k)
        first, (second, third), _ = compiled(x, array, y)
        assert first is y and second is x and third is array


def test_parameters_are_themselves(backend):
    weight = _data(0, 3).requires_grad_()

    @nbdl.compile
    def function(x):
        return weight, (weight * x).sum()

    for k in range(3):
        weight.grad = None
        x = _data(k, 3)
        found, value = function(x)
        assert found is weight
        (found.square().sum() + value).backward()
        np.testing.assert_allclose(weight.grad.numpy(), (2 * weight + x).numpy(force=True))


def test_views_that_need_gradients(backend):
    weight = _data(0, 3, 2).requires_grad_()
    compiled = nbdl.compile(lambda x: (weight.t(), x[1:], x))
    for k in range(3):
        for leaf in (True, False):
            weight.grad, x = None, _data(k, 3).requires_grad_()
            of_weight, part, whole = compiled(x if leaf else x * 1)
            (of_weight.square().sum() + part.square().sum() + whole.sum()).backward()
            np.testing.assert_allclose(weight.grad.numpy(), 2 * weight.numpy(force=True))
            np.testing.assert_allclose(
                x.grad.numpy(), 2 * x.numpy(force=True) * np.array([0, 1, 1]) + 1, rtol=1e-12
            )


def test_results_in_shared_memory_make_saved_values_stale(backend):
    state = _data(0, 3)
    for function in (lambda x: state[1:], lambda x: x[1:]):
        compiled = nbdl.compile(function)
        for _ in range(3):
            weight, x = _data(1, 3).requires_grad_(), _data(2, 3)
            loss = (weight * state).sum() + (weight * x).sum()
            compiled(x).add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()


@pytest.mark.parametrize("change", [lambda d: d["list"].append(1), lambda d: d.update(more=d["x"] * 2)])
def test_arguments_that_the_function_changes_are_refused(change):
    compiled = nbdl.compile(lambda nest: (change(nest), nest["x"] * 2)[1])
    with pytest.raises(RecordingError, match="changes a list, dict or data class that is an argument"):
        compiled({"x": _data(0, 3), "list": []})
