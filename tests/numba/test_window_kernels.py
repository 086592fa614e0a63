"""The kernels of convolution, pooling and unfolding against the NumPy backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernel_checks import SPECIFICATION, channels_last, check, normal, numba_backend, row_major, run

from nbdl.backend.numba.launch import launch
from nbdl.backend.windows import window_counts

# ---- Convolution ----

# batch, channels, size, filters, kernel, stride, padding, dilation, groups
CONVOLUTIONS = {
    "plain": (2, 5, (9, 8), 7, (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "one channel": (3, 1, (12, 12), 33, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "whole panels": (2, 16, (20, 17), 64, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "volume of several pieces": (1, 16, (11, 18, 19), 5, (3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 1),
    "strided": (2, 16, (9, 10), 24, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "stride beyond kernel": (1, 16, (8, 8), 10, (1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "one by one": (2, 16, (8, 8), 40, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "all different": (2, 8, (11, 13), 12, (3, 2), (3, 2), ((2, 1), (0, 1)), (2, 3), 2),
    "common divisor": (1, 3, (15, 15), 4, (4, 3), (4, 2), ((2, 2), (4, 1)), (2, 4), 1),
    "depthwise": (2, 6, (7, 9), 12, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
    "one filter a channel": (2, 37, (7, 9), 37, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 37),
    "one filter a channel, all different": (
        1,
        20,
        (11, 13),
        20,
        (3, 2),
        (3, 2),
        ((2, 1), (0, 1)),
        (2, 3),
        20,
    ),
    "one filter a channel, wide": (3, 530, (4, 3), 530, (2, 2), (1, 1), ((0, 1), (1, 0)), (1, 1), 530),
    "one filter a channel, line": (2, 16, (300,), 16, (4,), (2,), ((5, 5),), (1,), 16),
    "one filter a channel, volume": (2, 5, (3, 4, 5), 5, (2, 3, 2), (1, 2, 1), ((1, 1),) * 3, (1, 1, 1), 5),
    "padding beyond kernel": (1, 2, (4, 4), 3, (2, 2), (1, 1), ((3, 4), (2, 5)), (1, 1), 1),
    "line": (3, 4, (50,), 6, (3,), (2,), ((2, 0),), (2,), 2),
    "long line": (1, 8, (9000,), 16, (5,), (1,), ((2, 2),), (1,), 1),
    "volume": (2, 3, (5, 6, 7), 5, (2, 3, 2), (1, 2, 1), ((1, 1), (0, 1), (1, 0)), (1, 1, 2), 1),
    "strided volume": (1, 4, (5, 6, 7), 4, (3, 3, 3), (2, 2, 2), ((1, 1), (1, 1), (1, 1)), (1, 1, 1), 2),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_and_its_transposes(case, dtype, layout, thread_count):
    batch, channels, size, filters, kernel, stride, padding, dilation, groups = CONVOLUTIONS[case]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    counts = window_counts(size, kernel, stride, padding, dilation)
    x = layout(normal((batch, channels, *size), dtype))
    weight = normal((filters, channels // groups, *kernel), dtype, seed=1)
    y = layout(normal((batch, filters, *counts), dtype, seed=2))
    taps = float(np.prod(kernel))
    check("convolution", x, weight, terms=channels * taps, **geometry)
    check("convolution", x, weight, normal((filters,), dtype, seed=3), terms=channels * taps, **geometry)
    check("convolution_input", y, weight, size=size, terms=filters * taps, **geometry)
    check("convolution_weight", x, y, kernel=kernel, terms=batch * float(np.prod(counts)), **geometry)


@pytest.mark.parametrize("channels", [3, 21])
def test_depthwise_weight_of_different_layouts(channels, dtype):
    x, y = normal((2, channels, 9, 21), dtype), normal((2, channels, 5, 11), dtype, seed=1)
    geometry = {"stride": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": channels}
    check("convolution_weight", channels_last(x), y, kernel=(3, 3), terms=110, **geometry)
    check("convolution_weight", x, channels_last(y), kernel=(3, 3), terms=110, **geometry)


@pytest.mark.parametrize("layout", [row_major, channels_last])
def test_depthwise_results_lie_in_memory_as_their_input(layout, dtype):
    x, weight = layout(normal((2, 32, 8, 8), dtype)), normal((32, 1, 3, 3), dtype, seed=1)
    geometry = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 32}
    (y,) = run("convolution", x, weight, **geometry)
    (gradient,) = run("convolution_input", y, weight, size=(8, 8), **geometry)
    assert x.strides == y.strides == gradient.strides


@pytest.mark.parametrize("layout", [row_major, channels_last])
def test_depthwise_gradient_of_nonfinite_values(layout, dtype):
    """Lanes beyond the end of a line or of the channels meet nothing."""
    x, y = normal((1, 20, 5, 7), dtype), normal((1, 20, 5, 7), dtype, seed=1)
    x[0, 3, 2, 6] = np.nan
    geometry = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 20}
    y = y[:, :, :3, :5]
    expected = SPECIFICATION.convolution_weight(x, y, kernel=(3, 3), **geometry)
    (got,) = run("convolution_weight", layout(x), layout(y), kernel=(3, 3), **geometry)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


def test_convolution_takes_any_weight(dtype):
    geometry = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    x, weight = normal((2, 6, 8, 8), dtype), normal((3, 3, 6, 40), dtype, seed=1).transpose(3, 2, 0, 1)
    check("convolution", x, weight, **geometry)
    check(
        "convolution_input", normal((2, 40, 8, 8), dtype), weight[:, ::-1], size=(8, 8), terms=400, **geometry
    )


def test_convolution_of_nonfinite_values(dtype):
    geometry = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    x, weight = normal((1, 3, 9, 9), dtype), normal((5, 3, 3, 3), dtype, seed=1)
    x[0, 0, 4, 4], x[0, 1, 0, 0] = np.nan, np.inf
    expected = SPECIFICATION.convolution(x, weight, **geometry)
    (got,) = run("convolution", x, weight, **geometry)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))


def test_convolution_writes_into_given_outputs(dtype):
    geometry = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    x, weight = normal((2, 3, 9, 9), dtype), normal((5, 3, 3, 3), dtype, seed=1)
    for target in (
        channels_last(np.zeros((2, 5, 7, 7), dtype)),
        channels_last(np.zeros((4, 5, 7, 7), dtype))[::2],
    ):
        plan = numba_backend.PLANNERS["convolution"]((x, weight), (target,), **geometry)
        launch(plan.block, x, weight, target)
        expected = SPECIFICATION.convolution(x, weight, **geometry)
        np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)
    apart = np.zeros((2, 5, 7, 7), dtype)
    assert numba_backend.PLANNERS["convolution"]((x, weight), (apart,), **geometry) is None


# ---- Pooling ----

# shape, kernel, stride, padding, dilation, ceil_mode
POOLINGS = {
    "halves": ((2, 40, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False),
    "overlapping": ((2, 5, 8, 9), (3, 3), (2, 2), (1, 1), (1, 1), False),
    "over the end": ((1, 16, 10, 10), (3, 3), (3, 3), (1, 1), (1, 1), True),
    "dilated": ((1, 17, 9, 9), (3, 2), (1, 1), (1, 0), (2, 1), False),
    "one channel": ((3, 1, 8, 9), (3, 3), (2, 2), (1, 1), (1, 1), True),
    "everywhere": ((2, 17, 7, 20), (4, 1), (1, 1), (2, 0), (1, 1), False),
    "everywhere in a line": ((2, 3, 6), (6,), (1,), (3,), (1,), True),
    "line": ((2, 16, 17), (4,), (3,), (2,), (2,), False),
    "volume": ((1, 8, 5, 6, 7), (2, 3, 2), (1, 2, 2), (1, 1, 0), (1, 1, 2), False),
    "large": ((4, 32, 32, 32), (2, 2), (2, 2), (0, 0), (1, 1), False),
}


@pytest.mark.parametrize("case", POOLINGS)
def test_pooling(case, dtype, layout, thread_count):
    shape, kernel, stride, padding, dilation, ceil_mode = POOLINGS[case]
    size = shape[2:]
    counts = window_counts(size, kernel, stride, tuple((pad, pad) for pad in padding), dilation, ceil_mode)
    geometry = {"kernel": kernel, "stride": stride, "padding": padding, "counts": counts}
    x = np.round(normal(shape, dtype) * 2)  # with ties
    x[np.random.default_rng(1).random(shape) < 0.05] = np.nan
    x[np.random.default_rng(2).random(shape) < 0.2] = -np.inf
    x = layout(x)
    check("max_pool", x, dilation=dilation, **geometry)
    _, positions = SPECIFICATION.max_pool(x, dilation=dilation, **geometry)
    y = layout(normal(positions.shape, dtype, seed=3))
    for order in (row_major, layout):
        check("window_scatter", y, order(positions), size=size, terms=9)
    if set(dilation) == {1}:
        finite = layout(normal(shape, dtype, seed=4))
        for include, divisor in ((True, None), (False, None), (True, 7)):
            options = {"count_include_pad": include, "divisor": divisor}
            check("avg_pool", finite, **geometry, **options)
            check("avg_pool_input", y, size=size, **geometry, **options)


# size, kernel, stride, padding: windows whose lines are runs, fitting into what is reduced at once or not
WIDE = {
    "line": ((40,), (12,), (9,), (3,)),
    "plane": ((20, 37), (5, 11), (4, 13), (2, 5)),
    "volume": ((6, 7, 30), (3, 4, 10), (3, 3, 10), (0, 0, 0)),
    "long": ((2, 1300), (2, 600), (2, 650), (0, 0)),
    "blocks": ((8, 24), (4, 12), (4, 12), (0, 0)),
}


@pytest.mark.parametrize("case", WIDE)
def test_wide_windows(case, dtype, layout, thread_count):
    size, kernel, stride, padding = WIDE[case]
    pairs, dilation = tuple((p, p) for p in padding), (1,) * len(size)
    counts = window_counts(size, kernel, stride, pairs, dilation)
    geometry = {"kernel": kernel, "stride": stride, "padding": padding, "counts": counts}
    x = normal((2, 3, *size), dtype)
    means = {"count_include_pad": True, "divisor": None}
    check("avg_pool", layout(x), **geometry, **means, terms=math.prod(kernel))
    y = layout(normal((2, 3, *counts), dtype, seed=1))
    check("avg_pool_input", y, size=size, **geometry, **means)
    for special in (0.0, 0.02):
        x[np.random.default_rng(1).random(x.shape) < special] = np.nan
        x[np.random.default_rng(2).random(x.shape) < special] = np.inf
        check("max_pool", layout(np.round(x)), dilation=dilation, **geometry)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ((17,), (3,)),
        ((700,), (1,)),
        ((9, 20), (4, 3)),
        ((5, 6, 9), (2, 3, 2)),
        ((3, 600), (1, 1)),
        ((2,), (5,)),
    ],
)
@pytest.mark.parametrize("order", [row_major, channels_last])
def test_adaptive_maxima(size, counts, order, dtype, thread_count):
    x = np.round(normal((2, 3, *size), dtype) * 2)
    x[np.random.default_rng(1).random(x.shape) < 0.05] = np.nan
    x[np.random.default_rng(2).random(x.shape) < 0.3] = -np.inf
    check("adaptive_max_pool", order(x), counts=counts)


@pytest.mark.parametrize(
    ("size", "kernel", "counts"),
    [
        ((9,), (2,), (4,)),
        ((9, 11), (2, 3), (5, 6)),
        ((3, 900), (1, 2), (1, 700)),
        ((6, 7, 8), (2, 2, 2), (3, 1, 4)),
    ],
)
def test_windows_at_random_places(size, kernel, counts, dtype, thread_count):
    x, u = normal((2, 3, *size), dtype), np.random.default_rng(1).random((2, 3, len(size))).astype(dtype)
    x[np.random.default_rng(2).random(x.shape) < 0.1] = np.nan
    check("fractional_max_pool", x, u, kernel=kernel, counts=counts)


@pytest.mark.parametrize("size", [(30,), (5, 6), (2, 3, 5)], ids=str)
def test_elements_at_positions(size, dtype, thread_count):
    x, places = (
        normal((4, 700, *size), dtype),
        np.random.default_rng(1).integers(0, 30, (4, 700, *size[:-1], 3)),
    )
    check("window_gather", x, places)
    check("window_put", normal(places.shape, dtype), places, size=size)


def test_windows_without_elements_are_left_to_numpy():
    geometry = {"kernel": (2,), "stride": (1,), "padding": (1,), "dilation": (2,), "counts": (1,)}
    assert numba_backend.PLANNERS["max_pool"]((np.zeros((1, 1, 1), np.float32),), None, **geometry) is None


# ---- Windows as columns ----

WINDOWS = {  # size, kernel, stride, padding, dilation
    "plain": ((9, 8), (3, 2), (1, 1), (0, 0), (1, 1)),
    "padded": ((5, 6), (3, 3), (1, 1), (2, 1), (1, 1)),
    "strided": ((11, 9), (2, 3), (3, 2), (1, 0), (1, 1)),
    "dilated": ((10, 12), (2, 3), (2, 1), (1, 2), (3, 2)),
    "more padding than image": ((2, 2), (4, 3), (2, 3), (3, 3), (1, 1)),
    "large": ((90, 80), (3, 3), (1, 1), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_as_columns(case, dtype, thread_count):
    size, kernel, stride, padding, dilation = WINDOWS[case]
    counts = tuple(
        (n + 2 * pad - gap * (k - 1) - 1) // step + 1
        for n, k, step, pad, gap in zip(size, kernel, stride, padding, dilation)
    )
    options = {"size": size, "kernel": kernel, "stride": stride, "padding": padding}
    options |= {"dilation": dilation, "counts": counts}
    x = normal((2, 3, *size), dtype)
    check("columns_of_windows", x, **options)
    columns = normal(SPECIFICATION.columns_of_windows(x, **options).shape, dtype, seed=1)
    check("windows_of_columns", columns, terms=20, **options)
