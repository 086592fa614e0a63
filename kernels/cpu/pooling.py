"""Pooling on the CPU: maxima and means over windows, and their transposes.

Where the channels are adjacent in memory they are the lanes of the innermost loop: a tap of the window is
one pass over them, in the first-level cache. In other layouts the windows are computed one by one.

Where a window meets the input is worked out by the planner: for each axis a table of two words a window,
the position of its first tap inside the input, and the number of taps inside.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64

# Words of the argument block, behind at most four operands; strides count elements.
(
    X_IMAGE,  # strides of the array with the elements
    X_CHANNEL,
    X_DEPTH,
    X_HEIGHT,
    X_WIDTH,
    Y_IMAGE,  # strides of the array with the windows, and of positions that are an output
    Y_CHANNEL,
    Y_DEPTH,
    Y_HEIGHT,
    Y_WIDTH,
    INDEX_IMAGE,  # strides of the positions where they are an input
    INDEX_CHANNEL,
    INDEX_DEPTH,
    INDEX_HEIGHT,
    INDEX_WIDTH,
    SIZE_DEPTH,
    SIZE_HEIGHT,
    SIZE_WIDTH,
    COUNT_DEPTH,  # numbers of windows
    COUNT_HEIGHT,
    COUNT_WIDTH,
    TAPS_DEPTH,  # addresses of the tables of windows
    TAPS_HEIGHT,
    TAPS_WIDTH,
    DILATION_DEPTH,
    DILATION_HEIGHT,
    DILATION_WIDTH,
    CHANNELS,
    CHUNK,  # channels that a row of the kernel computes
    HAS_LANES,  # the channels are adjacent and are the lanes
    DIVISORS,  # address of what the sum of each window is divided by
) = range(4, 35)

_OPTIONS = {
    "error_model": "numpy",
    "fastmath": {"nsz", "arcp", "contract"},
    "no_cpython_wrapper": True,  # called from kernels only
    "no_cfunc_wrapper": True,
}


def _make_pool(dtype, pool_lanes, pool_window):
    """A kernel over (image, chunk of channels, depth, height): lines of windows.

    Args:
        dtype: of the elements.
        pool_lanes: `pool_lanes(args, x, first, taps, y, positions, window)` pools all channels of one window.
        pool_window: the same for a single channel.
        Both get the position of the first tap and the numbers of taps as tuples.
    """
    size = np.dtype(dtype).itemsize

    def pool(args, lo, hi, task):
        depths, heights = load_int64(args, COUNT_DEPTH), load_int64(args, COUNT_HEIGHT)
        chunk, has_lanes = load_int64(args, CHUNK), load_int64(args, HAS_LANES)
        chunks = load_int64(args, CHANNELS) // chunk
        for row in range(lo, hi):
            h, d, plane = row % heights, row // heights % depths, row // (heights * depths)
            channel, image = plane % chunks * chunk, plane // chunks
            x = image * load_int64(args, X_IMAGE) + channel * load_int64(args, X_CHANNEL)
            y = image * load_int64(args, Y_IMAGE) + channel * load_int64(args, Y_CHANNEL)
            y += d * load_int64(args, Y_DEPTH) + h * load_int64(args, Y_HEIGHT)
            x, values, positions = (
                load_int64(args, 0) + x * size,
                load_int64(args, 1) + y * size,
                load_int64(args, 2) + y * 8,
            )
            depth_taps, height_taps = (
                load_int64(args, TAPS_DEPTH) + d * 16,
                load_int64(args, TAPS_HEIGHT) + h * 16,
            )
            for w in range(load_int64(args, COUNT_WIDTH)):
                width_taps, step = load_int64(args, TAPS_WIDTH) + w * 16, w * load_int64(args, Y_WIDTH)
                first = load_int64(depth_taps, 0), load_int64(height_taps, 0), load_int64(width_taps, 0)
                taps = load_int64(depth_taps, 1), load_int64(height_taps, 1), load_int64(width_taps, 1)
                window = (d * heights + h) * load_int64(args, COUNT_WIDTH) + w
                if has_lanes != 0:
                    pool_lanes(args, x, first, taps, values + step * size, positions + step * 8, window)
                else:
                    pool_window(args, x, first, taps, values + step * size, positions + step * 8, window)

    return pool


@njit(**_OPTIONS)
def _offset(args, d, h, w):
    """Of an element in its channel of the input."""
    return d * load_int64(args, X_DEPTH) + h * load_int64(args, X_HEIGHT) + w * load_int64(args, X_WIDTH)


@njit(**_OPTIONS)
def _line_of_taps(args, first, taps, line):
    """Depth and height of a line of taps of the window that has its first tap at `first`."""
    d, h = line // taps[1], line % taps[1]
    return first[0] + d * load_int64(args, DILATION_DEPTH), first[1] + h * load_int64(args, DILATION_HEIGHT)


def make_max_pool(dtype):
    """The kernel of the maximum: operands x, values, positions."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at

    @njit(**_OPTIONS)
    def pool_lanes(args, x, first, taps, y, positions, window):
        lanes = load_int64(args, CHUNK)
        values, places = view(y, lanes), int64_at(positions, lanes)
        for line in range(taps[0] * taps[1]):
            d, h = _line_of_taps(args, first, taps, line)
            for k in range(taps[2]):
                w = first[2] + k * load_int64(args, DILATION_WIDTH)
                position = (d * load_int64(args, SIZE_HEIGHT) + h) * load_int64(args, SIZE_WIDTH) + w
                source = view(x + _offset(args, d, h, w) * size, lanes)
                if line + k == 0:
                    for lane in range(lanes):
                        values[lane] = source[lane]
                        places[lane] = position
                else:
                    for lane in range(lanes):
                        value, best = source[lane], values[lane]
                        wins = (value > best) | (value != value)  # a NaN wins
                        values[lane] = value if wins else best
                        places[lane] = position if wins else places[lane]

    @njit(**_OPTIONS)
    def pool_window(args, x, first, taps, y, positions, window):
        best = view(x + _offset(args, first[0], first[1], first[2]) * size, 1)[0]
        place = (first[0] * load_int64(args, SIZE_HEIGHT) + first[1]) * load_int64(args, SIZE_WIDTH) + first[
            2
        ]
        for line in range(taps[0] * taps[1]):
            d, h = _line_of_taps(args, first, taps, line)
            for k in range(taps[2]):
                w = first[2] + k * load_int64(args, DILATION_WIDTH)
                value = view(x + _offset(args, d, h, w) * size, 1)[0]
                wins = (value > best) | (value != value)
                best = value if wins else best
                position = (d * load_int64(args, SIZE_HEIGHT) + h) * load_int64(args, SIZE_WIDTH) + w
                place = position if wins else place
        view(y, 1)[0] = best
        int64_at(positions, 1)[0] = place

    return _make_pool(dtype, pool_lanes, pool_window)


