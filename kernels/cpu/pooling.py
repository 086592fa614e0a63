"""Pooling on the CPU: maxima and means over windows, and their transposes.

The innermost loop runs over *lanes*, and a tap of the windows is one pass over them, in the first-level
cache. Where the channels are adjacent in memory they are the lanes; else these are the windows of a line.

Where a window meets the input is worked out by the planner: for each axis a table of two words a window,
the position of its first tap inside the input, and the number of taps inside. For lanes that are windows a
second table of the width has three words a tap: the first lane that meets the input, the number of such
lanes, and the position of the first.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
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
    LANES_WIDTH,  # address of the table of lanes that are windows
    KERNEL_WIDTH,
    STRIDE_WIDTH,
    X_LANE,  # stride from such a lane to the next
) = range(4, 39)


@subroutine
def _offset(args, d, h, w):
    """Of an element in its channel of the input."""
    return d * load_int64(args, X_DEPTH) + h * load_int64(args, X_HEIGHT) + w * load_int64(args, X_WIDTH)


@subroutine
def _line_of_taps(args, first, taps, line):
    """Depth and height of a line of taps of the window that has its first tap at `first`."""
    d, h = line // taps[1], line % taps[1]
    return first[0] + d * load_int64(args, DILATION_DEPTH), first[1] + h * load_int64(args, DILATION_HEIGHT)


def _make_pool(dtype, begin, tap, end, square):
    """A kernel over (image, chunk of channels, depth, height): lines of windows.

    Args:
        dtype: of the elements.
        begin: `begin(y, places, n)` prepares n lanes.
        tap: `tap(x, x_lane, y, places, n, position, position_lane)` adds a tap of n lanes: elements at the
            distance `x_lane`, whose positions in the input are `position_lane` apart.
        end: `end(y, n, divisors, divisor_lane)` finishes n lanes.
        square: `square(x0, x1, x2, x3, y, places, n, position, beside, below)` does it all but `end` for 2x2
            taps, in registers; `beside` and `below` are the distances of the positions.
    """
    size = np.dtype(dtype).itemsize

    @subroutine
    def pool_group(args, x, depth_taps, height_taps, w, y, places, divisors):
        """The channels of window `w` of a line, or all its windows."""
        has_lanes, width_taps = load_int64(args, HAS_LANES) != 0, load_int64(args, TAPS_WIDTH) + w * 16
        n, taps = load_int64(args, COUNT_WIDTH), load_int64(args, KERNEL_WIDTH)
        if has_lanes:
            n, taps = load_int64(args, CHUNK), load_int64(width_taps, 1)
        step, x_lane = load_int64(args, STRIDE_WIDTH), load_int64(args, X_LANE)
        heights = load_int64(height_taps, 1)
        if has_lanes & (taps == 2) & (heights == 2) & (load_int64(depth_taps, 1) == 1):
            d, h, w = load_int64(depth_taps, 0), load_int64(height_taps, 0), load_int64(width_taps, 0)
            width = load_int64(args, SIZE_WIDTH)
            below, beside = load_int64(args, DILATION_HEIGHT), load_int64(args, DILATION_WIDTH)
            position = (d * load_int64(args, SIZE_HEIGHT) + h) * width + w
            first = x + _offset(args, d, h, w) * size
            second = first + below * load_int64(args, X_HEIGHT) * size
            step = beside * load_int64(args, X_WIDTH) * size
            square(first, first + step, second, second + step, y, places, n, position, beside, below * width)
            end(y, n, divisors, 0)
            return
        begin(y, places, n)
        for line in range(load_int64(depth_taps, 1) * heights):
            d = load_int64(depth_taps, 0) + line // heights * load_int64(args, DILATION_DEPTH)
            h = load_int64(height_taps, 0) + line % heights * load_int64(args, DILATION_HEIGHT)
            position = (d * load_int64(args, SIZE_HEIGHT) + h) * load_int64(args, SIZE_WIDTH)
            source = x + _offset(args, d, h, 0) * size
            for k in range(taps):
                if has_lanes:
                    w = load_int64(width_taps, 0) + k * load_int64(args, DILATION_WIDTH)
                    tap(source + w * load_int64(args, X_WIDTH) * size, 1, y, places, n, position + w, 0)
                else:
                    lanes = load_int64(args, LANES_WIDTH) + k * 24
                    first, w = load_int64(lanes, 0), load_int64(lanes, 2)
                    tap(source + w * load_int64(args, X_WIDTH) * size, x_lane, y + first * size,
                        places + first * 8, load_int64(lanes, 1), position + w, step)  # fmt: skip
        end(y, n, divisors, 0 if has_lanes else 1)

    def pool(args, lo, hi, task):
        depths, heights = load_int64(args, COUNT_DEPTH), load_int64(args, COUNT_HEIGHT)
        chunk, widths = load_int64(args, CHUNK), load_int64(args, COUNT_WIDTH)
        chunks = load_int64(args, CHANNELS) // chunk
        for row in range(lo, hi):
            h, d, plane = row % heights, row // heights % depths, row // (heights * depths)
            channel, image = plane % chunks * chunk, plane // chunks
            x = image * load_int64(args, X_IMAGE) + channel * load_int64(args, X_CHANNEL)
            y = image * load_int64(args, Y_IMAGE) + channel * load_int64(args, Y_CHANNEL)
            y += d * load_int64(args, Y_DEPTH) + h * load_int64(args, Y_HEIGHT)
            for w in range(widths if load_int64(args, HAS_LANES) != 0 else 1):
                place = y + w * load_int64(args, Y_WIDTH)
                divisors = load_int64(args, DIVISORS) + ((d * heights + h) * widths + w) * size
                pool_group(args, load_int64(args, 0) + x * size, load_int64(args, TAPS_DEPTH) + d * 16,
                           load_int64(args, TAPS_HEIGHT) + h * 16, w, load_int64(args, 1) + place * size,
                           load_int64(args, 2) + place * 8, divisors)  # fmt: skip

    return pool


def make_max_pool(dtype):
    """The kernel of the maximum: operands x, values, positions."""
    view = float32_at if np.dtype(dtype).itemsize == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine
    def begin(y, places, n):
        values, positions = view(y, n), int64_at(places, n)
        for lane in range(n):
            values[lane], positions[lane] = zero, -1  # whatever comes first is larger

    @subroutine
    def tap(x, x_lane, y, places, n, position, position_lane):
        source, values, positions = view(x, n), view(y, n), int64_at(places, n)
        for lane in range(n):
            value, best, place = source[lane * x_lane], values[lane], positions[lane]
            wins = (value > best) | (value != value) | (place < 0)  # a NaN wins
            values[lane] = value if wins else best
            positions[lane] = position + lane * position_lane if wins else place

    @subroutine
    def end(y, n, divisors, divisor_lane):
        pass

    @subroutine(noalias=True)
    def best_of_four(x0, x1, x2, x3, values, positions, n, position, beside, below):
        for lane in range(n):
            best, place = x0[lane], position
            wins = (x1[lane] > best) | (x1[lane] != x1[lane])
            best, place = x1[lane] if wins else best, position + beside if wins else place
            wins = (x2[lane] > best) | (x2[lane] != x2[lane])
            best, place = x2[lane] if wins else best, position + below if wins else place
            wins = (x3[lane] > best) | (x3[lane] != x3[lane])
            values[lane] = x3[lane] if wins else best
            positions[lane] = position + beside + below if wins else place

    @subroutine
    def square(x0, x1, x2, x3, y, places, n, position, beside, below):
        best_of_four(view(x0, n), view(x1, n), view(x2, n), view(x3, n), view(y, n), int64_at(places, n), n,
                     position, beside, below)  # fmt: skip

    return _make_pool(dtype, begin, tap, end, square)


def make_avg_pool(dtype):
    """The kernel of the mean: operands x, y."""
    view = float32_at if np.dtype(dtype).itemsize == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine
    def begin(y, places, n):
        sums = view(y, n)
        for lane in range(n):
            sums[lane] = zero

    @subroutine
    def tap(x, x_lane, y, places, n, position, position_lane):
        source, sums = view(x, n), view(y, n)
        for lane in range(n):
            sums[lane] += source[lane * x_lane]

    @subroutine
    def end(y, n, divisors, divisor_lane):
        sums, divisor = view(y, n), view(divisors, n)
        if divisor_lane == 0:
            common = divisor[0]
            for lane in range(n):
                sums[lane] /= common
        else:
            for lane in range(n):
                sums[lane] /= divisor[lane]

    @subroutine(noalias=True)
    def sum_of_four(x0, x1, x2, x3, sums, n):
        for lane in range(n):
            sums[lane] = x0[lane] + x1[lane] + x2[lane] + x3[lane]

    @subroutine
    def square(x0, x1, x2, x3, y, places, n, position, beside, below):
        sum_of_four(view(x0, n), view(x1, n), view(x2, n), view(x3, n), view(y, n), n)

    return _make_pool(dtype, begin, tap, end, square)


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

    @subroutine
    def spread_line(args, y, d, h, divisors, x):
        """The windows of a line whose elements are neighbours, one channel of them."""
        widths, width = load_int64(args, COUNT_WIDTH), load_int64(args, SIZE_WIDTH)
        depth_taps, height_taps = (
            load_int64(args, TAPS_DEPTH) + d * 16,
            load_int64(args, TAPS_HEIGHT) + h * 16,
        )
        first = load_int64(depth_taps, 0), load_int64(height_taps, 0), 0
        taps = load_int64(depth_taps, 1), load_int64(height_taps, 1), 1
        source, divisor = view(y, widths), view(divisors, widths)
        width_taps = int64_at(load_int64(args, TAPS_WIDTH), 2 * widths)
        for line in range(taps[0] * taps[1]):
            down, across = _line_of_taps(args, first, taps, line)
            target = view(x + _offset(args, down, across, 0) * size, width)
            for w in range(widths):
                value, place = source[w] / divisor[w], width_taps[2 * w]
                for k in range(width_taps[2 * w + 1]):
                    target[place + k] += value

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
