"""Arrays put together on the CPU: joined along an axis, or set in a frame."""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import array_at, load_int64

MAX_AXES = 5
# Words of the argument block of `make_pad`, behind the operands x and y (contiguous). The last axis is
# a line.
(
    VALUE,  # the bits of what the frame is filled with
    AXES,  # outer axes
    WIDTH,  # of a line of y
    BEFORE,  # it
    COLUMNS,  # of x in it
    X_COLUMN,
    LENGTHS,  # of the outer axes of y, what is before x, lengths of x, strides of x: MAX_AXES words each
) = range(2, 9)


@subroutine
def _copy(x, x_step, y, n, item, itemsize):
    target = array_at(y, n, item)
    if x_step == 1:
        source = array_at(x, n, item)
        for j in range(n):
            target[j] = source[j]
    else:
        for j in range(n):
            target[j] = array_at(x + j * x_step * itemsize, 1, item)[0]


def make_concatenate(itemsize, inputs):
    """The kernel that joins arrays whose inner axes are contiguous. Operands: the inputs, y (contiguous).

    Words behind them: chunks of a row of y, its length, the length of a chunk; then for every input its first
    element in a row of y, and its stride from row to row. Rows: chunks.

    Args:
        itemsize: Bytes of an element: 1, 2, 4 or 8.
        inputs: How many arrays are joined.
    """
    item = np.dtype(f"u{itemsize}").type
    chunks_word = inputs + 1
    first_word = inputs + 4

    def concatenate(args, lo, hi, task):
        chunks, length = load_int64(args, chunks_word), load_int64(args, chunks_word + 1)
        chunk = load_int64(args, chunks_word + 2)
        for unit in range(lo, hi):
            row = unit // chunks
            start = (unit - row * chunks) * chunk
            stop = min(start + chunk, length)
            y = load_int64(args, inputs) + row * length * itemsize
            for k in range(inputs):
                begin = load_int64(args, first_word + 2 * k)
                end = length if k == inputs - 1 else load_int64(args, first_word + 2 * k + 2)
                lower, upper = max(start, begin), min(stop, end)
                if lower < upper:
                    x = load_int64(args, k) + row * load_int64(args, first_word + 2 * k + 1) * itemsize
                    _copy(
                        x + (lower - begin) * itemsize, 1, y + lower * itemsize, upper - lower, item, itemsize
                    )

    return concatenate


def make_interleave(itemsize, inputs):
    """The kernel of rows with one element of each input. Operands: the inputs, y (contiguous).

    Words behind them: for every input its stride from row to row.

    Args:
        itemsize: Bytes of an element: 1, 2, 4 or 8.
        inputs: How many arrays are joined.
    """
    item = np.dtype(f"u{itemsize}").type

    def interleave(args, lo, hi, task):
        y = load_int64(args, inputs)
        for k in range(inputs):
            x, step = load_int64(args, k), load_int64(args, inputs + 1 + k) * itemsize
            for row in range(lo, hi):
                value = array_at(x + row * step, 1, item)[0]
                array_at(y + (row * inputs + k) * itemsize, 1, item)[0] = value

    return interleave


def make_pad(itemsize):
    """The kernel that sets x in a frame of one value. Operands: x, y (contiguous). Rows: lines of y."""
    item = np.dtype(f"u{itemsize}").type

    @subroutine
    def fill(y, n, value):
        target = array_at(y, n, item)
        for j in range(n):
            target[j] = value

    def pad(args, lo, hi, task):
        value = item(load_int64(args, VALUE))
        width, before, columns = load_int64(args, WIDTH), load_int64(args, BEFORE), load_int64(args, COLUMNS)
        for line in range(lo, hi):
            y = load_int64(args, 1) + line * width * itemsize
            rest, offset, inside = line, 0, True
            for axis in range(load_int64(args, AXES) - 1, -1, -1):
                length = load_int64(args, LENGTHS + axis)
                position = rest % length - load_int64(args, LENGTHS + MAX_AXES + axis)
                rest //= length
                inside &= (position >= 0) & (position < load_int64(args, LENGTHS + 2 * MAX_AXES + axis))
                offset += position * load_int64(args, LENGTHS + 3 * MAX_AXES + axis)
            if inside:
                x = load_int64(args, 0) + offset * itemsize
                fill(y, before, value)
                _copy(x, load_int64(args, X_COLUMN), y + before * itemsize, columns, item, itemsize)
                fill(y + (before + columns) * itemsize, width - before - columns, value)
            else:
                fill(y, width, value)

    return pad
