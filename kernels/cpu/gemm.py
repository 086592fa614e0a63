"""General matrix multiplication on the CPU: C = A @ B, + bias, + C.

The loops follow Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 34(3),
2008): a block of B is packed into panels that stay in the second-level cache, a block of A is packed if its
layout is unkind to the caches, and the micro-kernel (`nbdl.kernels.cpu.microkernel`) runs over the tiles of
C. Operands with any strides are read in place where that is quicker than packing, so no transpose is ever
copied by the caller.

A matrix times a vector has a kernel of its own, which needs neither tiles nor packing.

The work is cut into units: every matrix of a batch into blocks of `ROW_STEP` x `COLUMN_STEP` elements of C.
The `[lo, hi)` of a kernel counts units.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import call_kernel, float32_at, float64_at, load_int64
from nbdl.kernels.cpu.microkernel import copy_kernel, tile_caller, tile_shape, transpose_kernel

# Words of the argument block. Words 0 to 3 are the data addresses: A, B, C, or A, B, bias, C; with B before
# A, where SWAPPED is 1. Strides count elements. A bias is added to every row; the columns of the bias are
# adjacent. Where those of C are not, its rows are, START is START_ZERO, and
# units are computed in scratch memory.
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
    C_COLUMN,
    INNER_BATCH,  # length of the inner of two batch axes
    A_OUTER,  # strides along the outer batch axis
    B_OUTER,
    C_OUTER,
    A_INNER,  # strides along the inner batch axis
    B_INNER,
    C_INNER,
    ROW_STEP,
    COLUMN_STEP,
    SCRATCH,  # address of scratch memory, aligned to 64 bytes
    SCRATCH_STRIDE,  # bytes for each task: `scratch_bytes(dtype)`, and a unit of C where C_COLUMN is not 1
    TILES,  # address of the dtype's table of micro-kernels (`make_tile_table`)
    EPILOGUE,  # address of a kernel that is called on finished blocks of C, or 0, see `_finish`
    EPILOGUE_ARGS,  # address of its argument block
    SWAPPED,
) = range(4, 30)
WORDS = 30

START_ZERO, START_BIAS, START_C = range(3)
COLUMN_BITS = 32  # of the number of columns, in the word that an epilogue is told them by

_PADDING = 16  # elements between packed rows of A, so that they do not share cache sets
_CONFLICT = 512  # rows a multiple of so many bytes apart share few cache sets
_FEW_ROWS = 24  # that share cache sets and yet stay in the cache
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


@subroutine
def _finish(args, first_row, last_row, first_column, columns):
    """Calls the epilogue, if there is one, on a block of C while it is in the cache.

    Its rows, counted over the batch, are those of the call. In place of a task it is told the columns.
    """
    epilogue = load_int64(args, EPILOGUE)
    if epilogue != 0:
        window = first_column << COLUMN_BITS | columns
        call_kernel(epilogue, load_int64(args, EPILOGUE_ARGS), first_row, last_row, window)


@cache
def _make_copy(dtype):
    """A function that copies `count` elements of a strided row to adjacent ones."""
    view = float32_at if np.dtype(dtype).itemsize == 4 else float64_at

    @subroutine(inlined=False)
    def copy(source, stride, target, count):
        s, t = view(source, count * stride), view(target, count)
        for k in range(count):
            t[k] = s[k * stride]

    return copy


def _over_units(dtype, multiply):
    """A kernel whose rows are units.

    Args:
        dtype: float32 or float64.
        multiply: `multiply(args, a, b, c, start, start_row, rows, columns, first_row, first_column, task)`
            computes a unit, C = start + A @ B, where start is the address of what is added, or 0.
    """
    size = np.dtype(dtype).itemsize

    def gemm(args, lo, hi, task):
        swapped, inner = load_int64(args, SWAPPED), load_int64(args, INNER_BATCH)
        start_kind, start_row = load_int64(args, START), load_int64(args, START_ROW)
        rows, columns, c_row = load_int64(args, ROWS), load_int64(args, COLUMNS), load_int64(args, C_ROW)
        c_column = load_int64(args, C_COLUMN)
        row_step, column_step = load_int64(args, ROW_STEP), load_int64(args, COLUMN_STEP)
        column_units = (columns + column_step - 1) // column_step
        units = (rows + row_step - 1) // row_step * column_units
        for unit in range(lo, hi):
            matrix = unit // units
            o, n = matrix // inner, matrix % inner
            i, j = unit % units // column_units * row_step, unit % column_units * column_step
            a = o * load_int64(args, A_OUTER) + n * load_int64(args, A_INNER) + i * load_int64(args, A_ROW)
            b = o * load_int64(args, B_OUTER) + n * load_int64(args, B_INNER) + j * load_int64(args, B_COLUMN)
            c = o * load_int64(args, C_OUTER) + n * load_int64(args, C_INNER) + i * c_row + j * c_column
            a, b = load_int64(args, swapped) + a * size, load_int64(args, 1 - swapped) + b * size
            c = load_int64(args, 3 if start_kind == START_BIAS else 2) + c * size
            start = 0
            if start_kind == START_C:
                start, start_row = c, c_row
            elif start_kind == START_BIAS:
                start = load_int64(args, 2) + (i * start_row + j) * size
            height, width = min(row_step, rows - i), min(column_step, columns - j)
            multiply(args, a, b, c, start, start_row, height, width, matrix * rows + i, j, task)

    return gemm


def make_gemm(dtype):
    """The kernel `gemm(args, lo, hi, task)` for float32 or float64; the words of `args` are listed above."""
    size = np.dtype(dtype).itemsize
    block_depth, block_columns, block_rows = blocking(dtype)
    shape = tile_shape(dtype)
    tile_rows, lanes, panel = shape.rows, shape.lanes, shape.columns
    scratch_b = block_depth * block_columns * size
    tile, copy_row, transpose = tile_caller(dtype), copy_kernel(dtype), transpose_kernel(dtype)
    copy = _make_copy(dtype)
    scratch = scratch_bytes(dtype)

    @subroutine
    def pack_b(b, b_depth, b_column, depth, columns, packed):
        """B[depth, columns] into panels of shape [depth, panel], one behind the other."""
        for j in range(0, columns, panel):
            source, target = b + j * b_column * size, packed + j * depth * size
            width, done, whole = min(panel, columns - j), 0, 0
            if b_column == 1 and width == panel:
                for p in range(depth):
                    copy_row(source + p * b_depth * size, target + p * panel * size)
                continue
            if b_depth == 1:
                done, whole = depth // lanes * lanes, width // lanes * lanes
            for i in range(0, whole, lanes):
                for p in range(0, done, lanes):
                    transpose(
                        source + (i * b_column + p) * size, b_column, target + (p * panel + i) * size, panel
                    )
            for p in range(0 if whole < width else done, depth):
                first = whole if p < done else 0
                copy(source + (p * b_depth + first * b_column) * size, b_column,
                     target + (p * panel + first) * size, width - first)  # fmt: skip

    @subroutine
    def pack_a(a, line_step, step, lines, length, packed, packed_step):
        """Lines of A, rows or columns, at a distance that suits the cache."""
        for k in range(lines):
            copy(a + k * line_step * size, step, packed + k * packed_step * size, length)

    @subroutine
    def multiply_block(
        tiles, a, a_row, a_depth, b, b_depth, b_panel, c, c_row, start, start_row, rows, columns, depth
    ):
        """Tiles of one block of C; `b_panel` is the stride from one panel of B to the next."""
        for j in range(0, columns, panel):
            width, b_tile = min(panel, columns - j), b + j // panel * b_panel * size
            i = 0
            while i < rows:
                height = rows - i
                if height > tile_rows:  # no last tile of a few rows: they leave the multipliers idle
                    height = tile_rows if height >= 2 * tile_rows else (height + 1) // 2
                first = start + (i * start_row + j) * size if start != 0 else 0
                tile(tiles, height, width, a + i * a_row * size, a_row, a_depth, b_tile, b_depth,
                     c + (i * c_row + j) * size, c_row, first, start_row, depth, 1, 0, 0)  # fmt: skip
                i += height

    @subroutine(inlined=False)  # else its code is there once for each kind of C
    def multiply_rows(args, a, b, c, c_row, start, start_row, rows, columns, first_row, first_column, task):
        """The product into rows of adjacent elements."""
        depth, tiles = load_int64(args, DEPTH), load_int64(args, TILES)
        a_row, a_depth = load_int64(args, A_ROW), load_int64(args, A_DEPTH)
        b_depth, b_column = load_int64(args, B_DEPTH), load_int64(args, B_COLUMN)
        packed_b = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        packed_a = packed_b + scratch_b
        depth_blocks = (depth + block_depth - 1) // block_depth
        has_conflicts = b_depth * size % _CONFLICT == 0 and depth > _FEW_ROWS
        is_b_packed = b_column != 1 or rows > (2 if has_conflicts else 6) * tile_rows
        column_step = block_columns if is_b_packed else columns
        row_bytes = a_row * size if a_depth == 1 else a_depth * size
        is_a_packed = columns > 2 * panel and rows > 1 and (
            (a_row != 1 and a_depth != 1) or row_bytes % _CONFLICT == 0)  # fmt: skip
        for j in range(0, columns, column_step):
            width = min(column_step, columns - j)
            for block in range(depth_blocks):
                p = block * depth // depth_blocks
                length = (block + 1) * depth // depth_blocks - p
                b_block, b_row, b_panel = b + (p * b_depth + j * b_column) * size, b_depth, panel
                if is_b_packed:
                    pack_b(b_block, b_depth, b_column, length, width, packed_b)
                    b_block, b_row, b_panel = packed_b, panel, length * panel
                for i in range(0, rows, block_rows):
                    height = min(block_rows, rows - i)
                    a_block, row, column = a + (i * a_row + p * a_depth) * size, a_row, a_depth
                    if is_a_packed:
                        if a_row == 1:
                            pack_a(a_block, a_depth, 1, length, height, packed_a, block_rows)
                            row, column = 1, block_rows
                        else:
                            row, column = block_depth + _PADDING, 1
                            pack_a(a_block, a_row, a_depth, height, length, packed_a, row)
                        a_block = packed_a
                    c_block = c + (i * c_row + j) * size
                    first, first_step = c_block, c_row
                    if block == 0:
                        first = start + (i * start_row + j) * size if start != 0 else 0
                        first_step = start_row
                    multiply_block(tiles, a_block, row, column, b_block, b_row, b_panel, c_block, c_row,
                                   first, first_step, height, width, length)  # fmt: skip
                    if block == depth_blocks - 1:
                        _finish(args, first_row + i, first_row + i + height, first_column + j, width)

    @subroutine
    def multiply(args, a, b, c, start, start_row, rows, columns, first_row, first_column, task):
        """Blocked for the caches."""
        c_row, c_column = load_int64(args, C_ROW), load_int64(args, C_COLUMN)
        target, step = c, c_row
        if c_column != 1:
            target = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE) + scratch
            step = columns
        multiply_rows(
            args, a, b, target, step, start, start_row, rows, columns, first_row, first_column, task
        )
        if c_column != 1:
            for j in range(columns):
                copy(target + j * size, columns, c + j * c_column * size, rows)

    return _over_units(dtype, multiply)


def is_gemv(columns, a_row, a_depth, b_depth, c_row):
    """Whether `make_gemv` is the kernel for a product: B is a vector, and rows or columns are contiguous."""
    return columns == 1 and ((a_depth == 1 and b_depth == 1) or (a_row == 1 and c_row == 1))


def make_gemv(dtype):
    """The kernel of products for which `is_gemv` holds; with the argument block of `make_gemm`."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)
    copy = _make_copy(dtype)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def by_rows(a, a_row, b, c, c_row, start, start_row, rows, depth):
        """C[i] = start[i] + sum_p A[i, p] * b[p], rows of A contiguous."""
        vector = view(b, depth)
        for i in range(rows):
            row = view(a + i * a_row * size, depth)
            total = zero
            for p in range(depth):
                total += row[p] * vector[p]
            if start != 0:
                total += view(start, rows)[i * start_row]
            view(c, rows)[i * c_row] = total

    @subroutine(fastmath=FASTMATH_REASSOC)
    def by_columns(a, a_depth, b, b_depth, c, start, start_row, rows, depth):
        """C += sum_p A[:, p] * b[p], columns of A and C contiguous; four columns at a time."""
        factors = view(b, depth)
        for i in range(0, rows, _VECTOR_BLOCK):
            count = min(_VECTOR_BLOCK, rows - i)
            target = view(c + i * size, count)
            if start == 0:
                for k in range(count):
                    target[k] = zero
            elif start != c:
                copy(start + i * start_row * size, start_row, c + i * size, count)
            quads = depth // 4 * 4
            for p in range(0, quads, 4):
                column = a + (i + p * a_depth) * size
                x0, x1 = view(column, count), view(column + a_depth * size, count)
                x2, x3 = view(column + 2 * a_depth * size, count), view(column + 3 * a_depth * size, count)
                f0, f1 = factors[p * b_depth], factors[(p + 1) * b_depth]
                f2, f3 = factors[(p + 2) * b_depth], factors[(p + 3) * b_depth]
                for k in range(count):
                    target[k] += (x0[k] * f0 + x1[k] * f1) + (x2[k] * f2 + x3[k] * f3)
            for p in range(quads, depth):
                x0, f0 = view(a + (i + p * a_depth) * size, count), factors[p * b_depth]
                for k in range(count):
                    target[k] += x0[k] * f0

    @subroutine
    def multiply(args, a, b, c, start, start_row, rows, columns, first_row, first_column, task):
        depth, c_row = load_int64(args, DEPTH), load_int64(args, C_ROW)
        a_row, a_depth = load_int64(args, A_ROW), load_int64(args, A_DEPTH)
        b_depth = load_int64(args, B_DEPTH)
        if a_depth == 1 and b_depth == 1:
            by_rows(a, a_row, b, c, c_row, start, start_row, rows, depth)
        else:
            by_columns(a, a_depth, b, b_depth, c, start, start_row, rows, depth)

    return _over_units(dtype, multiply)
