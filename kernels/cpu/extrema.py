"""Places of maxima and minima along an axis, on the CPU: of the first one, a NaN counting as both."""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.lines import BLOCK, LENGTH, axis_step, make_line_kernel
from nbdl.kernels.cpu.memory import array_at, load_int64, stack_int64

_CHUNK = 512  # elements whose extremum is taken at once; then its place is looked for in one chunk only


def make_argreduce(kind, dtype, across):
    """The kernel of `argmax` or `argmin`. Operands: x, places.

    Args:
        kind: `argmax` or `argmin`.
        dtype: Of x.
        across: Whether it runs across lines.
    """
    source, size = dtype.type, dtype.itemsize
    rising = kind == "argmax"

    @subroutine
    def extreme(x, y):
        return m.maximum(x, y) if rising else m.minimum(x, y)

    @subroutine
    def beats(value, best):
        ahead = value > best if rising else value < best
        return (ahead | (value != value)) & (best == best)

    @subroutine
    def along(x, n):
        best, chunk = array_at(x, 1, source)[0], 0
        for start in range(0, n, _CHUNK):
            values = array_at(x + start * size, min(_CHUNK, n - start), source)
            candidate = values[0]
            for j in range(values.size):
                candidate = extreme(candidate, values[j])
            if beats(candidate, best):
                best, chunk = candidate, start
        values = array_at(x, n, source)
        while values[chunk] != best and (best == best or values[chunk] == values[chunk]):
            chunk += 1
        return chunk

    @subroutine
    def along_strided(x, step, n):
        best, place = array_at(x, 1, source)[0], 0
        for i in range(1, n):
            value = array_at(x + i * step, 1, source)[0]
            if beats(value, best):
                best, place = value, i
        return place

    @subroutine
    def beside(x, step, y, n, width):
        best = array_at(stack_int64(BLOCK), width, source)
        places = array_at(y, width, np.int64)
        first = array_at(x, width, source)
        for j in range(width):
            best[j] = first[j]
            places[j] = 0
        for i in range(1, n):
            values = array_at(x + i * step, width, source)
            for j in range(width):
                better = beats(values[j], best[j])
                best[j] = values[j] if better else best[j]
                places[j] = i if better else places[j]

    @subroutine
    def run(args, x, y, z, width, task):
        step, n = axis_step(args, 0) * size, load_int64(args, LENGTH)
        if across:
            beside(x, step, y, n, width)
        elif step == size:
            array_at(y, 1, np.int64)[0] = along(x, n)
        else:
            array_at(y, 1, np.int64)[0] = along_strided(x, step, n)

    return make_line_kernel((size, 8), run)
