"""Pooling by positions on the CPU: elements at the places of maxima, put there, and windows at random places.

All arrays are contiguous, and a row of a kernel is a plane: the spatial axes of one channel of one image.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.gathering import all_plain
from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64, stack_int64, store_int64

# Words of the argument block of `make_window_gather` and `make_window_put`, behind three operands.
(
    PLANE,  # elements of a plane that positions point into
    COUNT,  # positions of a plane
    FAILED,  # address of the word that is set to 1 where a position is out of range
) = range(3, 6)
# And of `make_fractional_max_pool`, behind four operands: three words each, of depth, height and width.
SIZES = 4
KERNELS = SIZES + 3
COUNTS = KERNELS + 3
SAMPLES = COUNTS + 3  # which random number of a plane belongs to the axis
RANK = SAMPLES + 3  # random numbers of a plane
_WINDOWS = 256  # of a line that are searched side by side


def make_window_gather(itemsize):
    """The kernel of y = x at positions; operands x, positions, y."""
    item = np.dtype(f"u{itemsize}").type

    def window_gather(args, lo, hi, task):
        plane, count = load_int64(args, PLANE), load_int64(args, COUNT)
        for row in range(lo, hi):
            places = load_int64(args, 1) + row * count * 8
            if not all_plain(places, count, plane):
                store_int64(load_int64(args, FAILED), 0, 1)
                return
            source = array_at(load_int64(args, 0) + row * plane * itemsize, plane, item)
            target = array_at(load_int64(args, 2) + row * count * itemsize, count, item)
            positions = int64_at(places, count)
            for j in range(count):
                target[j] = source[positions[j]]

    return window_gather


def make_window_put(itemsize):
    """The kernel of zeros with y at positions, of equal ones the last; operands y, positions, x."""
    item = np.dtype(f"u{itemsize}").type

    def window_put(args, lo, hi, task):
        plane, count = load_int64(args, PLANE), load_int64(args, COUNT)
        for row in range(lo, hi):
            places = load_int64(args, 1) + row * count * 8
            if not all_plain(places, count, plane):
                store_int64(load_int64(args, FAILED), 0, 1)
                return
            source = array_at(load_int64(args, 0) + row * count * itemsize, count, item)
            target = array_at(load_int64(args, 2) + row * plane * itemsize, plane, item)
            for j in range(plane):
                target[j] = item(0)
            positions = int64_at(places, count)
            for j in range(count):
                target[positions[j]] = source[j]

    return window_put


def make_fractional_max_pool(dtype):
    """The kernel of maxima over windows at random places; operands x, samples, values, positions."""
    real, size = np.dtype(dtype).type, np.dtype(dtype).itemsize

    @subroutine
    def axis_of(args, axis, samples):
        """What places windows along an axis: (random number, distance, number of windows - 1, last place)."""
        last = load_int64(args, SIZES + axis) - load_int64(args, KERNELS + axis)
        others = load_int64(args, COUNTS + axis) - 1
        u = array_at(samples, 1, real)[load_int64(args, SAMPLES + axis)]
        return u, real(last / max(others, 1)), others, last

    @subroutine
    def start_of(places, window):
        """Where a window begins along an axis."""
        u, alpha, others, last = places
        return np.int64((real(window) + u) * alpha) - np.int64(u * alpha) if window < others else last

    @subroutine(noalias=True)
    def tap(x, starts, position, values, places, n, is_first):
        """One element of each of n windows of a line; of several NaN the last one wins."""
        for w in range(n):
            value, best, place = x[starts[w]], values[w], places[w]
            wins = (value > best) | (value != value) | is_first
            values[w] = value if wins else best
            places[w] = position + starts[w] if wins else place

    def fractional_max_pool(args, lo, hi, task):
        height, width = load_int64(args, SIZES + 1), load_int64(args, SIZES + 2)
        depths, heights = load_int64(args, KERNELS), load_int64(args, KERNELS + 1)
        widths = load_int64(args, KERNELS + 2)
        rows, columns = load_int64(args, COUNTS + 1), load_int64(args, COUNTS + 2)
        lines = load_int64(args, COUNTS) * rows
        plane = load_int64(args, SIZES) * height * width
        starts = int64_at(stack_int64(_WINDOWS), _WINDOWS)
        for row in range(lo, hi):
            x, y = load_int64(args, 0) + row * plane * size, row * lines * columns
            samples = load_int64(args, 1) + row * load_int64(args, RANK) * size
            deep, down, across = (
                axis_of(args, 0, samples),
                axis_of(args, 1, samples),
                axis_of(args, 2, samples),
            )
            for block in range(0, columns, _WINDOWS):
                n = min(_WINDOWS, columns - block)
                for w in range(n):
                    starts[w] = start_of(across, block + w)
                for line in range(lines):
                    d, h = start_of(deep, line // rows), start_of(down, line % rows)
                    place = y + line * columns + block
                    values = array_at(load_int64(args, 2) + place * size, n, real)
                    places = int64_at(load_int64(args, 3) + place * 8, n)
                    for k in range(depths * heights * widths):
                        q, r = k // widths, k % widths
                        first = ((d + q // heights) * height + h + q % heights) * width + r
                        tap(array_at(x + first * size, plane, real), starts, first, values, places, n, k == 0)

    return fractional_max_pool
