"""Many small matrices on the CPU, one after the other in the first-level cache: factors and systems.

A library call a matrix would cost more than its arithmetic. All arrays are contiguous but triangles, which
may be transposed; a row of the kernels is a matrix.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import (
    float32_at,
    float64_at,
    int32_at,
    int64_at,
    load_int64,
    stack_int64,
    store_int64,
)

LARGEST = 32  # rows and columns of what the kernels hold on the stack
_AREA = LARGEST * LARGEST


@cache
def _tools(dtype):
    """What the kernels of a dtype share: (`factorize`, `subtract`)."""
    size = dtype.itemsize
    view = float32_at if size == 4 else float64_at

    @subroutine
    def largest(a, k, rows, columns):
        """The row, from k on, with the largest element of column k."""
        best, row = abs(a[k * columns + k]), k
        for i in range(k + 1, rows):
            value = abs(a[i * columns + k])
            row = i if value > best else row
            best = value if value > best else best
        return row

    @subroutine
    def exchange(a, order, k, row, columns):
        for j in range(columns):
            above, below = a[k * columns + j], a[row * columns + j]
            a[k * columns + j], a[row * columns + j] = below, above
        order[k], order[row] = order[row], order[k]

    @subroutine(noalias=True)
    def subtract(known, row, factor, n):
        for j in range(n):
            row[j] -= factor * known[j]

    @subroutine
    def factorize(x, address, pivots, order, rows, columns):
        """L U of x at an address; returns 0 or the place of the first zero on U's diagonal, from 1."""
        a, info = view(address, rows * columns), 0
        for k in range(rows * columns):
            a[k] = x[k]
        for i in range(rows):
            order[i] = i
        for k in range(min(rows, columns)):
            row = largest(a, k, rows, columns)
            pivots[k] = np.int32(row + 1)
            if row != k:
                exchange(a, order, k, row, columns)
            pivot = a[k * columns + k]
            if pivot == 0:
                info = k + 1 if info == 0 else info
                continue
            n, above = columns - k - 1, address + (k * columns + k + 1) * size
            for i in range(k + 1, rows):
                factor = a[i * columns + k] / pivot
                a[i * columns + k] = factor
                subtract(view(above, n), view(address + (i * columns + k + 1) * size, n), factor, n)
        return info

    return factorize, subtract


def make_lu(dtype):
    """The kernel of P A = L U; operands A, L U in one matrix, pivots and info (int32), order of rows (int64).

    Words behind the operands: rows and columns of a matrix.
    """
    size = dtype.itemsize
    view = float32_at if size == 4 else float64_at
    factorize, _ = _tools(dtype)

    def lu(args, lo, hi, task):
        rows, columns = load_int64(args, 5), load_int64(args, 6)
        steps = min(rows, columns)
        for matrix in range(lo, hi):
            offset = matrix * rows * columns * size
            x = view(load_int64(args, 0) + offset, rows * columns)
            pivots = int32_at(load_int64(args, 2) + matrix * steps * 4, steps)
            order = int64_at(load_int64(args, 4) + matrix * rows * 8, rows)
            info = factorize(x, load_int64(args, 1) + offset, pivots, order, rows, columns)
            int32_at(load_int64(args, 3) + matrix * 4, 1)[0] = np.int32(info)

    return lu


def make_solve(dtype, inverts):
    """The kernel of X with A X = B, and info (int32), NaN where it is not 0; operands A, B, X, info.

    Words behind them: rows and columns of B, and 0 or the address of the word that is set to 1 where a matrix
    is singular.

    Args:
        dtype: of the matrices.
        inverts: B is the identity, and no operand.
    """
    size = dtype.itemsize
    view, real = float32_at if size == 4 else float64_at, dtype.type
    factorize, subtract = _tools(dtype)
    result = 1 if inverts else 2  # number of the operand

    @subroutine
    def start(args, matrix, x, order, rows, columns):
        """The rows of B in their order."""
        b = view(load_int64(args, 1) + matrix * rows * columns * size, rows * columns)
        for i in range(rows):
            for j in range(columns):
                if inverts:
                    x[i * columns + j] = real(1) if order[i] == j else real(0)
                else:
                    x[i * columns + j] = b[order[i] * columns + j]

    def solve(args, lo, hi, task):
        rows, columns = load_int64(args, result + 2), load_int64(args, result + 3)
        factors, order = stack_int64(_AREA), int64_at(stack_int64(LARGEST), LARGEST)
        pivots = int32_at(stack_int64(LARGEST), LARGEST)
        lu = view(factors, rows * rows)
        for matrix in range(lo, hi):
            a = view(load_int64(args, 0) + matrix * rows * rows * size, rows * rows)
            address = load_int64(args, result) + matrix * rows * columns * size
            x = view(address, rows * columns)
            info = factorize(a, factors, pivots, order, rows, rows)
            int32_at(load_int64(args, result + 1) + matrix * 4, 1)[0] = np.int32(info)
            if info != 0:
                if load_int64(args, result + 4) != 0:
                    store_int64(load_int64(args, result + 4), 0, 1)
                for k in range(rows * columns):
                    x[k] = real(np.nan)
                continue
            start(args, matrix, x, order, rows, columns)
            for i in range(1, rows):
                own = view(address + i * columns * size, columns)
                for j in range(i):
                    subtract(view(address + j * columns * size, columns), own, lu[i * rows + j], columns)
            for i in range(rows - 1, -1, -1):
                own = view(address + i * columns * size, columns)
                for j in range(i + 1, rows):
                    subtract(view(address + j * columns * size, columns), own, lu[i * rows + j], columns)
                for k in range(columns):
                    own[k] /= lu[i * rows + i]

    return solve


def make_solve_triangular(dtype):
    """The kernel of X with A X = B; operands A, B, X.

    Words behind them: rows and columns of B, strides of A from row to row and from column to column, whether
    the upper triangle counts, and whether the diagonal counts as 1.
    """
    size = dtype.itemsize
    view = float32_at if size == 4 else float64_at

    _, subtract = _tools(dtype)

    def solve_triangular(args, lo, hi, task):
        rows, columns = load_int64(args, 3), load_int64(args, 4)
        row_step, column_step = load_int64(args, 5), load_int64(args, 6)
        is_upper, is_unit = load_int64(args, 7) != 0, load_int64(args, 8) != 0
        for matrix in range(lo, hi):
            a = view(load_int64(args, 0) + matrix * rows * rows * size, rows * rows)
            b = view(load_int64(args, 1) + matrix * rows * columns * size, rows * columns)
            address = load_int64(args, 2) + matrix * rows * columns * size
            x = view(address, rows * columns)
            for k in range(rows * columns):
                x[k] = b[k]
            for step in range(rows):
                i = rows - 1 - step if is_upper else step
                own = address + i * columns * size
                for other in range(step):
                    j = rows - 1 - other if is_upper else other
                    factor = a[i * row_step + j * column_step]
                    subtract(view(address + j * columns * size, columns), view(own, columns), factor, columns)
                if not is_unit:
                    for k in range(columns):
                        x[i * columns + k] /= a[i * row_step + i * column_step]

    return solve_triangular
