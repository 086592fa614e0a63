"""Pooling on the CPU: maxima and means over windows.

The innermost loop runs over *lanes*, and a tap of the windows is one pass over them, in the first-level
cache. Where the channels are adjacent in memory they are the lanes; else these are the windows of a line.

Where a window meets the input is worked out by the planner: for each axis a table of two words a window,
the position of its first tap inside the input, and the number of taps inside. For lanes that are windows a
second table of the width has three words a tap: the first lane that meets the input, the number of such
lanes, and the position of the first. Windows that are wide and far apart have no lanes: a line of their taps
is a run of neighbours. All lines are reduced to one, column by column, and that one to windows; or, where
there is but one or it is too long, each run at once. Each of these ways is a kernel of its own (`Way`).
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int32_at, int64_at, load_int64, stack_int64

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
COLUMNS = 512  # of a line that are reduced at once, in the first-level cache


class Way(Enum):
    """How a kernel walks over windows."""

    CHANNELS = "by_channels"  # the lanes are adjacent channels
    WINDOWS = "by_windows"  # the lanes are the windows of a line
    RUNS = "by_runs"  # each run of neighbours at once
    LINES = "by_lines"  # the lines, of at most `COLUMNS` elements, are reduced to one


@subroutine
def offset_of(args, d, h, w):
    """Of an element in its channel of the input."""
    return d * load_int64(args, X_DEPTH) + h * load_int64(args, X_HEIGHT) + w * load_int64(args, X_WIDTH)


def _make_pool(dtype, way, begin, tap, box, boxes, end, square):
    """A kernel over (image, chunk of channels, depth, height): lines of windows.

    Args:
        dtype: of the elements.
        way: a `Way`.
        begin: `begin(y, places, n)` prepares n lanes.
        tap: `tap(x, x_lane, y, places, n, position, position_lane)` adds a tap of n lanes: elements at the
            distance `x_lane`, whose positions in the input are `position_lane` apart.
        box: `box(args, x, depth_taps, height_taps, first, taps, y, places)` adds all of a window whose lines
            are so many neighbours, from `first` on; its taps have no gaps.
        boxes: `boxes(args, x, depth_taps, height_taps, width_taps, n, y, places)` adds all of n such windows.
        end: `end(y, n, divisors, divisor_lane)` finishes n lanes.
        square: `square(x0, x1, x2, x3, y, places, n, position, beside, below)` does it all but `end` for 2x2
            taps, in registers; `beside` and `below` are the distances of the positions.
    """
    size, is_by_channels = np.dtype(dtype).itemsize, way is Way.CHANNELS

    @subroutine
    def line_of_taps(args, depth_taps, height_taps, line):
        """Offset and position of the line of the input that some taps of a window lie in."""
        heights = load_int64(height_taps, 1)
        d = load_int64(depth_taps, 0) + line // heights * load_int64(args, DILATION_DEPTH)
        h = load_int64(height_taps, 0) + line % heights * load_int64(args, DILATION_HEIGHT)
        position = (d * load_int64(args, SIZE_HEIGHT) + h) * load_int64(args, SIZE_WIDTH)
        return offset_of(args, d, h, 0) * size, position

    @subroutine
    def channels(args, x, depth_taps, height_taps, width_taps, y, places, divisors):
        """The channels of one window."""
        n, taps, step = load_int64(args, CHUNK), load_int64(width_taps, 1), load_int64(args, X_WIDTH) * size
        first, beside = load_int64(width_taps, 0), load_int64(args, DILATION_WIDTH)
        lines = load_int64(depth_taps, 1) * load_int64(height_taps, 1)
        if (taps == 2) & (lines == 2) & (load_int64(height_taps, 1) == 2):
            below = load_int64(args, DILATION_HEIGHT)
            offset, position = line_of_taps(args, depth_taps, height_taps, 0)
            upper = x + offset + first * step
            lower = upper + below * load_int64(args, X_HEIGHT) * size
            square(upper, upper + beside * step, lower, lower + beside * step, y, places, n,
                   position + first, beside, below * load_int64(args, SIZE_WIDTH))  # fmt: skip
        else:
            begin(y, places, n)
            for line in range(lines):
                offset, position = line_of_taps(args, depth_taps, height_taps, line)
                for k in range(taps):
                    w = first + k * beside
                    tap(x + offset + w * step, 1, y, places, n, position + w, 0)
        end(y, n, divisors, 0)

    @subroutine
    def windows(args, x, depth_taps, height_taps, width_taps, y, places, divisors):
        """All windows of a line, side by side."""
        n, step = load_int64(args, COUNT_WIDTH), load_int64(args, X_WIDTH) * size
        begin(y, places, n)
        for line in range(load_int64(depth_taps, 1) * load_int64(height_taps, 1)):
            offset, position = line_of_taps(args, depth_taps, height_taps, line)
            for k in range(load_int64(args, KERNEL_WIDTH)):
                lanes = load_int64(args, LANES_WIDTH) + k * 24
                first, w = load_int64(lanes, 0), load_int64(lanes, 2)
                tap(x + offset + w * step, load_int64(args, X_LANE), y + first * size, places + first * 8,
                    load_int64(lanes, 1), position + w, load_int64(args, STRIDE_WIDTH))  # fmt: skip
        end(y, n, divisors, 1)

    @subroutine
    def runs(args, x, depth_taps, height_taps, width_taps, y, places, divisors):
        """All windows of a line, one by one."""
        n = load_int64(args, COUNT_WIDTH)
        begin(y, places, n)
        for k in range(n):
            box(args, x, depth_taps, height_taps, load_int64(width_taps, 2 * k),
                load_int64(width_taps, 2 * k + 1), y + k * size, places + k * 8)  # fmt: skip
        end(y, n, divisors, 1)

    @subroutine
    def lines(args, x, depth_taps, height_taps, width_taps, y, places, divisors):
        """All windows of a line, from the lines of their taps."""
        n = load_int64(args, COUNT_WIDTH)
        begin(y, places, n)
        boxes(args, x, depth_taps, height_taps, width_taps, n, y, places)
        end(y, n, divisors, 1)

    group = {Way.CHANNELS: channels, Way.WINDOWS: windows, Way.RUNS: runs, Way.LINES: lines}[way]

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
            for w in range(widths if is_by_channels else 1):
                place = y + w * load_int64(args, Y_WIDTH)
                divisors = load_int64(args, DIVISORS) + ((d * heights + h) * widths + w) * size
                group(
                    args,
                    load_int64(args, 0) + x * size,
                    load_int64(args, TAPS_DEPTH) + d * 16,
                    load_int64(args, TAPS_HEIGHT) + h * 16,
                    load_int64(args, TAPS_WIDTH) + w * 16,
                    load_int64(args, 1) + place * size,
                    load_int64(args, 2) + place * 8,
                    divisors,
                )

    return pool


def make_max_pool(dtype, way):
    """The kernel of the maximum: operands x, values, positions."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
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
    def search(x, best, place, position, n):
        """The maximum among n neighbours as well; where it is is looked for only if it is a new one."""
        source = view(x, n)
        largest = source[0]
        for k in range(n):
            largest = m.maximum(largest, source[k])
        k = 0
        if largest != largest:
            k = n - 1  # of several NaN the last one wins
            while source[k] == source[k]:
                k -= 1
        elif (largest > best) | (place < 0):
            while source[k] != largest:
                k += 1
        else:
            return best, place
        return source[k], position + k

    @subroutine
    def box(args, x, depth_taps, height_taps, first, taps, y, places):
        depths, heights, best, place = load_int64(depth_taps, 1), load_int64(height_taps, 1), zero, -1
        x += offset_of(args, load_int64(depth_taps, 0), load_int64(height_taps, 0), first) * size
        height, width = load_int64(args, SIZE_HEIGHT), load_int64(args, SIZE_WIDTH)
        position = (load_int64(depth_taps, 0) * height + load_int64(height_taps, 0)) * width + first
        x_depth, x_height = load_int64(args, X_DEPTH) * size, load_int64(args, X_HEIGHT) * size
        for d in range(depths):
            for h in range(heights):
                line = x + d * x_depth + h * x_height
                best, place = search(line, best, place, position + (d * height + h) * width, taps)
        view(y, 1)[0], int64_at(places, 1)[0] = best, place

    @subroutine(noalias=True)
    def line_wins(source, best, lines, line, n):
        for k in range(n):
            wins = (source[k] > best[k]) | (source[k] != source[k])
            best[k] = source[k] if wins else best[k]
            lines[k] = line if wins else lines[k]

    @subroutine
    def best_column(best, lines, first, stop):
        """The column with the first maximum, or the last NaN."""
        winner = first
        for k in range(first + 1, stop):
            value, largest = best[k], best[winner]
            earlier, later = lines[k] < lines[winner], lines[k] >= lines[winner]
            wins = (value > largest) | ((value == largest) & earlier)
            wins |= (value != value) & ((largest == largest) | later)
            winner = k if wins else winner
        return winner

    @subroutine
    def boxes(args, x, depth_taps, height_taps, width_taps, n, y, places):
        depths, heights = load_int64(depth_taps, 1), load_int64(height_taps, 1)
        first_depth, first_height = load_int64(depth_taps, 0), load_int64(height_taps, 0)
        x_depth, x_height = load_int64(args, X_DEPTH) * size, load_int64(args, X_HEIGHT) * size
        x += first_depth * x_depth + first_height * x_height
        width = load_int64(args, SIZE_WIDTH)
        best, lines = view(stack_int64(COLUMNS), COLUMNS), int32_at(stack_int64(COLUMNS), COLUMNS)
        source = view(x, width)
        for k in range(width):
            best[k], lines[k] = source[k], np.int32(0)
        for d in range(depths):
            for h in range(heights):
                line = view(x + d * x_depth + h * x_height, width)
                line_wins(line, best, lines, np.int32(d * heights + h), width)
        values, positions = view(y, n), int64_at(places, n)
        for w in range(n):
            first = load_int64(width_taps, 2 * w)
            column = best_column(best, lines, first, first + load_int64(width_taps, 2 * w + 1))
            line = np.int64(lines[column])
            d, h = first_depth + line // heights, first_height + line % heights
            values[w] = best[column]
            positions[w] = (d * load_int64(args, SIZE_HEIGHT) + h) * width + column

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

    return _make_pool(dtype, way, begin, tap, box, boxes, end, square)


