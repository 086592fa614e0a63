"""NumPy's keywords beside PyTorch's, wherever there is a dimension."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F

MODULES = (nbdl, nbdl.linalg, nbdl.fft, nbdl.special, F, nbdl.Tensor)
TORCH_ONLY = {"size", "stride"}  # questions about one axis, which are attributes in NumPy


def functions(parameter: str) -> list[tuple[str, Any]]:
    found = []
    for module in MODULES:
        for name, function in vars(module).items():
            if inspect.isfunction(function) and not name.startswith("_") and name not in TORCH_ONLY:
                code = inspect.unwrap(function).__code__
                if parameter in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
                    found.append((f"{module.__name__}.{name}", function))
    return found


@pytest.mark.parametrize(("parameter", "alias"), [("dim", "axis"), ("dims", "axis"), ("keepdim", "keepdims")])
def test_every_function_takes_the_other_name(parameter: str, alias: str) -> None:
    """A call with the alias alone may lack arguments, but the alias is never the unexpected one."""
    candidates = functions(parameter)
    assert candidates
    for name, function in candidates:
        with pytest.raises(Exception) as raised:
            function(object(), **{alias: object()})
        assert f"unexpected keyword argument '{alias}'" not in str(raised.value), name


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("softmax", {"axis": 1}),
        ("median", {"axis": 1, "keepdims": True}),
        ("unsqueeze", {"axis": 0}),
        ("diff", {"axis": 1}),
        ("aminmax", {"axis": 1, "keepdims": True}),
        ("logsumexp", {"axis": 1, "keepdims": True}),
        ("roll", {"shifts": 1, "axis": 1}),
    ],
)
def test_the_alias_means_the_same(name: str, keywords: dict[str, Any], backend: str) -> None:
    torch_names = {"axis": "dims" if name == "roll" else "dim", "keepdims": "keepdim"}
    x = nbdl.tensor(np.random.default_rng(0).normal(size=(3, 4)))
    found = getattr(nbdl, name)(x, **keywords)
    expected = getattr(nbdl, name)(x, **{torch_names.get(key, key): value for key, value in keywords.items()})
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for a, b in pairs:
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(TypeError, match="softmax: dim and axis are one argument, both were given"):
        nbdl.softmax(nbdl.ones(2), dim=0, axis=0)


NO_TENSOR: dict[str, tuple[Callable[[], Any], str]] = {
    "function": (
        lambda: nbdl.matmul(nbdl.ones(2, 2), np.ones((2, 2))),
        "matmul.*'other' .position 2.*ndarray",
    ),
    "keyword": (lambda: nbdl.gather(nbdl.ones(2), 0, index=[0]), "gather.*'index' .position 3.*not list"),
    "method": (lambda: nbdl.ones(2, 2).matmul(np.ones((2, 2))), "matmul.*'other' .position 2.*ndarray"),
    "layer": (lambda: nbdl.nn.Linear(3, 4)(np.ones((2, 3))), "linear.*'input' .position 1.*ndarray"),
    "linalg": (lambda: nbdl.linalg.solve(nbdl.eye(2), 1.0), "solve.*'B' .position 2.*not float"),
    "sequence": (
        lambda: nbdl.column_stack([nbdl.ones(2), 1.0]),
        "column_stack: expected a tensor as element 1",
    ),
}


@pytest.mark.parametrize("name", NO_TENSOR)
def test_something_else_than_a_tensor_is_named(name: str) -> None:
    call, message = NO_TENSOR[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_other_errors_of_a_call_stay_what_they_are() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        nbdl.gather(nbdl.ones(2), 0, nbdl.zeros(1, dtype=nbdl.int64), width=3)
    with pytest.raises(RuntimeError, match="matmul: shapes"):
        nbdl.matmul(nbdl.ones(2, 3), nbdl.ones(2, 3))
