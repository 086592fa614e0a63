"""Copies between layouts: contiguous lines, and transposes in blocks that stay in the first-level cache."""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import load_int64, uint32_at, uint64_at
from nbdl.kernels.cpu.microkernel import tile_shape, transpose_kernel

# Words of the argument block, behind the operands x and y. Strides count elements. Along the columns y is
# contiguous; x is contiguous along the columns, or along the rows (a transpose), or not at all.
(
    COLUMNS,
    ROWS,
    X_ROW,
    X_COLUMN,
    Y_ROW,
    BLOCK,  # rows that are copied together
    OUTER,  # number of further axes
    DIMS,  # their lengths, then strides of x, then strides of y: MAX_OUTER words each
) = range(2, 10)
MAX_OUTER = 6


def make_copy(itemsize):
    """The kernel for items of 4 or 8 bytes; its rows are blocks of rows of all planes."""
    dtype = np.dtype(np.float32 if itemsize == 4 else np.float64)  # moved as bits: nothing is computed
    lanes = tile_shape(dtype).lanes
    view = uint32_at if itemsize == 4 else uint64_at
    transpose = transpose_kernel(dtype)

    @subroutine
    def transpose_block(x, x_column, y, y_row, rows, columns):
        whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes
        for j in range(0, whole_columns, lanes):
            for i in range(0, whole_rows, lanes):
                transpose(x + (j * x_column + i) * itemsize, x_column, y + (i * y_row + j) * itemsize, y_row)
        for i in range(rows):
            for j in range(whole_columns if i < whole_rows else 0, columns):
                view(y + (i * y_row + j) * itemsize, 1)[0] = view(x + (j * x_column + i) * itemsize, 1)[0]

    @subroutine
    def copy_lines(x, x_row, x_column, y, y_row, rows, columns):
        for i in range(rows):
            target = view(y + i * y_row * itemsize, columns)
            if x_column == 1:
                source = view(x + i * x_row * itemsize, columns)
                for j in range(columns):
                    target[j] = source[j]
            else:
                for j in range(columns):
                    target[j] = view(x + (i * x_row + j * x_column) * itemsize, 1)[0]

    def copy_planes(args, lo, hi, task):
        columns, rows, block = load_int64(args, COLUMNS), load_int64(args, ROWS), load_int64(args, BLOCK)
        x_row, x_column = load_int64(args, X_ROW), load_int64(args, X_COLUMN)
        y_row, outer = load_int64(args, Y_ROW), load_int64(args, OUTER)
        blocks = (rows + block - 1) // block
        for unit in range(lo, hi):
            first, rest = unit % blocks * block, unit // blocks
            x, y = first * x_row, first * y_row
            count = min(block, rows - first)
            for axis in range(outer - 1, -1, -1):
                length = load_int64(args, DIMS + axis)
                x += rest % length * load_int64(args, DIMS + MAX_OUTER + axis)
                y += rest % length * load_int64(args, DIMS + 2 * MAX_OUTER + axis)
                rest //= length
            x, y = load_int64(args, 0) + x * itemsize, load_int64(args, 1) + y * itemsize
            if x_row == 1 and x_column != 1:
                transpose_block(x, x_column, y, y_row, count, columns)
            else:
                copy_lines(x, x_row, x_column, y, y_row, count, columns)

    return copy_planes
