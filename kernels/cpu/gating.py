"""The gated linear unit and its gradient, on the CPU.

An operand is rows of two halves, in row-major order: the values, and what opens the gates of them.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64

WIDTH = 3  # the word with the elements of half a row, behind the operands


def make_glu(dtype):
    """The kernel of values * expit(gates): operands x, y. Rows: rows."""
    size, view = np.dtype(dtype).itemsize, float32_at if np.dtype(dtype).itemsize == 4 else float64_at

    @subroutine
    def row_of(x, y, n):
        values, gates, result = view(x, n), view(x + n * size, n), view(y, n)
        for k in range(n):
            result[k] = values[k] * m.expit(gates[k])

    def glu(args, lo, hi, task):
        n = load_int64(args, WIDTH)
        for row in range(lo, hi):
            row_of(load_int64(args, 0) + 2 * row * n * size, load_int64(args, 1) + row * n * size, n)

    return glu


def make_glu_input(dtype):
    """The kernel of the gradient: operands g, x, gradient. Rows: rows."""
    size, view = np.dtype(dtype).itemsize, float32_at if np.dtype(dtype).itemsize == 4 else float64_at
    one = np.dtype(dtype).type(1)

    @subroutine(noalias=True)
    def row_of(g, x, gates, by_values, by_gates, n):
        for k in range(n):
            openness = m.expit(gates[k])
            by_values[k] = g[k] * openness
            by_gates[k] = g[k] * (x[k] * (openness * (one - openness)))

    def glu_input(args, lo, hi, task):
        n = load_int64(args, WIDTH)
        for row in range(lo, hi):
            x, gx = load_int64(args, 1) + 2 * row * n * size, load_int64(args, 2) + 2 * row * n * size
            g = load_int64(args, 0) + row * n * size
            row_of(view(g, n), view(x, n), view(x + n * size, n), view(gx, n), view(gx + n * size, n), n)

    return glu_input