def make_avg_pool(dtype, way):
    """The kernel of the mean: operands x, y."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
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

    @subroutine(noalias=True)
    def add(source, sums, n):
        for k in range(n):
            sums[k] += source[k]

    @subroutine(fastmath=FASTMATH_REASSOC)
    def total_of(sums, n):
        total = zero
        for k in range(n):
            total += sums[k]
        return total

    @subroutine
    def box(args, x, depth_taps, height_taps, first, taps, y, places):
        depths, heights = load_int64(depth_taps, 1), load_int64(height_taps, 1)
        x += offset_of(args, load_int64(depth_taps, 0), load_int64(height_taps, 0), first) * size
        x_depth, x_height = load_int64(args, X_DEPTH) * size, load_int64(args, X_HEIGHT) * size
        sums = view(stack_int64(COLUMNS), COLUMNS)
        for start in range(0, taps, COLUMNS):
            n = min(COLUMNS, taps - start)
            for k in range(n):
                sums[k] = zero
            for d in range(depths):
                for h in range(heights):
                    add(view(x + d * x_depth + h * x_height + start * size, n), sums, n)
            view(y, 1)[0] += total_of(sums, n)

    @subroutine
    def boxes(args, x, depth_taps, height_taps, width_taps, n, y, places):
        x_depth, x_height = load_int64(args, X_DEPTH) * size, load_int64(args, X_HEIGHT) * size
        x += load_int64(depth_taps, 0) * x_depth + load_int64(height_taps, 0) * x_height
        width, sums, means = load_int64(args, SIZE_WIDTH), view(stack_int64(COLUMNS), COLUMNS), view(y, n)
        for k in range(width):
            sums[k] = zero
        for d in range(load_int64(depth_taps, 1)):
            for h in range(load_int64(height_taps, 1)):
                add(view(x + d * x_depth + h * x_height, width), sums, width)
        for w in range(n):
            first = load_int64(width_taps, 2 * w)
            total = zero
            for k in range(first, first + load_int64(width_taps, 2 * w + 1)):
                total += sums[k]
            means[w] = total

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

    return _make_pool(dtype, way, begin, tap, box, boxes, end, square)
