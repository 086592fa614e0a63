"""Sums and means of the rows of a table over bags of indices, on the CPU, and the gradient by the table.

Indices are all bags one behind the other. The bags have one length, or begin where a vector says; the last
one ends with the indices. Negative indices count from the end of the table.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64, store_int64

MAX_OPERANDS = 4
(
    COUNT,  # of all indices
    BAGS,
    LENGTH,  # of every bag, if they have one length
    ROWS,  # of the table
    COLUMNS,  # of the table
    PADDING,  # the row that does not count, -1: there is none
    MEAN,  # divide by the number of indices that count
    FAILED,  # address of the word that is set to 1 where an index is out of range
) = range(MAX_OPERANDS, MAX_OPERANDS + 8)
BLOCK = 16  # columns of the gradient that one task takes


@subroutine
def _start(args, bag, has_starts):
    """Where a bag begins, within the indices."""
    if not has_starts:
        return bag * load_int64(args, LENGTH)
    count = load_int64(args, COUNT)
    if bag == load_int64(args, BAGS):
        return count
    return min(max(load_int64(load_int64(args, 2), bag), 0), count)


@subroutine
def _row(args, place):
    """The row of the table for an index, the number of rows if it is out of range."""
    rows = load_int64(args, ROWS)
    row = load_int64(load_int64(args, 1), place)
    row += rows if row < 0 else 0
    return row if (row >= 0) & (row < rows) else rows


@subroutine
def _share(args, first, last):
    """The factor of a row in its bag."""
    counted, padding = 0, load_int64(args, PADDING)
    if load_int64(args, MEAN) == 0:
        return 1.0
    for place in range(first, last):
        counted += _row(args, place) != padding
    return 1.0 / float(max(counted, 1))


def _row_operations(dtype):
    """Subroutines on n numbers at an address: zeros, adding others times a factor, scaling."""
    view, zero = float32_at if np.dtype(dtype).itemsize == 4 else float64_at, np.dtype(dtype).type(0)

    @subroutine
    def clear(target, n):
        values = view(target, n)
        for j in range(n):
            values[j] = zero

    @subroutine
    def add(source, target, factor, n):
        row, total = view(source, n), view(target, n)
        for j in range(n):
            total[j] += factor * row[j]

    @subroutine
    def scale(target, factor, n):
        values = view(target, n)
        for j in range(n):
            values[j] *= factor

    return clear, add, scale


def make_embedding_bag(dtype, has_starts):
    """The kernel of the forward pass: operands table, indices, starts?, result. Rows: bags."""
    size, real = np.dtype(dtype).itemsize, np.dtype(dtype).type
    clear, add, scale = _row_operations(dtype)
    one = real(1)

    def embedding_bag(args, lo, hi, task):
        rows, n, padding = load_int64(args, ROWS), load_int64(args, COLUMNS), load_int64(args, PADDING)
        fits = True
        for bag in range(lo, hi):
            target = load_int64(args, 3 if has_starts else 2) + bag * n * size
            first, last = _start(args, bag, has_starts), _start(args, bag + 1, has_starts)
            clear(target, n)
            for place in range(first, last):
                row = _row(args, place)
                fits &= row < rows
                if (row < rows) & (row != padding):
                    add(load_int64(args, 0) + row * n * size, target, one, n)
            if load_int64(args, MEAN):
                scale(target, real(_share(args, first, last)), n)
        if not fits:
            store_int64(load_int64(args, FAILED), 0, 1)

    return embedding_bag


def make_embedding_bag_input(dtype, has_starts):
    """The gradient by the table: operands g, indices, starts?, gradient. Rows: blocks of its columns."""
    size, real = np.dtype(dtype).itemsize, np.dtype(dtype).type
    clear, add, _ = _row_operations(dtype)

    def embedding_bag_input(args, lo, hi, task):
        rows, n, padding = load_int64(args, ROWS), load_int64(args, COLUMNS), load_int64(args, PADDING)
        column = lo * BLOCK
        width = min(hi * BLOCK, n) - column
        source, target = load_int64(args, 0) + column * size, load_int64(args, 3 if has_starts else 2)
        target += column * size
        for row in range(rows):
            clear(target + row * n * size, width)
        for bag in range(load_int64(args, BAGS)):
            first, last = _start(args, bag, has_starts), _start(args, bag + 1, has_starts)
            share = real(_share(args, first, last))
            for place in range(first, last):
                row = _row(args, place)
                if (row < rows) & (row != padding):
                    add(source + bag * n * size, target + row * n * size, share, width)

    return embedding_bag_input
