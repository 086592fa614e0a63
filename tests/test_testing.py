"""`nbdl.testing.assert_close` against PyTorch's: it passes and fails on the same pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

NAN = float("nan")
PAIRS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "equal": ([1.0, 2.0], [1.0, 2.0], {}),
    "near": ([1.0, 2.0], [1.0, 2.0 + 1e-6], {}),
    "far": ([1.0, 2.0], [1.0, 2.001], {}),
    "wide": ([1.0, 2.0], [1.0, 2.001], {"rtol": 1e-2, "atol": 0.0}),
    "integers": ([1, 2], [1, 3], {}),
    "nan": ([NAN], [NAN], {}),
    "equal nan": ([NAN], [NAN], {"equal_nan": True}),
    "infinity": ([float("inf")], [float("inf")], {}),
    "shape": ([1.0, 2.0], [[1.0, 2.0]], {}),
    "dtype": ([1.0], [1], {}),
    "any dtype": ([1.0], [1], {"check_dtype": False}),
    "empty": ([], [], {}),
    "scalar": (1.0, 1.0 + 1e-9, {}),
}


def outcome(lib: Any, actual: Any, expected: Any, options: dict[str, Any]) -> bool:
    try:
        lib.testing.assert_close(lib.tensor(actual), lib.tensor(expected), **options)
    except AssertionError:
        return False
    return True


@pytest.mark.torch
@pytest.mark.parametrize("name", PAIRS)
def test_passes_where_pytorch_does(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    actual, expected, options = PAIRS[name]
    assert outcome(nbdl, actual, expected, options) == outcome(torch, actual, expected, options)


def test_the_message_names_the_worst_element_and_its_place() -> None:
    with pytest.raises(AssertionError, match=r"at \['w'\]\[1\].*\n\n.* 1 / 3\n.*0.5 at index \(2,\)"):
        nbdl.testing.assert_close({"w": [nbdl.ones(1), nbdl.tensor([1.0, 2.0, 3.5])]},
                                  {"w": [nbdl.ones(1), nbdl.tensor([1.0, 2.0, 3.0])]})  # fmt: skip
    with pytest.raises(AssertionError, match="mine"):
        nbdl.testing.assert_close(nbdl.ones(1), nbdl.zeros(1), msg="mine")


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="rtol and atol go together"):
        nbdl.testing.assert_close(1.0, 1.0, rtol=1e-3)
    with pytest.raises(TypeError, match="cannot compare Tensor and ndarray"):
        nbdl.testing.assert_close(nbdl.ones(1), np.ones(1))
    with pytest.raises(AssertionError, match="keys"):
        nbdl.testing.assert_close({"a": 1}, {"b": 1})
    with pytest.raises(AssertionError, match="lengths"):
        nbdl.testing.assert_close([1.0], [1.0, 2.0])
