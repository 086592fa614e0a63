"""The kernels that copy and rearrange against the NumPy backend."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_checks import check, normal, numba_backend

from nbdl.backend.numba import threads
from nbdl.backend.numba.launch import launch
from nbdl.formula import Formula

COPY = Formula("copy", lambda x: x, 1)
MULTIPLY = Formula("multiply", lambda x, y: x * y, 2)


def pointwise(formula, *operands):
    plan = numba_backend.PLANNERS["pointwise"](operands, None, formula=formula, weak=0)
    result = plan.allocate()
    launch(plan.block, *operands, result)
    return result


@pytest.mark.parametrize("order", [(0, 1, 4, 2, 5, 3), (0, 2, 1, 3, 4, 5), (5, 4, 3, 2, 1, 0)], ids=str)
def test_rearranging(order, dtype, layout, thread_count):
    x = layout(normal((2, 12, 40, 50), dtype))
    shape = (2 * 12, 40 * 50)
    check("rearrange", x, split=(2, 3, 2, 2, 40, 50), axes=order, shape=shape)


PERMUTATIONS = [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 1, 3), (3, 2, 1, 0), (1, 0, 3, 2)]


@pytest.mark.parametrize("permutation", PERMUTATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int16", "bool"])
def test_copies(permutation, dtype, thread_count):
    data = (normal((4, 33, 12, 64), float) * 100).astype(dtype)
    for x in (
        data.transpose(permutation),
        data.transpose(permutation)[:, ::-1],
        data.transpose(permutation)[..., 1::2],
    ):
        for order in ("C", "K"):
            plan = numba_backend.PLANNERS["copy"]((x,), None, order=order)
            if plan is None:
                assert x.itemsize < 4
                continue
            result = plan.allocate()
            launch(plan.block, x, result)
            np.testing.assert_array_equal(result, x)
            assert result.strides == x.copy(order).strides


# Odd lengths, one that two and one that three threads divide
@pytest.mark.parametrize("n", [1, 17, 31, 100, 1000, 600_001])
@pytest.mark.parametrize("step", [-1, -3, 2])
def test_vectors_that_are_not_contiguous(n, step, dtype):
    x, y = (normal((abs(step) * n,), dtype, seed)[::step][:n] for seed in range(2))
    before = threads.get_num_threads()
    try:
        for count in (1, 2, 3, 5):
            threads.set_num_threads(count)
            np.testing.assert_array_equal(pointwise(COPY, x), x)
            np.testing.assert_array_equal(pointwise(MULTIPLY, x, y[::-1]), x * y[::-1])
            target = x.copy()[::-1]  # written from its last element to the first
            plan = numba_backend.PLANNERS["pointwise"]((target, y), (target,), formula=MULTIPLY, weak=0)
            assert plan.rows == n
            expected = target * y
            launch(plan.block, target, y, target)
            np.testing.assert_array_equal(target, expected)
    finally:
        threads.set_num_threads(before)


def test_reversed_rows(dtype):
    x = normal((5, 17, 31), dtype)
    for steps in itertools.product((1, -1), repeat=3):
        flipped = x[tuple([slice(None, None, step) for step in steps])]
        np.testing.assert_array_equal(pointwise(COPY, flipped), flipped)
        np.testing.assert_array_equal(pointwise(MULTIPLY, flipped, x), flipped * x)
        np.testing.assert_array_equal(pointwise(MULTIPLY, x, flipped[:, :1]), x * flipped[:, :1])
