"""Rows added at computed places, on the CPU: the gradient of an embedding."""

from __future__ import annotations

from numba import njit

from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64

# Words of the argument block, behind the operands x, values, index (int64, contiguous) and x again.
# Strides count elements.
(
    ROWS,  # of x
    COLUMNS,
    X_ROW,  # stride from row to row
    COUNT,  # of indices
    VALUES_ROW,
    VALUES_COLUMN,
) = range(4, 10)
BLOCK = 64  # columns that one task adds

_OPTIONS = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def make_add_rows(dtype):
    """The kernel of x[index] += values for rows; its own rows are blocks of columns.

    A task has some columns of all rows, so equal indices do not meet, and add up in their order. Negative
    indices count from the end; one out of range is passed over, since a kernel raises nothing.
    """
    kind, itemsize = dtype.type, dtype.itemsize

    @njit(**_OPTIONS)
    def add_row(x, values, values_column, n):
        target = array_at(x, n, kind)
        if values_column == 1:
            source = array_at(values, n, kind)
            for j in range(n):
                target[j] += source[j]
        else:
            for j in range(n):
                target[j] += array_at(values + j * values_column * itemsize, 1, kind)[0]

    def add_rows(args, lo, hi, task):
        rows, columns, x_row = load_int64(args, ROWS), load_int64(args, COLUMNS), load_int64(args, X_ROW)
        values_row, values_column = load_int64(args, VALUES_ROW), load_int64(args, VALUES_COLUMN)
        first = lo * BLOCK
        n = min(hi * BLOCK, columns) - first
        x = load_int64(args, 0) + first * itemsize
        values = load_int64(args, 1) + first * values_column * itemsize
        count = load_int64(args, COUNT)
        index = int64_at(load_int64(args, 2), count)
        for i in range(count):
            row = index[i] + rows if index[i] < 0 else index[i]
            if 0 <= row < rows:
                add_row(x + row * x_row * itemsize, values + i * values_row * itemsize, values_column, n)

    return add_rows
