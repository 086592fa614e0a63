"""Pooling of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.pooling`.

Results have the layout of the operand, channels-last or row-major, so that a chain of image operations
stays in one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import Image, fresh_image, has_neighbours, image_of, is_plain, three_axes
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.stages import block_words
from nbdl.backend.numpy import NumpyBackend
from nbdl.backend.windows import Sizes
from nbdl.kernels.cpu import pooling as cpu
from nbdl.kernels.cpu import pooling_input

__all__ = [
    "plan_adaptive_max_pool",
    "plan_avg_pool",
    "plan_avg_pool_input",
    "plan_max_pool",
    "plan_window_scatter",
]

Array = NDArray[Any]
Words = dict[int, int]

_CHUNK = 16  # channels of a row where images are divided: one cache line
_WIDE = 8  # distance of windows from which runs of their elements are reduced at once


# ---- Planners ----


def plan_max_pool(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    counts: Sizes,
) -> Plan | None:
    """Plans the maxima of (x,), or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None or not _is_supported(inputs):
        return None
    tables = _tap_tables(x.shape[2:], kernel, stride, padding, dilation, counts)
    if not _all_windows_meet_elements(tables):
        return None
    lanes = _lane_table(x.shape[-1], kernel[-1], stride[-1], padding[-1], dilation[-1], counts[-1])
    words = _window_words(x.shape[2:], dilation, counts, tables) | _lane_words(lanes, stride[-1])
    way = _way(x, tables, _has_runs(x, kernel, stride, dilation))
    work = 2.0 * math.prod((*x.shape[:2], *counts, *kernel))
    dtypes = (x.dtype, np.dtype(np.int64))
    return _plan_lines(
        "max_pool", cpu.make_max_pool, way, x, counts, dtypes, words, work, keep=(tables, lanes)
    )


def plan_adaptive_max_pool(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, counts: Sizes
) -> Plan | None:
    """Plans the maxima of (x,) over even windows, or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None or 0 in counts or not _is_supported(inputs):
        return None
    if not has_neighbours(x) and (x.shape[1] == 1 or not image_of(x).has_adjacent_channels):
        return None
    tables = [
        np.array(
            [(i * n // count, -(-(i + 1) * n // count) - i * n // count) for i in range(count)], np.int64
        )
        for n, count in zip(three_axes(x.shape[2:], 1), three_axes(counts, 1), strict=True)
    ]
    words = _window_words(x.shape[2:], (1,) * len(counts), counts, tables) | {cpu.STRIDE_WIDTH: 1}
    way, dtypes = _way(x, tables, has_runs=True), (x.dtype, np.dtype(np.int64))
    return _plan_lines(
        "max_pool", cpu.make_max_pool, way, x, counts, dtypes, words, 2.0 * x.size, keep=tables
    )


def plan_avg_pool(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    counts: Sizes,
    count_include_pad: bool,
    divisor: int | None,
) -> Plan | None:
    """Plans the means of (x,), or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None or not _is_supported(inputs):
        return None
    size, dilation = x.shape[2:], (1,) * len(counts)
    tables = _tap_tables(size, kernel, stride, padding, dilation, counts)
    lanes = _lane_table(size[-1], kernel[-1], stride[-1], padding[-1], 1, counts[-1])
    words = _window_words(size, dilation, counts, tables) | _lane_words(lanes, stride[-1])
    divisors = _divisors(x.dtype, size, kernel, stride, padding, counts, count_include_pad, divisor)
    way = _way(x, tables, _has_runs(x, kernel, stride, dilation))
    words[cpu.DIVISORS] = divisors.ctypes.data
    work = math.prod((*x.shape[:2], *counts)) * (3.0 + math.prod(kernel))
    return _plan_lines(
        "avg_pool", cpu.make_avg_pool, way, x, counts, (x.dtype,), words, work, keep=(tables, lanes, divisors)
    )


