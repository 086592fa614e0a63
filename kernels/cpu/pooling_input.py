"""Pooling backwards on the CPU: the transposes of maxima and means over windows.

The argument blocks are those of `nbdl.kernels.cpu.pooling`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64, stack_int64
from nbdl.kernels.cpu.pooling import (
    CHANNELS,
    CHUNK,
    COLUMNS,
    COUNT_DEPTH,
    COUNT_HEIGHT,
    COUNT_WIDTH,
    DILATION_DEPTH,
    DILATION_HEIGHT,
    DIVISORS,
    HAS_LANES,
    INDEX_CHANNEL,
    INDEX_DEPTH,
    INDEX_HEIGHT,
    INDEX_IMAGE,
    INDEX_WIDTH,
    SIZE_DEPTH,
    SIZE_HEIGHT,
    SIZE_WIDTH,
    TAPS_DEPTH,
    TAPS_HEIGHT,
    TAPS_WIDTH,
    X_CHANNEL,
    X_DEPTH,
    X_HEIGHT,
    X_IMAGE,
    X_WIDTH,
    Y_CHANNEL,
    Y_DEPTH,
    Y_HEIGHT,
    Y_IMAGE,
    Y_WIDTH,
    offset_of,
)  # fmt: skip


@subroutine
def _line_of_taps(args, first, taps, line):
    """Depth and height of a line of taps of the window that has its first tap at `first`."""
    d, h = line // taps[1], line % taps[1]
    return first[0] + d * load_int64(args, DILATION_DEPTH), first[1] + h * load_int64(args, DILATION_HEIGHT)


@cache
def _make_clear(dtype):
    """A function that writes zeros into a chunk of the channels of an image."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine
    def clear(args, x):
        heights, widths = load_int64(args, SIZE_HEIGHT), load_int64(args, SIZE_WIDTH)
        runs, run = (widths, load_int64(args, CHUNK)) if load_int64(args, HAS_LANES) != 0 else (1, widths)
        for k in range(load_int64(args, SIZE_DEPTH) * heights * runs):
            line = k // runs
            target = view(x + offset_of(args, line // heights, line % heights, k % runs) * size, run)
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
    zero = np.dtype(dtype).type(0)
    clear = _make_clear(dtype)

    @subroutine
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
                place = x + offset_of(args, d, h, first[2] + k) * size
                if x_step == 1 and y_step == 1:
                    target, source = view(place, chunk), view(y, chunk)
                    for lane in range(chunk):
                        target[lane] += source[lane] / divisor
                else:
                    for lane in range(chunk):
                        view(place + lane * x_step * size, 1)[0] += (
                            view(y + lane * y_step * size, 1)[0] / divisor
                        )

    @subroutine(noalias=True)
    def add(source, target, n):
        for k in range(n):
            target[k] += source[k]

    @subroutine
    def share_out(source, divisors, width_taps, windows, first, n, shares):
        """Add what the windows of a line give to n elements of a line, from `first` on."""
        for w in range(windows):
            value, place = source[w] / divisors[w], width_taps[2 * w] - first
            for k in range(max(place, 0), min(place + width_taps[2 * w + 1], n)):
                shares[k] += value

    @subroutine
    def spread_line(args, y, d, h, divisors, x):
        """The windows of a line whose elements are neighbours, one channel of them."""
        windows, width = load_int64(args, COUNT_WIDTH), load_int64(args, SIZE_WIDTH)
        depth_taps = load_int64(args, TAPS_DEPTH) + d * 16
        height_taps = load_int64(args, TAPS_HEIGHT) + h * 16
        depths, heights = load_int64(depth_taps, 1), load_int64(height_taps, 1)
        x += offset_of(args, load_int64(depth_taps, 0), load_int64(height_taps, 0), 0) * size
        x_depth, x_height = load_int64(args, X_DEPTH) * size, load_int64(args, X_HEIGHT) * size
        source, divisor = view(y, windows), view(divisors, windows)
        width_taps = int64_at(load_int64(args, TAPS_WIDTH), 2 * windows)
        if depths * heights == 1:
            share_out(source, divisor, width_taps, windows, 0, width, view(x, width))
            return
        shares = view(stack_int64(COLUMNS), COLUMNS)
        for first in range(0, width, COLUMNS):
            n = min(COLUMNS, width - first)
            for k in range(n):
                shares[k] = zero
            share_out(source, divisor, width_taps, windows, first, n, shares)
            for p in range(depths):
                for q in range(heights):
                    add(shares, view(x + p * x_depth + q * x_height + first * size, n), n)

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
            if chunk == 1 and load_int64(args, X_WIDTH) == 1 and load_int64(args, Y_WIDTH) == 1:
                for line in range(load_int64(args, COUNT_DEPTH) * heights):
                    d, h = line // heights, line % heights
                    source = y + (d * load_int64(args, Y_DEPTH) + h * load_int64(args, Y_HEIGHT)) * size
                    spread_line(args, source, d, h, load_int64(args, DIVISORS) + line * widths * size, x)
                continue
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
