"""Windows of images as columns, and columns added up as images, on the CPU.

Images are planes (height, width), columns (taps, windows), both in row-major order; rows of the
kernels are planes.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64

(
    HEIGHT,
    WIDTH,
    TAPS_DOWN,
    TAPS_ACROSS,
    STRIDE_DOWN,
    STRIDE_ACROSS,
    BEFORE_DOWN,  # padding
    BEFORE_ACROSS,
    GAP_DOWN,  # dilation
    GAP_ACROSS,
    COUNT_DOWN,  # windows
    COUNT_ACROSS,
) = range(2, 14)


@subroutine
def _first(shift, stride):
    """The first window whose tap, at ``window * stride + shift``, is not in front of the image."""
    return max(0, -(shift // stride))


@subroutine
def _behind(shift, stride, size, count):
    """Behind the last window whose tap is not behind the image."""
    return min(count, (size - 1 - shift) // stride + 1)


def make_unfold(dtype, transposed):
    """The kernel of all windows as columns: operands images, columns; `transposed` columns, images.

    Args:
        dtype: float32 or float64.
        transposed: Add the columns up where they came from.
    """
    size, view = np.dtype(dtype).itemsize, float32_at if np.dtype(dtype).itemsize == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine
    def clear(x, n):
        values = view(x, n)
        for k in range(n):
            values[k] = zero

    @subroutine
    def copy_line(source, step, target, n):
        values = view(target, n)
        if step == 1:
            line = view(source, n)
            for k in range(n):
                values[k] = line[k]
        else:
            for k in range(n):
                values[k] = view(source + k * step * size, 1)[0]

    @subroutine
    def add_line(source, target, step, n):
        values = view(source, n)
        if step == 1:
            line = view(target, n)
            for k in range(n):
                line[k] += values[k]
        else:
            for k in range(n):
                view(target + k * step * size, 1)[0] += values[k]

    @subroutine
    def tap(args, image, column, i, j):
        """One tap of all windows of a plane."""
        height, width = load_int64(args, HEIGHT), load_int64(args, WIDTH)
        down, across = load_int64(args, STRIDE_DOWN), load_int64(args, STRIDE_ACROSS)
        rows, columns = load_int64(args, COUNT_DOWN), load_int64(args, COUNT_ACROSS)
        row_shift = i * load_int64(args, GAP_DOWN) - load_int64(args, BEFORE_DOWN)
        shift = j * load_int64(args, GAP_ACROSS) - load_int64(args, BEFORE_ACROSS)
        first, behind = _first(shift, across), _behind(shift, across, width, columns)
        n = max(0, behind - first)
        for o in range(rows):
            row, line = o * down + row_shift, column + o * columns * size
            inside = (row >= 0) & (row < height)
            place = image + (row * width + first * across + shift) * size
            if transposed:
                if inside:
                    add_line(line + first * size, place, across, n)
            elif inside & (n > 0):
                clear(line, first)
                copy_line(place, across, line + first * size, n)
                clear(line + behind * size, columns - behind)
            else:
                clear(line, columns)

    def unfold(args, lo, hi, task):
        plane = load_int64(args, HEIGHT) * load_int64(args, WIDTH)
        down, across = load_int64(args, TAPS_DOWN), load_int64(args, TAPS_ACROSS)
        windows = load_int64(args, COUNT_DOWN) * load_int64(args, COUNT_ACROSS)
        for number in range(lo, hi):
            image = load_int64(args, 1 if transposed else 0) + number * plane * size
            column = load_int64(args, 0 if transposed else 1) + number * down * across * windows * size
            if transposed:
                clear(image, plane)
            for k in range(down * across):
                tap(args, image, column + k * windows * size, k // across, k % across)

    return unfold