def plan_avg_pool_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    counts: Sizes,
    count_include_pad: bool,
    divisor: int | None,
) -> Plan | None:
    """Plans the gradient of the means from (y,), or returns None where NumPy has to do it."""
    (y,) = inputs
    if outputs is not None or not _is_supported(inputs) or 0 in size:
        return None
    if set(stride) == {1} and (count_include_pad or divisor or not any(padding)):
        # An element is in as many windows as a window has elements, and all sums have one divisor
        around = tuple(k - 1 - pad for k, pad in zip(kernel, padding, strict=True))
        return plan_avg_pool(
            inputs, None, kernel=kernel, stride=stride, padding=around, counts=size, count_include_pad=True,
            divisor=divisor,
        )  # fmt: skip
    dilation = (1,) * len(counts)
    tables = _tap_tables(size, kernel, stride, padding, dilation, counts)
    words = _window_words(size, dilation, counts, tables)
    divisors = _divisors(y.dtype, size, kernel, stride, padding, counts, count_include_pad, divisor)
    words[cpu.DIVISORS] = divisors.ctypes.data
    channels_last = image_of(y).has_adjacent_channels
    work = math.prod(y.shape) * (3.0 + math.prod(kernel)) + math.prod(size)
    return _plan_images(
        "avg_pool_input",
        pooling_input.make_avg_pool_input,
        inputs,
        size,
        channels_last,
        words,
        work,
        keep=(tables, divisors),
    )


def plan_window_scatter(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, size: Sizes
) -> Plan | None:
    """Plans the sums of (y, positions) over zeros, or returns None where NumPy has to do it."""
    y, positions = inputs
    if (
        outputs is not None
        or not _is_supported([y])
        or not is_plain([positions], np.dtype(np.int64))
        or 0 in size
    ):
        return None
    layout = image_of(positions)
    words = dict(enumerate(layout.strides, cpu.INDEX_IMAGE)) | dict(
        enumerate(three_axes(y.shape[2:], 1), cpu.COUNT_DEPTH)
    )
    words |= dict(enumerate(three_axes(size, 1), cpu.SIZE_DEPTH))
    work = 6.0 * y.size + math.prod((*y.shape[:2], *size))
    channels_last = layout.has_adjacent_channels
    return _plan_images(
        "window_scatter", pooling_input.make_window_scatter, inputs, size, channels_last, words, work
    )


# ---- Windows ----


def _is_supported(arrays: Sequence[Array]) -> bool:
    dtype = arrays[0].dtype
    return dtype in (np.float32, np.float64) and arrays[0].ndim <= 5 and is_plain(arrays, dtype)


def _tap_tables(
    size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes
) -> list[NDArray[np.int64]]:
    """For each of three axes (position of the first tap inside the input, taps inside) of every window."""
    values = [three_axes(x, 1) for x in (size, kernel, stride)] + [three_axes(padding, 0)]
    values += [three_axes(x, 1) for x in (dilation, counts)]
    tables = []
    for n, taps, step, before, gap, count in zip(*values, strict=True):
        positions = np.arange(count)[:, None] * step - before + np.arange(taps) * gap
        inside = (positions >= 0) & (positions < n)
        first = np.take_along_axis(positions, inside.argmax(1)[:, None], 1)[:, 0]
        tables.append(np.stack([first, inside.sum(1)], 1).astype(np.int64))
    return tables


def _window_words(size: Sizes, dilation: Sizes, counts: Sizes, tables: Sequence[NDArray[np.int64]]) -> Words:
    words: Words = {}
    for first, values in ((cpu.SIZE_DEPTH, size), (cpu.COUNT_DEPTH, counts), (cpu.DILATION_DEPTH, dilation)):
        words |= dict(enumerate(three_axes(values, 1), first))
    return words | dict(enumerate([table.ctypes.data for table in tables], cpu.TAPS_DEPTH))


def _way(x: Array, tables: Sequence[NDArray[np.int64]], has_runs: bool) -> cpu.Way:
    """How the kernel walks over windows; ``has_runs`` if they are better runs than lanes."""
    source = image_of(x)
    if source.has_adjacent_channels and source.channels > 1:
        return cpu.Way.CHANNELS
    if not has_runs:
        return cpu.Way.WINDOWS
    has_one_line = all((table[:, 1] <= 1).all() for table in tables[:2])
    return cpu.Way.RUNS if has_one_line or x.shape[-1] > cpu.COLUMNS else cpu.Way.LINES


def _has_runs(x: Array, kernel: Sizes, stride: Sizes, dilation: Sizes) -> bool:
    """Whether windows are so wide, and so far apart, that they are not lanes."""
    return min(kernel[-1], stride[-1]) >= _WIDE and set(dilation) == {1} and has_neighbours(x)


