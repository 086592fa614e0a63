"""Elements read from computed places, on the CPU: rows at index tensors, and an index for every element."""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.lines import FAILURE, LENGTH, SIZE, axis_step, make_line_kernel
from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64, store_int64

MAX_INDICES = 4
MAX_LOOPS = 4
MAX_OPERANDS = MAX_INDICES + 3
# Words of the argument block of kernels with index tensors, behind the operands. Strides count elements. What
# is selected is a nest of three loops: outer axes of x, places, inner axes of x.
(
    COUNT,  # of places
    COLUMNS,  # elements of the inner loop
    X_COLUMN,
    OUTER,  # number of outer loops
    FAILED,  # address of the word that is set to 1 where an index is out of range
    VALUES_PLACE,  # of the values that are written
    VALUES_COLUMN,
    BLOCK,  # columns that are written by one row of the kernel
) = range(MAX_OPERANDS, MAX_OPERANDS + 8)
INDEX_STRIDES = BLOCK + 1  # a word an index
INDEX_SIZES = INDEX_STRIDES + MAX_INDICES  # lengths of the axes they index
INDEX_STEPS = INDEX_SIZES + MAX_INDICES  # strides of x along them
OUTER_LENGTHS = INDEX_STEPS + MAX_INDICES
X_OUTER = OUTER_LENGTHS + MAX_LOOPS
VALUES_OUTER = X_OUTER + MAX_LOOPS


@subroutine
def outer_offset(args, number, strides):
    """Elements from the start of an operand to where the outer loops stand at their ``number``-th step."""
    offset = 0
    for loop in range(load_int64(args, OUTER) - 1, -1, -1):
        length = load_int64(args, OUTER_LENGTHS + loop)
        offset += number % length * load_int64(args, strides + loop)
        number //= length
    return offset


@subroutine
def all_plain(index, n, size):
    """Whether n contiguous indices lie in [0, size), which nearly all do: then a loop need not look."""
    indices = int64_at(index, n)
    outside = False
    for j in range(n):
        outside |= np.uint64(indices[j]) >= np.uint64(size)
    return not outside


def make_place(indices, operand):
    """The function of (args, i): elements of x to place i, and whether all indices are in range.

    Args:
        indices: How many index tensors.
        operand: The number of the first of them.
    """

    @subroutine
    def place(args, i):
        offset, fits = 0, True
        for k in range(indices):
            size = load_int64(args, INDEX_SIZES + k)
            stride = load_int64(args, INDEX_STRIDES + k)
            index = int64_at(load_int64(args, operand + k) + 8 * i * stride, 1)[0]
            index += size if index < 0 else 0
            inside = (index >= 0) & (index < size)
            fits &= inside
            offset += (index if inside else 0) * load_int64(args, INDEX_STEPS + k)
        return offset, fits

    return place


def make_select(itemsize, indices):
    """The kernel of x at index tensors; its rows are the places. Operands: x, indices (int64), y, contiguous.

    Negative indices count from the end. For one out of range element 0 is taken, and failure reported.

    Args:
        itemsize: Bytes of an element: 1, 2, 4 or 8.
        indices: How many index tensors.
    """
    item = np.dtype(f"u{itemsize}").type

    place = make_place(indices, 1)

    @subroutine
    def select_elements(args, x, y, first, count):
        """One element a place: a loop without calls."""
        target = array_at(y, count, item)
        index_step = 8 * load_int64(args, INDEX_STRIDES)
        index = load_int64(args, 1) + first * index_step
        size, step = load_int64(args, INDEX_SIZES), load_int64(args, INDEX_STEPS) * itemsize
        if index_step == 8 and all_plain(index, count, size):
            positions = int64_at(index, count)
            for i in range(count):
                target[i] = array_at(x + positions[i] * step, 1, item)[0]
            return True
        fits = True
        for i in range(count):
            position = int64_at(index + i * index_step, 1)[0]
            position += size if position < 0 else 0
            inside = (position >= 0) & (position < size)
            fits &= inside
            target[i] = array_at(x + (position if inside else 0) * step, 1, item)[0]
        return fits

    @subroutine
    def select_rows(args, x, y, first, count):
        columns, step = load_int64(args, COLUMNS), load_int64(args, X_COLUMN)
        fits = True
        for i in range(count):
            offset, inside = place(args, first + i)
            fits &= inside
            source, target = x + offset * itemsize, array_at(y + i * columns * itemsize, columns, item)
            if step == 1:
                row = array_at(source, columns, item)
                for j in range(columns):
                    target[j] = row[j]
            else:
                for j in range(columns):
                    target[j] = array_at(source + j * step * itemsize, 1, item)[0]
        return fits

    def select(args, lo, hi, task):
        count, columns = load_int64(args, COUNT), load_int64(args, COLUMNS)
        fits = True
        unit = lo
        while unit < hi:
            outer = unit // count
            first = unit - outer * count
            n = min(count - first, hi - unit)
            x = load_int64(args, 0) + outer_offset(args, outer, X_OUTER) * itemsize
            y = load_int64(args, 1 + indices) + unit * columns * itemsize
            if indices == 1 and columns == 1:
                fits &= select_elements(args, x, y, first, n)
            else:
                fits &= select_rows(args, x, y, first, n)
            unit += n
        if not fits:
            store_int64(load_int64(args, FAILED), 0, 1)

    return select


def make_gather(itemsize, across):
    """The kernel of y[i, j] = x[i, index[i, j]]. Operands: x, index, y.

    Args:
        itemsize: Bytes of an element: 1, 2, 4 or 8.
        across: Whether it runs across lines.
    """
    item = np.dtype(f"u{itemsize}").type

    @subroutine
    def gather(x, x_step, x_column, index, index_step, y, y_step, size, n):
        if index_step == 8 and y_step == itemsize and all_plain(index, n, size):
            positions, target = int64_at(index, n), array_at(y, n, item)
            for j in range(n):
                target[j] = array_at(x + j * x_column + positions[j] * x_step, 1, item)[0]
            return True
        fits = True
        for j in range(n):
            position = int64_at(index + j * index_step, 1)[0]
            position += size if position < 0 else 0
            inside = (position >= 0) & (position < size)
            fits &= inside
            source = x + j * x_column + (position if inside else 0) * x_step
            array_at(y + j * y_step, 1, item)[0] = array_at(source, 1, item)[0]
        return fits

    @subroutine
    def run(args, x, index, y, width, task):
        x_step, index_step, y_step = axis_step(args, 0), axis_step(args, 1), axis_step(args, 2)
        n, size = load_int64(args, LENGTH), load_int64(args, SIZE)
        fits = True
        if across:
            for i in range(n):
                fits &= gather(
                    x, x_step * itemsize, itemsize, index + i * index_step * 8, 8,
                    y + i * y_step * itemsize, itemsize, size, width,
                )  # fmt: skip
        else:
            fits = gather(x, x_step * itemsize, 0, index, index_step * 8, y, y_step * itemsize, size, n)
        if not fits:
            store_int64(load_int64(args, FAILURE), 0, 1)

    return make_line_kernel((itemsize, 8, itemsize), run)
