"""General matrix multiplication on the CPU: C = A @ B, + bias, + C.

The loops follow Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 34(3),
2008): a block of B is packed into panels that stay in the second-level cache, a block of A is packed if its
layout is unkind to the caches, and the micro-kernel (`nbdl.kernels.cpu.microkernel`) runs over the tiles of
C. Operands with any strides are read in place where that is quicker than packing, so no transpose is ever
copied by the caller.

The work is cut into units: every matrix of a batch into blocks of `ROW_STEP` x `COLUMN_STEP` elements of C.
The `[lo, hi)` of a kernel counts units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from nbdl.kernels.cpu.memory import call_kernel, float32_at, float64_at, load_int64
from nbdl.kernels.cpu.microkernel import copy_kernel, tile_caller, tile_shape, transpose_kernel

# Words of the argument block. Words 0 to 3 are the data addresses: A, B, C, or A, B, bias, C; with B before
# A, where SWAPPED is 1. Strides count elements. A bias is added to every row; the columns of C and of the
# bias are adjacent.
(
    START,  # one of START_ZERO, START_BIAS, START_C: what the product is added to
    START_ROW,  # stride of the bias along the rows of C (0; 1 where C is a column)
    ROWS,
    COLUMNS,
    DEPTH,  # at least 1
    A_ROW,
    A_DEPTH,
    B_DEPTH,
    B_COLUMN,
    C_ROW,
    INNER_BATCH,  # length of the inner of two batch axes
    A_OUTER,  # strides along the outer batch axis
    B_OUTER,
    C_OUTER,
    A_INNER,  # strides along the inner batch axis
    B_INNER,
    C_INNER,
    ROW_STEP,
    COLUMN_STEP,  # all columns, if there is an epilogue
    SCRATCH,  # address of scratch memory, aligned to 64 bytes
    SCRATCH_STRIDE,  # bytes of scratch for each task: `scratch_bytes(dtype)`
    TILES,  # address of the dtype's table of micro-kernels (`make_tile_table`)
    EPILOGUE,  # address of a kernel that is called on finished rows (counted over the batch) of C, or 0
    EPILOGUE_ARGS,  # address of its argument block
    SWAPPED,
) = range(4, 29)
WORDS = 29

START_ZERO, START_BIAS, START_C = range(3)

_OPTIONS = {
    "error_model": "numpy",
    "fastmath": {"nsz", "arcp", "contract", "reassoc"},
    "no_cpython_wrapper": True,  # called from kernels only
    "no_cfunc_wrapper": True,
}
_PADDING = 16  # elements between packed rows of A, so that they do not share cache sets
_CONFLICT = 512  # rows a multiple of so many bytes apart share few cache sets
_VECTOR_BLOCK = 2048  # elements of a column of C that stay in the first-level cache


class Blocking(NamedTuple):
    """Sizes of the blocks that are packed.

    The block of B (`depth` x `columns`) takes three quarters of a second-level cache of 1 MiB with AVX-512,
    less with narrower vectors, and the block of A (`rows` x `depth`) a part of the rest. Long sums per tile
    (a large `depth`) spare loads and stores of C, whose rows may be a cache-hostile distance apart.
    """

    depth: int
    columns: int
    rows: int


def blocking(dtype) -> Blocking:
    """Block sizes for a dtype; the same in bytes for every dtype."""
    shape = tile_shape(dtype)
    return Blocking(depth=512, columns=12 * shape.columns, rows=8 * shape.rows)


def scratch_bytes(dtype) -> int:
    """Bytes of scratch memory for one task, a multiple of 64: a packed block of B and one of A."""
    block = blocking(dtype)
    elements = block.depth * block.columns + block.rows * (block.depth + _PADDING)
    return -(-elements * np.dtype(dtype).itemsize // 64) * 64


def make_gemm(dtype):
    """The kernel `gemm(args, lo, hi, task)` for float32 or float64; the words of `args` are listed above."""
    size = np.dtype(dtype).itemsize
    block_depth, block_columns, block_rows = blocking(dtype)
    shape = tile_shape(dtype)
    tile_rows, lanes, panel = shape.rows, shape.lanes, shape.columns
    scratch_b = block_depth * block_columns * size
    tile, copy_row, transpose = tile_caller(dtype), copy_kernel(dtype), transpose_kernel(dtype)
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @njit(**_OPTIONS)
    def copy(source, source_stride, target, target_stride, count):
        """Copies `count` elements from one strided row to another."""
        s, t = view(source, count * source_stride), view(target, count * target_stride)
        for k in range(count):
            t[np.uint64(k * target_stride)] = s[np.uint64(k * source_stride)]

    @njit(**_OPTIONS)
    def pack_b(b, b_depth, b_column, depth, columns, packed):
        """B[depth, columns] into panels of shape [depth, panel], one behind the other."""
        for j in range(0, columns, lanes):
            source = b + j * b_column * size
            target = packed + (j // panel * panel * depth + j % panel) * size
            width = min(lanes, columns - j)
            done = 0
            if b_column == 1:
                if j % panel != 0 and columns // panel > j // panel:
                    continue  # copied with the first half of the panel
                if columns - j >= panel:
                    for p in range(depth):
                        copy_row(source + p * b_depth * size, target + p * panel * size)
                    continue
                for p in range(depth):
                    copy(source + p * b_depth * size, 1, target + p * panel * size, 1, width)
                continue
            if b_depth == 1 and width == lanes:
                done = depth // lanes * lanes
                for p in range(0, done, lanes):
                    transpose(source + p * size, b_column, target + p * panel * size, panel)
            for p in range(done, depth):
                copy(source + p * b_depth * size, b_column, target + p * panel * size, 1, width)

    @njit(**_OPTIONS)
    def multiply_block(
        tiles, a, a_row, a_depth, b, b_depth, b_panel, c, c_row, start, start_row, rows, columns, depth
    ):
        """Tiles of one block of C; `b_panel` is the stride from one panel of B to the next."""
        for j in range(0, columns, panel):
            width = min(panel, columns - j)
            i = 0
            while i < rows:
                height = rows - i
                if height > tile_rows:  # no last tile of a few rows: they leave the multipliers idle
                    height = tile_rows if height >= 2 * tile_rows else (height + 1) // 2
                first = start
                if start != 0:
                    first = start + (i * start_row + j) * size
                a_tile = a + i * a_row * size
                b_tile = b + j // panel * b_panel * size
                c_tile = c + (i * c_row + j) * size
                tile(tiles, height, width, a_tile, a_row, a_depth, b_tile, b_depth, c_tile, c_row,
                     first, start_row, depth, 1, 0, 0)  # fmt: skip
                i += height

    @njit(**_OPTIONS)
    def multiply(tiles, a, a_row, a_depth, b, b_depth, b_column, c, c_row, start, start_row,
                 rows, columns, depth, scratch, epilogue, epilogue_args, first_row, task):  # fmt: skip
        """One unit: C = start + A @ B, blocked for the caches."""
        packed_a = scratch + scratch_b
        depth_blocks = (depth + block_depth - 1) // block_depth
        direct_b = b_column == 1 and rows <= 6 * tile_rows
        if direct_b:
            column_step = columns
        else:
            column_step = block_columns
        row_bytes = a_row * size if a_depth == 1 else a_depth * size
        pack_a = columns > 2 * panel and rows > 1 and (
            (a_row != 1 and a_depth != 1) or row_bytes % _CONFLICT == 0)  # fmt: skip
        for j in range(0, columns, column_step):
            width = min(column_step, columns - j)
            for block in range(depth_blocks):
                p = block * depth // depth_blocks
                length = (block + 1) * depth // depth_blocks - p
                b_block, b_row, b_panel = b + (p * b_depth + j * b_column) * size, b_depth, panel
                if not direct_b:
                    pack_b(b_block, b_depth, b_column, length, width, scratch)
                    b_block, b_row, b_panel = scratch, panel, length * panel
                for i in range(0, rows, block_rows):
                    height = min(block_rows, rows - i)
                    a_block, row, column = a + (i * a_row + p * a_depth) * size, a_row, a_depth
                    if pack_a:
                        if a_row == 1:
                            for k in range(length):
                                copy(
                                    a_block + k * a_depth * size,
                                    1,
                                    packed_a + k * block_rows * size,
                                    1,
                                    height,
                                )
                            row, column = 1, block_rows
                        else:
                            row, column = block_depth + _PADDING, 1
                            for k in range(height):
                                copy(
                                    a_block + k * a_row * size, a_depth, packed_a + k * row * size, 1, length
                                )
                        a_block = packed_a
                    c_block = c + (i * c_row + j) * size
                    first, first_stride = c_block, c_row
                    if block == 0:
                        first, first_stride = start, start_row
                        if start != 0:
                            first += (i * start_row + j) * size
                    multiply_block(tiles, a_block, row, column, b_block, b_row, b_panel, c_block, c_row,
                                   first, first_stride, height, width, length)  # fmt: skip
                    if epilogue != 0 and block == depth_blocks - 1 and j + width == columns:
                        call_kernel(epilogue, epilogue_args, first_row + i, first_row + i + height, task)

    @njit(**_OPTIONS)
    def multiply_rows_by_vector(a, a_row, b, c, c_row, start, start_row, rows, depth):
        """C[i] = start[i] + sum_p A[i, p] * b[p], rows of A contiguous."""
        vector = view(b, depth)
        for i in range(rows):
            row = view(a + i * a_row * size, depth)
            total = zero
            for p in range(depth):
                total += row[p] * vector[p]
            if start != 0:
                total += view(start + i * start_row * size, 1)[0]
            view(c + i * c_row * size, 1)[0] = total

    @njit(**_OPTIONS)
    def multiply_columns_by_vector(a, a_depth, b, b_depth, c, start, start_row, rows, depth):
        """C += sum_p A[:, p] * b[p], columns of A and C contiguous; four columns at a time."""
        for i in range(0, rows, _VECTOR_BLOCK):
            count = min(_VECTOR_BLOCK, rows - i)
            target = view(c + i * size, count)
            if start == 0:
                for k in range(count):
                    target[k] = zero
            elif start != c:
                copy(start + i * start_row * size, start_row, c + i * size, 1, count)
            factors = view(b, depth * b_depth)
            quads = depth // 4 * 4
            for p in range(0, quads, 4):
                column = a + (i + p * a_depth) * size
                x0, x1 = view(column, count), view(column + a_depth * size, count)
                x2, x3 = view(column + 2 * a_depth * size, count), view(column + 3 * a_depth * size, count)
                f0, f1 = factors[np.uint64(p * b_depth)], factors[np.uint64((p + 1) * b_depth)]
                f2, f3 = factors[np.uint64((p + 2) * b_depth)], factors[np.uint64((p + 3) * b_depth)]
                for k in range(count):
                    target[k] += (x0[k] * f0 + x1[k] * f1) + (x2[k] * f2 + x3[k] * f3)
            for p in range(quads, depth):
                x0 = view(a + (i + p * a_depth) * size, count)
                f0 = factors[np.uint64(p * b_depth)]
                for k in range(count):
                    target[k] += x0[k] * f0

    def gemm(args, lo, hi, task):
        swapped = load_int64(args, SWAPPED)
        a, b = load_int64(args, swapped), load_int64(args, 1 - swapped)
        start_kind, start_row = load_int64(args, START), load_int64(args, START_ROW)
        c = load_int64(args, 3 if start_kind == START_BIAS else 2)
        bias = load_int64(args, 2)
        rows, columns, depth = load_int64(args, ROWS), load_int64(args, COLUMNS), load_int64(args, DEPTH)
        a_row, a_depth = load_int64(args, A_ROW), load_int64(args, A_DEPTH)
        b_depth, b_column = load_int64(args, B_DEPTH), load_int64(args, B_COLUMN)
        c_row = load_int64(args, C_ROW)
        row_step, column_step = load_int64(args, ROW_STEP), load_int64(args, COLUMN_STEP)
        scratch = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        tiles = load_int64(args, TILES)
        epilogue, epilogue_args = load_int64(args, EPILOGUE), load_int64(args, EPILOGUE_ARGS)
        inner = load_int64(args, INNER_BATCH)
        row_units = (rows + row_step - 1) // row_step
        column_units = (columns + column_step - 1) // column_step
        units = row_units * column_units
        for unit in range(lo, hi):
            matrix = unit // units
            outer_index, inner_index = matrix // inner, matrix % inner
            i = unit % units // column_units * row_step
            j = unit % column_units * column_step
            height, width = min(row_step, rows - i), min(column_step, columns - j)
            a_unit = a + (outer_index * load_int64(args, A_OUTER) + inner_index * load_int64(args, A_INNER)
                          + i * a_row) * size  # fmt: skip
            b_unit = b + (outer_index * load_int64(args, B_OUTER) + inner_index * load_int64(args, B_INNER)
                          + j * b_column) * size  # fmt: skip
            c_unit = c + (outer_index * load_int64(args, C_OUTER) + inner_index * load_int64(args, C_INNER)
                          + i * c_row + j) * size  # fmt: skip
            start = 0
            if start_kind == START_C:
                start = c_unit
                start_row = c_row
            elif start_kind == START_BIAS:
                start = bias + (i * start_row + j) * size
            first_row = matrix * rows + i
            if columns == 1 and a_depth == 1 and b_depth == 1:
                multiply_rows_by_vector(a_unit, a_row, b_unit, c_unit, c_row, start, start_row, height, depth)
            elif columns == 1 and a_row == 1 and c_row == 1:
                multiply_columns_by_vector(
                    a_unit, a_depth, b_unit, b_depth, c_unit, start, start_row, height, depth
                )
            else:
                multiply(tiles, a_unit, a_row, a_depth, b_unit, b_depth, b_column, c_unit, c_row, start,
                         start_row, height, width, depth, scratch, epilogue, epilogue_args, first_row,
                         task)  # fmt: skip
                continue
            if epilogue != 0:
                call_kernel(epilogue, epilogue_args, first_row, first_row + height, task)

    return gemm
