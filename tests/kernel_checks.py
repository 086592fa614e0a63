"""What tests of compiled kernels share: layouts of operands, and the comparison with the specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nbdl.backend.numpy import NumpyBackend

numba_backend = pytest.importorskip("nbdl.backend.numba.backend")
from nbdl.backend.numba.launch import launch  # noqa: E402

SPECIFICATION = NumpyBackend()
EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}


def row_major(x):
    return np.ascontiguousarray(x)


def channels_last(x):
    if x.ndim < 3:
        return row_major(x)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def reversed_batch(x):
    return np.ascontiguousarray(x[::-1])[::-1]


def window(x):
    """Every second element of a larger array."""
    larger = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    larger[..., ::2] = x
    return larger[..., ::2]


def normal(shape: Sequence[int], dtype: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(name: str, *arrays: Any, **params: Any) -> tuple[Any, ...]:
    """What the kernel computes; that there is one is part of the test."""
    plan = numba_backend.PLANNERS[name](arrays, None, **params)
    assert plan is not None, f"{name} is left to NumPy"
    results = plan.allocate()
    results = results if isinstance(results, tuple) else (results,)
    for result in results:
        result[...] = 99  # must be overwritten
    launch(plan.block, *arrays, *results)
    return results


def check(name: str, *arrays: Any, terms: float = 10, **params: Any) -> None:
    """The kernel agrees with the specification up to the rounding of sums of so many terms."""
    expected = getattr(SPECIFICATION, name)(*arrays, **params)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for got, wanted in zip(run(name, *arrays, **params), expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
        tolerance = 8 * EPSILON.get(wanted.dtype.name, 0) * terms**0.5
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * largest)
