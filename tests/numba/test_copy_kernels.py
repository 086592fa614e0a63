"""The kernels that copy and rearrange against the NumPy backend."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks import check, normal, numba_backend

from nbdl.backend.numba.launch import launch


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