def make_avg_pool(dtype):
    """The kernel of the mean: operands x, y."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @njit(**_OPTIONS)
    def pool_lanes(args, x, first, taps, y, positions, window):
        lanes = load_int64(args, CHUNK)
        sums, divisor = view(y, lanes), view(load_int64(args, DIVISORS) + window * size, 1)[0]
        for lane in range(lanes):
            sums[lane] = zero
        for line in range(taps[0] * taps[1]):
            d, h = _line_of_taps(args, first, taps, line)
            for k in range(taps[2]):
                source = view(x + _offset(args, d, h, first[2] + k) * size, lanes)
                for lane in range(lanes):
                    sums[lane] += source[lane]
        for lane in range(lanes):
            sums[lane] /= divisor

    @njit(**_OPTIONS)
    def pool_window(args, x, first, taps, y, positions, window):
        total = zero
        for line in range(taps[0] * taps[1]):
            d, h = _line_of_taps(args, first, taps, line)
            for k in range(taps[2]):
                total += view(x + _offset(args, d, h, first[2] + k) * size, 1)[0]
        view(y, 1)[0] = total / view(load_int64(args, DIVISORS) + window * size, 1)[0]

    return _make_pool(dtype, pool_lanes, pool_window)


@cache
def _make_clear(dtype):
    """A function that writes zeros into a chunk of the channels of an image."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @njit(**_OPTIONS)
    def clear(args, x):
        heights, widths = load_int64(args, SIZE_HEIGHT), load_int64(args, SIZE_WIDTH)
        runs, run = (widths, load_int64(args, CHUNK)) if load_int64(args, HAS_LANES) != 0 else (1, widths)
        for k in range(load_int64(args, SIZE_DEPTH) * heights * runs):
            line = k // runs
            target = view(x + _offset(args, line // heights, line % heights, k % runs) * size, run)
            for j in range(run):
                target[j] = zero

    return clear


def make_window_scatter(dtype):
    """The kernel that adds windows to zeros: operands y, positions, x. Rows: (image, chunk of channels)."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    clear = _make_clear(dtype)

    def window_scatter(args, lo, hi, task):
        heights, widths = load_int64(args, COUNT_HEIGHT), load_int64(args, COUNT_WIDTH)
        chunk = load_int64(args, CHUNK)
        chunks = load_int64(args, CHANNELS) // chunk
        y_step, x_step = load_int64(args, Y_CHANNEL), load_int64(args, X_CHANNEL)
        index_step, x_position = load_int64(args, INDEX_CHANNEL), load_int64(args, X_WIDTH)
        for row in range(lo, hi):
            image, channel = row // chunks, row % chunks * chunk
            y = load_int64(args, 0) + (image * load_int64(args, Y_IMAGE) + channel * y_step) * size
            places = load_int64(args, 1) + (image * load_int64(args, INDEX_IMAGE) + channel * index_step) * 8
            x = load_int64(args, 2) + (image * load_int64(args, X_IMAGE) + channel * x_step) * size
            clear(args, x)
            for line in range(load_int64(args, COUNT_DEPTH) * heights):
                d, h = line // heights, line % heights
                place_line = (
                    places + (d * load_int64(args, INDEX_DEPTH) + h * load_int64(args, INDEX_HEIGHT)) * 8
                )
                source_line = y + (d * load_int64(args, Y_DEPTH) + h * load_int64(args, Y_HEIGHT)) * size
                for w in range(widths):
                    place = place_line + w * load_int64(args, INDEX_WIDTH) * 8
                    source = source_line + w * load_int64(args, Y_WIDTH) * size
                    for k in range(chunk):
                        target = x + (load_int64(place, k * index_step) * x_position + k * x_step) * size
                        view(target, 1)[0] += view(source + k * y_step * size, 1)[0]

    return window_scatter


def make_avg_pool_input(dtype):
    """The kernel that spreads windows over their elements: operands y, x. Rows as for the scatter."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    clear = _make_clear(dtype)

    @njit(**_OPTIONS)
    def spread(args, y, first, taps, divisor, x):
        """One window of a chunk of channels."""
        chunk, y_step, x_step = (
            load_int64(args, CHUNK),
            load_int64(args, Y_CHANNEL),
            load_int64(args, X_CHANNEL),
        )
        for line in range(taps[0] * taps[1]):
            d, h = _line_of_taps(args, first, taps, line)
            for k in range(taps[2]):
                place = x + _offset(args, d, h, first[2] + k) * size
                if x_step == 1 and y_step == 1:
                    target, source = view(place, chunk), view(y, chunk)
                    for lane in range(chunk):
                        target[lane] += source[lane] / divisor
                else:
                    for lane in range(chunk):
                        view(place + lane * x_step * size, 1)[0] += (
                            view(y + lane * y_step * size, 1)[0] / divisor
                        )

    def avg_pool_input(args, lo, hi, task):
        heights, widths = load_int64(args, COUNT_HEIGHT), load_int64(args, COUNT_WIDTH)
        chunk = load_int64(args, CHUNK)
        chunks = load_int64(args, CHANNELS) // chunk
        for row in range(lo, hi):
            image, channel = row // chunks, row % chunks * chunk
            y = (
                load_int64(args, 0)
                + (image * load_int64(args, Y_IMAGE) + channel * load_int64(args, Y_CHANNEL)) * size
            )
            x = (
                load_int64(args, 1)
                + (image * load_int64(args, X_IMAGE) + channel * load_int64(args, X_CHANNEL)) * size
            )
            clear(args, x)
            for window in range(load_int64(args, COUNT_DEPTH) * heights * widths):
                w, h, d = window % widths, window // widths % heights, window // (widths * heights)
                depth_taps, height_taps = (
                    load_int64(args, TAPS_DEPTH) + d * 16,
                    load_int64(args, TAPS_HEIGHT) + h * 16,
                )
                width_taps = load_int64(args, TAPS_WIDTH) + w * 16
                first = load_int64(depth_taps, 0), load_int64(height_taps, 0), load_int64(width_taps, 0)
                taps = load_int64(depth_taps, 1), load_int64(height_taps, 1), load_int64(width_taps, 1)
                source = (
                    d * load_int64(args, Y_DEPTH)
                    + h * load_int64(args, Y_HEIGHT)
                    + w * load_int64(args, Y_WIDTH)
                )
                divisor = view(load_int64(args, DIVISORS) + window * size, 1)[0]
                spread(args, y + source * size, first, taps, divisor, x)

    return avg_pool_input
