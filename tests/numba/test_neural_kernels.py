"""The compiled kernels of neural networks against the NumPy backend: geometries, layouts, dtypes, threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from nbdl.backend.numpy import NumpyBackend
from nbdl.backend.windows import window_counts

numba_backend = pytest.importorskip("nbdl.backend.numba.backend")
from nbdl.backend.numba import threads  # noqa: E402
from nbdl.backend.numba.launch import launch  # noqa: E402

SPECIFICATION = NumpyBackend()


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


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    function.__name__: function for function in (row_major, channels_last, reversed_batch, window)
}
EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}


@pytest.fixture(params=[1, 2], ids=["serial", "two threads"])
def thread_count(request: pytest.FixtureRequest) -> Iterator[int]:
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return LAYOUTS[request.param]


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


# ---- Softmax and cross-entropy ----

CLASSES = {
    "vector": (7,),
    "few": (33, 10),
    "one": (20, 1),
    "many": (5, 1000),
    "image": (2, 5, 4, 4),
    "deep image": (2, 70, 3, 3),
    "volume": (2, 3, 4, 5, 2),
    "large": (1500, 10),
}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("case", CLASSES)
def test_softmax(case, axis, dtype, layout, thread_count):
    shape = CLASSES[case]
    if len(shape) == 1 and axis == 1:
        pytest.skip("a vector has one axis")
    axis %= len(shape)
    x, g = layout(normal(shape, dtype) * 5), layout(normal(shape, dtype, seed=1))
    for name in ("softmax", "log_softmax"):
        check(name, x, axis=axis, terms=shape[axis])
        y = layout(getattr(SPECIFICATION, name)(x, axis=axis))
        check(f"{name}_input", y, g, axis=axis, terms=shape[axis] * 4)


@pytest.mark.parametrize("shape", [(20, 10), (20, 100)])
def test_softmax_of_extreme_values(shape, dtype, layout):
    x = normal(shape, dtype)
    x[1, 3], x[2, 4], x[3, 5], x[4], x[5, 6] = np.nan, np.inf, -np.inf, -np.inf, 1e30
    check("softmax", layout(x), axis=1)
    check("log_softmax", layout(x), axis=1)


@pytest.mark.parametrize("case", [case for case, shape in CLASSES.items() if len(shape) > 1])
def test_cross_entropy(case, dtype, layout, thread_count):
    shape = CLASSES[case]
    logits = layout(normal(shape, dtype) * 5)
    classes = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    classes.flat[::7] = -100
    check("cross_entropy", logits, classes, ignore_index=-100, terms=shape[1])
    _, probabilities = SPECIFICATION.cross_entropy(logits, classes, ignore_index=-100)
    g = normal(classes.shape, dtype, seed=2)
    check("cross_entropy_input", layout(probabilities), classes, g, ignore_index=-100)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 3), (7, 100), (3, 4, 5), (2, 5, 3, 4), (900, 700)], ids=str)
def test_losses_over_classes(shape, mean, dtype, thread_count):
    scores = normal(shape, dtype) * 5
    classes = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    classes.flat[::7] = 2
    options = {"ignore_index": 2, "mean": mean}
    check("cross_entropy_loss", scores, classes, terms=shape[1], **options)
    _, probabilities, _, share = SPECIFICATION.cross_entropy_loss(scores, classes, **options)
    g = np.asarray(dtype.type(1.7))
    check("cross_entropy_loss_input", probabilities, classes, g, share, ignore_index=2)
    check("nll_loss", scores, classes, terms=classes.size, **options)
    check("nll_loss_input", g, classes, share, ignore_index=2, shape=shape)


@pytest.mark.parametrize("batch", [(7,), (2, 5), (3, 1, 4)], ids=str)
@pytest.mark.parametrize("needs", [3, 5, 6, 7])
def test_gradients_of_a_linear_layer(batch, needs, dtype, thread_count):
    operands = [normal((*batch, 6), dtype)]
    if needs & 1:
        operands.append(normal((6, 4), dtype, seed=1))
    if needs & 2:
        operands.append(normal((*batch, 4), dtype, seed=2))
    check("linear_gradients", *operands, needs=needs)


@pytest.mark.parametrize(("shape", "axis"), [((4, 6), 1), ((2, 6, 5), 1), ((8,), 0), ((900, 60), 0)], ids=str)
def test_gated_linear_unit(shape, axis, dtype, thread_count):
    x = normal(shape, dtype) * 4
    check("glu", x, axis=axis)
    check("glu_input", SPECIFICATION.glu(x, axis=axis), x, axis=axis)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("shape", [(4, 3), (7, 20), (3000, 60)], ids=str)
def test_margin_losses(shape, mean, dtype, thread_count):
    rng, scores, g = np.random.default_rng(1), normal(shape, dtype), np.asarray(dtype.type(1.7))
    classes = rng.integers(0, shape[1], shape[:1])
    for p in (1, 2):
        options = {"p": p, "margin": 0.7, "mean": mean}
        check("multi_margin_loss", scores, classes, terms=scores.size, **options)
        check("multi_margin_loss_input", g, scores, classes, terms=shape[1], **options)
    several = rng.integers(0, shape[1], shape)
    several[:, 2:] = -1
    several[0] = -1
    check("multilabel_margin_loss", scores, several, terms=scores.size, mean=mean)
    check("multilabel_margin_loss_input", g, scores, several, terms=shape[1], mean=mean)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("shape", [(1, 1, 3, 1), (9, 3, 5, 4), (90, 40, 30, 20)], ids=str)
def test_alignments(shape, mean, dtype, thread_count):
    (steps, batch, classes, most), rng = shape, np.random.default_rng(1)
    labels = rng.integers(1, classes, (batch, most))
    labels[:, 1:2] = labels[:, :1]  # equal neighbours need a blank between them
    counts, lengths = rng.integers(0, most + 1, batch), rng.integers(0, steps + 1, batch)
    lengths[0] = steps
    for order in (2, 1):  # the log-probabilities of the steps, or of the samples, lie together
        x = normal((steps, batch, classes), dtype) if order == 2 else normal((batch, steps, classes), dtype)
        x = (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(dtype)
        operands = (x if order == 2 else x.swapaxes(0, 1), labels, lengths, counts)
        for zero_infinity in (True, False):
            options = {"blank": 0, "mean": mean, "zero_infinity": zero_infinity}
            check("ctc_loss", *operands, terms=steps * batch, **options)
            # What rounding makes of a logarithm grows with its size, and so with the steps.
            check("ctc_loss_input", *operands, normal((batch,), dtype), terms=100 * steps**2, **options)
            check("ctc_loss_input", *operands, normal((), dtype), terms=100 * steps**2, **options)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize(("count", "columns"), [(1, 3), (30, 16), (4000, 70)], ids=str)
@pytest.mark.parametrize("bags", ["of one length", "of one", "of starts"])
def test_bags(bags, count, columns, mean, dtype, thread_count):
    """Indices count from both ends; row 2 does not count; bags may be empty."""
    rng = np.random.default_rng(3)
    table = normal((9, columns), dtype)
    shape = {"of one length": (count, 3), "of one": (count,), "of starts": (3 * count,)}[bags]
    indices, starts = rng.integers(-9, 9, shape), ()
    if bags == "of starts":
        starts = (np.sort(np.append(rng.integers(0, 3 * count, count), 0)),)
    options = {"mean": mean, "padding": 2}
    check("embedding_bag", table, indices, *starts, terms=count, **options)
    g = normal((len(starts[0]) if starts else count, columns), dtype, seed=1)
    check("embedding_bag_input", g, indices, *starts, rows=9, terms=count, **options)


def test_a_class_that_does_not_exist_has_no_loss(dtype):
    losses, _ = run("cross_entropy", np.zeros((3, 4), dtype), np.array([1, 4, -1]), ignore_index=-100)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True])


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


# ---- Normalisation ----

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


# ---- Copies ----


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
