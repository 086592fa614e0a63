"""NumPy's keywords beside PyTorch's, wherever there is a dimension."""

from __future__ import annotations

import inspect
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
