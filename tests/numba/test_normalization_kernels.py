"""The kernels of normalisation against the NumPy backend: groups, layouts, extreme and non-finite values."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_checks import EPSILON, SPECIFICATION, channels_last, check, normal, numba_backend, row_major, run

NORMALIZATIONS = {
    "batch": ((4, 6, 5, 7), (0, 2, 3)),
    "large batch": ((16, 32, 12, 12), (0, 2, 3)),
    "columns": ((40, 30), (0,)),
    "one image": ((1, 8, 3, 3), (0, 2, 3)),
    "layer": ((60, 33), (1,)),
    "large layer": ((300, 200), (1,)),
    "last two axes": ((3, 4, 50), (1, 2)),
    "instance": ((2, 3, 4, 5), (2, 3)),
    "everything": ((7,), (0,)),
}


@pytest.mark.parametrize("centred", [True, False], ids=["centred", "rms"])
@pytest.mark.parametrize("case", NORMALIZATIONS)
def test_normalization(case, centred, dtype, thread_count):
    shape, axes = NORMALIZATIONS[case]
    by_mean = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    along = tuple(n if axis in axes else 1 for axis, n in enumerate(shape))
    affine_shape = along if axes[0] > 0 and case != "instance" else by_mean
    planned = 0
    for order in (row_major, channels_last):
        x, g = order(normal(shape, dtype) * 3 + 5), order(normal(shape, dtype, seed=1))
        for count in (0, 1, 2):
            affine = [normal(affine_shape, dtype, seed=2 + k) for k in range(count)]
            options = {"axes": axes, "eps": 1e-5, "centred": centred, "has_weight": count > 0}
            statistics = SPECIFICATION.normalize(x, *affine, **options)[1:]
            operands = [g, x, *affine[:1], *statistics]
            if numba_backend.PLANNERS["normalize"]([x, *affine], None, **options) is not None:
                check("normalize", x, *affine, terms=x.size, **options)
                planned += 1
            if numba_backend.PLANNERS["normalize_input"](operands, None, **options) is not None:
                check("normalize_input", *operands, terms=16 * x.size, **options)
                planned += 1
    assert planned >= 6 or (case == "columns" and not centred)


@pytest.mark.parametrize("groups", [0, 1, 2, 6], ids="groups{}".format)
@pytest.mark.parametrize("shape", [(5, 6, 4, 3), (5, 6, 200), (7, 12), (16, 6, 60, 60)], ids=str)
def test_normalization_with_vectors_by_channel(shape, groups, dtype, thread_count):
    """The whole batch, or groups of channels; weight and bias are vectors along axis 1."""
    x, g = normal(shape, dtype) * 3 + 5, normal(shape, dtype, seed=1)
    axes = () if groups else (0, *range(2, len(shape)))
    for count in (0, 1, 2):
        affine = [normal(shape[1:2], dtype, seed=2 + k) for k in range(count)]
        options = {"axes": axes, "eps": 1e-5, "centred": True, "has_weight": count > 0}
        options |= {"by_channel": True, "groups": groups}
        statistics = SPECIFICATION.normalize(x, *affine, **options)[1:]
        operands = [g, x, *affine[:1], *statistics]
        assert numba_backend.PLANNERS["normalize"]([x, *affine], None, **options) is not None
        assert numba_backend.PLANNERS["normalize_input"](operands, None, **options) is not None
        check("normalize", x, *affine, terms=x.size, **options)
        check("normalize_input", *operands, terms=16 * x.size, **options)


def test_batch_norm_of_values_far_from_zero(dtype):
    options = {"axes": (0,), "eps": 0.0, "centred": True, "has_weight": False}
    x = normal((500, 32), dtype) + dtype.type(1e4)
    y, mean, variance = run("normalize", x, **options)
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(mean[0], exact.mean(0).astype(float), rtol=2 * EPSILON[dtype.name])
    np.testing.assert_allclose(variance[0], exact.var(0).astype(float), rtol=100 * EPSILON[dtype.name])
    assert np.abs(y.mean(0)).max() < 1e-3


def test_normalization_of_nonfinite_values(dtype):
    x = normal((6, 5, 8), dtype)
    x[0, 1, 2], x[1, 2, 3] = np.nan, np.inf
    for order in (row_major, channels_last):
        y, *_ = run("normalize", order(x), axes=(0, 2), eps=1e-5, centred=True, has_weight=False)
        np.testing.assert_array_equal(np.isnan(y).any((0, 2)), [False, True, True, False, False])
