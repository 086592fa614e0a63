"""What both directions of attention do with one block of scores; `nbdl.kernels.cpu.attention` says how.

Also the words of the argument block of these kernels.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import bool_at, float32_at, float64_at, load_int64, stack_int64, uint32_at
from nbdl.kernels.cpu.microkernel import tile_caller, tile_shape, transpose_kernel
from nbdl.kernels.cpu.random import fill_words
from nbdl.kernels.cpu.stages import FIRST_WORD

# Words of the argument block; strides count elements.
(
    QUERIES,  # rows of Q
    KEYS,  # rows of K and of V
    WIDTH,  # columns of Q and of K
    VALUE_WIDTH,  # columns of V
    IS_CAUSAL,  # 1: query i sees keys up to i
    SCALE,  # bits of a float64
    TILES,  # address of the table of micro-kernels (`make_tile_table`)
    SCRATCH,  # address of scratch memory
    SCRATCH_STRIDE,  # bytes of it for each task: `scratch_bytes`
    PARTS,  # into how many units the blocks of queries of one batch entry are dealt, backward
    PARTIAL,  # address of the sums of each part: gradients of K and of V
    MASK_KIND,  # one of NO_MASK, MASK_OF_BOOLS, MASK_OF_NUMBERS
    DRAW,  # number of the operand that is the seed of dropout, number of the draw and p following it; or 0
    RESULTS,  # number of the first operand that is computed
    LENGTHS,  # of the batch loops, MAX_LOOPS words
    *_,
) = range(FIRST_WORD, FIRST_WORD + 17)
NO_MASK, MASK_OF_BOOLS, MASK_OF_NUMBERS = range(3)
MAX_LOOPS = 3
GEOMETRY = LENGTHS + MAX_LOOPS  # strides of each role: along the batch loops, rows and columns
_GEOMETRY_WORDS = MAX_LOOPS + 2
# Roles of operands.
QUERY, KEY, VALUE, MASK, RESULT, GRADIENT, QUERY_GRADIENT, KEY_GRADIENT, VALUE_GRADIENT = range(9)

KEY_BLOCK = 128  # keys of a block
_BLOCK_VECTORS = 4  # vectors of queries
_WORDS_INT64 = KEY_BLOCK // 2 + 4  # random words of a row of a block
EVERYTHING = 1 << 40  # the diagonal where no key is hidden


def query_block(dtype) -> int:
    """Queries of a block."""
    return _BLOCK_VECTORS * tile_shape(dtype).lanes


def geometry_word(role: int) -> int:
    """The first of the words with the strides of a role: `MAX_LOOPS` batch loops, rows, columns."""
    return GEOMETRY + role * _GEOMETRY_WORDS


def scratch_bytes(dtype, width: int, value_width: int) -> int:
    """Bytes of scratch memory for one task: transposed blocks of Q and of a gradient, and two of scores."""
    rows = width + value_width + 2 * KEY_BLOCK
    return -(-rows * query_block(dtype) * np.dtype(dtype).itemsize // 64) * 64


@subroutine(fastmath=FASTMATH_REASSOC)
def batch_offset(args, role, batch):
    """Elements from the start of an operand to its matrix of a batch entry."""
    strides = args + 8 * (GEOMETRY + role * _GEOMETRY_WORDS)
    inner, middle = load_int64(args, LENGTHS + 2), load_int64(args, LENGTHS + 1)
    return (
        batch % inner * load_int64(strides, 2)
        + batch // inner % middle * load_int64(strides, 1)
        + batch // (inner * middle) * load_int64(strides, 0)
    )


@subroutine(fastmath=FASTMATH_REASSOC)
def row_stride(args, role):
    """From one row of an operand to the next."""
    return load_int64(args, GEOMETRY + role * _GEOMETRY_WORDS + MAX_LOOPS)


@subroutine(fastmath=FASTMATH_REASSOC)
def column_stride(args, role):
    """From one column of an operand to the next."""
    return load_int64(args, GEOMETRY + role * _GEOMETRY_WORDS + MAX_LOOPS + 1)


class BlockFunctions:
    """Compiled functions on one block of scores: `keys` rows of `query_block` columns, keys x queries.

    `diagonal` is the first query of the block minus its first key: key a is hidden from query b if
    a > b + diagonal.

    Args:
        dtype: float32 or float64.
    """

    def __init__(self, dtype):
        dtype = np.dtype(dtype)
        shape, size, real = tile_shape(dtype), dtype.itemsize, dtype.type
        tile_rows, lanes, panel, ld = shape.rows, shape.lanes, shape.columns, query_block(dtype)
        view = float32_at if size == 4 else float64_at
        tile, transpose = tile_caller(dtype), transpose_kernel(dtype)
        zero, lowest = real(0), real(-np.inf)
        self.view, self.size, self.real, self.lanes, self.ld = view, size, real, lanes, ld

        @subroutine(fastmath=FASTMATH_REASSOC)
        def tile_height(rest):
            """Rows of the next tile; no last tile of a few rows: they leave the multipliers idle."""
            if rest <= tile_rows:
                return rest
            return tile_rows if rest >= 2 * tile_rows else (rest + 1) // 2

        @subroutine(fastmath=FASTMATH_REASSOC)
        def transpose_block(source, row, rows, columns, target):
            """target[p, i] = source[i, p] for i < rows, and zeros up to the next vector."""
            width = (rows + lanes - 1) // lanes * lanes
            whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes
            for i in range(0, whole_rows, lanes):
                for p in range(0, whole_columns, lanes):
                    transpose(source + (i * row + p) * size, row, target + (p * ld + i) * size, ld)
            for p in range(columns):
                column = view(target + p * ld * size, ld)
                for i in range(0 if p >= whole_columns else whole_rows, rows):
                    column[i] = view(source + (i * row + p) * size, 1)[0]
                for i in range(rows, width):
                    column[i] = zero

        @subroutine(fastmath=FASTMATH_REASSOC)
        def products(tiles, rows, row, keys, columns, width, depth, diagonal, block):
            """block[a, b] = rows[a] . columns[:, b], without the vectors that are hidden entirely."""
            a = 0
            while a < keys:
                height = tile_height(keys - a)
                for b in range(max(0, a - diagonal) // lanes * lanes, width, panel):
                    tile(tiles, height, min(panel, width - b), rows + a * row * size, row, 1,
                         columns + b * size, ld, block + (a * ld + b) * size, ld, 0, 0, depth, 1, 0,
                         0)  # fmt: skip
                a += height

        @subroutine(fastmath=FASTMATH_REASSOC)
        def sum_over_keys(tiles, block, keys, queries, diagonal, rows, row, width, c, c_row, first_key):
            """C[b] = sum_a block[a, b] rows[a], + what C holds unless it is the first block of keys."""
            b = 0
            while b < queries:
                height = tile_height(queries - b)
                depth = min(keys, b + height + diagonal)
                for p in range(0, width if depth > 0 else 0, panel):
                    target = c + (b * c_row + p) * size
                    tile(tiles, height, min(panel, width - p), block + b * size, 1, ld, rows + p * size, row,
                         target, c_row, target if first_key > 0 else 0, c_row, depth, 1, 0, 0)  # fmt: skip
                b += height

        @subroutine(fastmath=FASTMATH_REASSOC)
        def sum_over_queries(tiles, block, keys, queries, diagonal, rows, row, width, c, c_row):
            """C[a] += sum_b block[a, b] rows[b]."""
            a = 0
            while a < keys:
                height = tile_height(keys - a)
                b = max(0, a - diagonal)
                for p in range(0, width, panel):
                    target = c + (a * c_row + p) * size
                    tile(tiles, height, min(panel, width - p), block + (a * ld + b) * size, ld, 1,
                         rows + (b * row + p) * size, row, target, c_row, target, c_row, queries - b, 1, 0,
                         0)  # fmt: skip
                a += height

        @subroutine(fastmath=FASTMATH_REASSOC)
        def fill(row, first, last, value):
            part = view(row + first * size, last - first)
            for k in range(last - first):
                part[k] = value

        @subroutine(fastmath=FASTMATH_REASSOC)
        def scale_row(row, n, factor):
            part = view(row, n)
            for k in range(n):
                part[k] *= factor

        @subroutine(fastmath=FASTMATH_REASSOC)
        def add_mask(args, mask, batch, first_key, first_query, keys, queries, block):
            """Adds a block of a mask; what a mask of bools hides becomes -infinity."""
            row, column = row_stride(args, MASK), column_stride(args, MASK)
            start = batch_offset(args, MASK, batch) + first_query * row + first_key * column
            is_bool = load_int64(args, MASK_KIND) == MASK_OF_BOOLS
            for a in range(keys):
                scores = view(block + a * ld * size, ld)
                first = start + a * column
                if is_bool:
                    for b in range(queries):
                        is_seen = bool_at(mask + first + b * row, 1)[0]
                        scores[b] = scores[b] if is_seen else lowest
                else:
                    for b in range(queries):
                        scores[b] += view(mask + (first + b * row) * size, 1)[0]

        @subroutine(fastmath=FASTMATH_REASSOC)
        def drop(args, batch, first_key, first_query, keys, queries, block):
            """Drops weights at random, as dropout of the matrix of all weights does."""
            draw = load_int64(args, DRAW)
            seed, number = load_int64(load_int64(args, draw), 0), load_int64(load_int64(args, draw + 1), 0)
            keep = 1.0 - float64_at(load_int64(args, draw + 2), 1)[0]
            limit, scale = keep * 2.0**32, real(1.0 / keep)
            words = stack_int64(_WORDS_INT64)
            for b in range(queries):
                row = batch * load_int64(args, QUERIES) + first_query + b
                first = row * load_int64(args, KEYS) + first_key
                skipped = first % 4  # words are made four at a time
                fill_words(words, first - skipped, keys + skipped, seed, number)
                word = uint32_at(words + 4 * skipped, keys)
                for a in range(keys):
                    weight = view(block + (a * ld + b) * size, 1)
                    weight[0] = weight[0] * scale if word[a] < limit else zero

        self.transpose_block, self.products, self.add_mask = transpose_block, products, add_mask
        self.sum_over_keys, self.sum_over_queries, self.drop = sum_over_keys, sum_over_queries, drop
        self.fill, self.scale_row = fill, scale_row


@cache
def block_functions(dtype):
    """The one set of functions for a dtype: all kernels share what is compiled."""
    return BlockFunctions(dtype)
