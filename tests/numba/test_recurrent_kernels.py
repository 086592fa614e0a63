"""The kernels of recurrent networks against the NumPy backend: cells, layouts, sizes, dtypes, threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nbdl.backend.cells import CELLS
from nbdl.backend.numpy import NumpyBackend

numba_backend = pytest.importorskip("nbdl.backend.numba.backend")
from nbdl.backend.numba.launch import launch  # noqa: E402

SPECIFICATION = NumpyBackend()
SIZES = {"tiny": (1, 1, 1), "odd": (5, 11, 19), "whole panels": (2, 10, 64)}  # steps, sequences, units
TOLERANCE = {"float32": 2e-6, "float64": 4e-15}


def check(name, *arrays, **params):
    """The kernel agrees with the specification; that there is one is part of the test."""
    expected = getattr(SPECIFICATION, name)(*arrays, **params)
    plan = numba_backend.PLANNERS[name](arrays, None, **params)
    assert plan is not None, f"{name} is left to NumPy"
    results = plan.allocate()
    for result in results:
        result[...] = 99  # must be overwritten
    launch(plan.block, *arrays, *results)
    for got, wanted in zip(results, expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        steps = max(arrays[0].shape[:2])
        tolerance = TOLERANCE[wanted.dtype.name] * steps
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    return expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_forward_and_backward(name, size, dtype, thread_count):
    cell, (length, batch, n) = CELLS[name], SIZES[size]
    random, wide = np.random.default_rng(0), n * cell.blocks

    def normal(*shape, scale=0.5):
        return (scale * random.standard_normal(shape)).astype(dtype)

    weight, bias = normal(wide, n, scale=0.5 / n**0.5), normal(wide)
    sizes = np.sort(random.integers(1, batch + 1, length))[::-1].copy()
    sizes[0] = batch
    for batch_first, reverse, has_bias, ragged in itertools.product([False, True], repeat=4):
        leading = (batch, length) if batch_first else (length, batch)
        layout = {"cell": name, "batch_first": batch_first, "reverse": reverse}
        ends = [sizes] if ragged else []
        states = [normal(batch, n) for _ in range(cell.states)]
        operands = [normal(*leading, wide), *states, weight, *([bias] if has_bias else []), *ends]
        check("recurrent", *operands, **layout, has_bias=has_bias, keep=False)
        results = check("recurrent", *operands, **layout, has_bias=has_bias, keep=True)
        saved, *before = results[1 + cell.states :]
        memory = [] if cell.memory is None else [before[cell.memory]]
        gradients = [normal(*leading, n), *[normal(batch, n) for _ in states]]
        check("recurrent_input", *gradients, saved, *memory, weight, *ends, **layout)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", CELLS)
def test_non_finite_projections(name, value, thread_count):
    """They stay in their sequence, and are what the formula says."""
    cell, n = CELLS[name], 20
    random, wide = np.random.default_rng(0), 20 * CELLS[name].blocks
    x = random.standard_normal((3, 9, wide))
    x[1, 4, ::3] = value
    states = [random.standard_normal((9, n)) for _ in range(cell.states)]
    weight = random.standard_normal((wide, n)) / 10
    with np.errstate(all="ignore"):
        results = check(
            "recurrent", x, *states, weight, cell=name, batch_first=False, reverse=False, has_bias=False,
            keep=True,
        )  # fmt: skip
    assert np.isfinite(np.delete(results[0], 4, axis=1)).all()


def test_strided_operands_are_left_to_numpy():
    x, state, weight = np.zeros((3, 4, 16))[..., ::2], np.zeros((4, 2)), np.zeros((8, 2))
    plan = numba_backend.PLANNERS["recurrent"](
        (x, state, state, weight), None, cell="lstm", batch_first=False, reverse=False, has_bias=False,
        keep=True,
    )  # fmt: skip
    assert plan is None
