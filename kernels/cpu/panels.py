"""Products with a matrix that is packed once and used many times, such as the weights of a recurrent network.

B is kept as panels of as many columns as the widest tile of the micro-kernel
(`nbdl.kernels.cpu.microkernel`), each of shape [depth, panel], one behind the other.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at
from nbdl.kernels.cpu.microkernel import tile_caller, tile_shape, transpose_kernel


def packed_elements(depth: int, columns: int, dtype) -> int:
    """Length of a packed B[depth, columns]."""
    panel = tile_shape(dtype).columns
    return depth * -(-columns // panel) * panel


def panel_packer(dtype):
    """A function `pack(b, b_depth, b_column, depth, columns, k, packed)` for njit code: packs panel k of B.

    `b` and `packed` are addresses; `b_depth` and `b_column` the strides of B in elements, one of them 1.
    """
    size = np.dtype(dtype).itemsize
    lanes, panel = tile_shape(dtype).lanes, tile_shape(dtype).columns
    transpose, view = transpose_kernel(dtype), float32_at if size == 4 else float64_at

    @subroutine(fastmath=FASTMATH_REASSOC)
    def pack(b, b_depth, b_column, depth, columns, k, packed):
        width = min(panel, columns - k * panel)
        b += k * panel * b_column * size
        packed += k * panel * depth * size
        if b_column == 1:
            for p in range(depth):
                source, target = view(b + p * b_depth * size, width), view(packed + p * panel * size, width)
                for j in range(width):
                    target[j] = source[j]
            return
        blocks, deep = width // lanes * lanes, depth // lanes * lanes
        for j in range(0, blocks, lanes):
            for p in range(0, deep, lanes):
                transpose(b + (j * b_column + p) * size, b_column, packed + (p * panel + j) * size, panel)
        for j in range(width):
            source, target = view(b + j * b_column * size, depth), view(packed + j * size, depth * panel)
            for p in range(deep if j < blocks else 0, depth):
                target[np.uint64(p * panel)] = source[p]

    return pack


def panel_product(dtype):
    """A function `multiply(...)` for njit code: C[rows, columns] = start + A[rows, depth] @ B, B packed.

    Its arguments are `tiles` (address of the table of micro-kernels), `a` and `a_row`, `packed`, `c` and
    `c_row`, `start` and `start_row`, `rows`, `columns`, `depth`. Rows of A are contiguous; `start` may be 0
    or C.
    """
    size = np.dtype(dtype).itemsize
    tile_rows, panel = tile_shape(dtype).rows, tile_shape(dtype).columns
    tile = tile_caller(dtype)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def multiply(tiles, a, a_row, packed, c, c_row, start, start_row, rows, columns, depth):
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
                tile(tiles, height, width, a + i * a_row * size, a_row, 1, packed + j * depth * size, panel,
                     c + (i * c_row + j) * size, c_row, first, start_row, depth, 1, 0, 0)  # fmt: skip
                i += height

    return multiply