def _lane_table(n: int, taps: int, stride: int, before: int, gap: int, count: int) -> NDArray[np.int64]:
    """(first, number, position of the first) of the windows along an axis that meet it with each tap."""
    offsets = np.arange(taps) * gap - before  # of window 0
    first = np.clip(-(offsets // stride), 0, count)
    last = np.clip((n - 1 - offsets) // stride + 1, first, count)
    return np.stack([first, last - first, first * stride + offsets], 1).astype(np.int64)


def _lane_words(lanes: NDArray[np.int64], stride: int) -> Words:
    return {cpu.LANES_WIDTH: lanes.ctypes.data, cpu.KERNEL_WIDTH: len(lanes), cpu.STRIDE_WIDTH: stride}


def _all_windows_meet_elements(tables: Sequence[NDArray[np.int64]]) -> bool:
    return all(table[:, 1].all() for table in tables)


def _divisors(
    dtype: np.dtype[Any],
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    counts: Sizes,
    count_include_pad: bool,
    divisor: int | None,
) -> Array:
    """What the sum of each window is divided by, as a contiguous array of shape ``counts``."""
    divisors = NumpyBackend().window_divisors(
        size, kernel, stride, padding, counts, count_include_pad, divisor
    )
    return np.ascontiguousarray(np.broadcast_to(divisors, counts), dtype)


# ---- Plans ----


def _plan_lines(
    name: str,
    make: Callable[[Any, cpu.Way], Callable[..., Any]],
    way: cpu.Way,
    x: Array,
    counts: Sizes,
    dtypes: Sequence[np.dtype[Any]],
    words: Words,
    work: float,
    keep: Any = None,
) -> Plan:
    """A plan whose rows are lines of windows; results in the layout of x."""
    source = image_of(x)
    shape = (*x.shape[:2], *counts)
    result, spec = fresh_image(shape, x.dtype, source.has_adjacent_channels)
    chunk = source.channels if way is cpu.Way.CHANNELS else 1
    rows = source.batch * (source.channels // chunk) * result.size[0] * result.size[1]
    specs = [spec._replace(dtype=dtype) for dtype in dtypes]
    words |= {cpu.X_LANE: words[cpu.STRIDE_WIDTH] * source.strides[-1]}
    address = _kernel(f"{name}_{way.value}", make, x.dtype, way)
    return _plan(address, (x,), specs, source, result, chunk, words, rows, work, keep)


def _plan_images(
    name: str,
    make: Callable[[Any], Callable[..., Any]],
    inputs: Sequence[Array],
    size: Sizes,
    channels_last: bool,
    words: Words,
    work: float,
    keep: Any = None,
) -> Plan:
    """A plan whose rows are images or some channels of one, the elements of which one task adds up."""
    y = inputs[0]
    windows = image_of(y)
    result, spec = fresh_image((*y.shape[:2], *size), y.dtype, channels_last)
    chunk = 1
    if channels_last:
        whole = result.batch >= threads.get_num_threads() or result.channels % _CHUNK
        chunk = result.channels if whole else _CHUNK
    rows = result.batch * (result.channels // chunk)
    return _plan(
        _kernel(name, make, y.dtype), inputs, [spec], result, windows, chunk, words, rows, work, keep
    )


def _plan(
    address: int,
    inputs: Sequence[Array],
    specs: Sequence[OutputSpec],
    elements: Image,
    windows: Image,
    chunk: int,
    words: Words,
    rows: int,
    work: float,
    keep: Any,
) -> Plan:
    words = (
        words | dict(enumerate(elements.strides, cpu.X_IMAGE)) | dict(enumerate(windows.strides, cpu.Y_IMAGE))
    )
    words |= {cpu.CHANNELS: elements.channels, cpu.CHUNK: chunk, cpu.HAS_LANES: int(chunk > 1)}
    return Plan(
        address,
        inputs=len(inputs),
        outputs=specs,
        arguments=block_words(words, len(inputs) + len(specs)),
        rows=rows,
        tasks=tasks_for(work, rows),
        keep=keep,
    )


@cache
def _kernel(
    name: str, make: Callable[..., Callable[..., Any]], dtype: np.dtype[Any], *options: cpu.Way
) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype, *options), f"{name} {dtype}")
