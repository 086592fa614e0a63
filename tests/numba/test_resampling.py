"""Sparse maps along an axis: the kernel against the specification, and both against matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbdl.backend import registry
from nbdl.backend.resampling import Taps
from nbdl.ops.resampling import Resample

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")


@st.composite
def maps(draw: st.DrawFn) -> tuple[Taps, np.ndarray]:
    """A map, some of whose elements have no terms, and its matrix."""
    length, count = draw(st.integers(1, 6)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    sizes = rng.integers(0, 4, count)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = rng.integers(0, length, starts[-1])
    weights = rng.choice([1.0, 1.0, -0.5, 2.0], starts[-1])
    matrix = np.zeros((count, length))
    np.add.at(matrix, (np.repeat(np.arange(count), sizes), places), weights)
    return Taps(starts, places, weights, length), matrix


@settings(max_examples=30)
@given(maps(), st.integers(0, 2), st.sampled_from(["float32", "float64"]), st.booleans())
def test_maps_are_matrices(example: tuple[Taps, np.ndarray], axis: int, dtype: str, contiguous: bool) -> None:
    taps, matrix = example
    shape = [2, 3, 2]
    shape[axis] = taps.length
    x = np.random.default_rng(0).standard_normal((*shape, 2)).astype(dtype)[..., 0]
    if contiguous:
        x = np.ascontiguousarray(x)
    for each, rows, operand in ((taps, matrix, x), (taps.transposed, matrix.T, None)):
        if operand is None:
            operand = np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis), dtype)
        expected = np.moveaxis(np.tensordot(rows, operand, (1, axis)), 0, axis)
        for backend in (SPECIFICATION, NUMBA):
            result = backend.execute(Resample.of(axis, each), [operand])
            assert result.dtype == dtype
            np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    assert taps.transposed.transposed is taps


def test_a_frame_is_one_run() -> None:
    places = np.array([1, 0, 1, 2, 3, 2])
    taps = Taps.of_rows(places[:, None], np.ones((6, 1)), 4)
    assert taps.run == (1, 5, 0)
    # Of the adjoint only the first and the last element have one term; others have two.
    start, stop, _ = taps.transposed.run
    assert stop - start == 1


def test_a_wrong_length_is_refused() -> None:
    taps = Taps.of_rows(np.zeros((2, 1), int), np.ones((2, 1)), 4)
    with pytest.raises(RuntimeError, match="axis 1 must have 4 elements"):
        NUMBA.execute(Resample.of(1, taps), [np.ones((2, 3))])
