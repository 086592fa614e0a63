"""Elements written, or added, at computed places, on the CPU: the gradients of what `gathering` reads.

Tasks divide what is written, so that equal indices do not meet: they come one after the other, in their
order. An index out of range is passed over, and failure reported.
"""

from __future__ import annotations

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.gathering import (
    BLOCK,
    COLUMNS,
    COUNT,
    FAILED,
    VALUES_COLUMN,
    VALUES_OUTER,
    VALUES_PLACE,
    X_COLUMN,
    X_OUTER,
    all_plain,
    make_place,
    outer_offset,
)
from nbdl.kernels.cpu.lines import FAILURE, LENGTH, SIZE, axis_step, make_line_kernel
from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64, store_int64

_COMBINE = {
    "set": lambda x, y: y,
    "add": lambda x, y: x + y,
    "prod": lambda x, y: x * y,
    "amax": lambda x, y: m.maximum(x, y),
    "amin": lambda x, y: m.minimum(x, y),
}


def make_put(kind, dtype, indices):
    """The kernel that writes (`set`) or adds (`add`) values at index tensors; its rows are blocks of columns.

    Operands: x, values, indices (int64), x again.

    Args:
        kind: `set` or `add`.
        dtype: Of x and values.
        indices: How many index tensors.
    """
    item, itemsize = dtype.type, dtype.itemsize
    combine = subroutine(_COMBINE[kind])
    place = make_place(indices, 2)

    @subroutine
    def put_row(x, x_column, values, values_column, n):
        if x_column == 1 and values_column == 1:
            target, source = array_at(x, n, item), array_at(values, n, item)
            for j in range(n):
                target[j] = item(combine(target[j], source[j]))
        else:
            for j in range(n):
                target = array_at(x + j * x_column * itemsize, 1, item)
                target[0] = item(
                    combine(target[0], array_at(values + j * values_column * itemsize, 1, item)[0])
                )

    @subroutine
    def put_block(args, x, values, n):
        x_column, values_column = load_int64(args, X_COLUMN), load_int64(args, VALUES_COLUMN)
        values_place = load_int64(args, VALUES_PLACE) * itemsize
        fits = True
        for i in range(load_int64(args, COUNT)):
            offset, inside = place(args, i)
            if inside:
                put_row(x + offset * itemsize, x_column, values + i * values_place, values_column, n)
            fits &= inside
        return fits

    def put(args, lo, hi, task):
        columns, block = load_int64(args, COLUMNS), load_int64(args, BLOCK)
        blocks = (columns + block - 1) // block
        fits = True
        for unit in range(lo, hi):
            outer = unit // blocks
            first = (unit - outer * blocks) * block
            x = outer_offset(args, outer, X_OUTER) + first * load_int64(args, X_COLUMN)
            values = outer_offset(args, outer, VALUES_OUTER)
            values += first * load_int64(args, VALUES_COLUMN)
            fits &= put_block(
                args, load_int64(args, 0) + x * itemsize, load_int64(args, 1) + values * itemsize,
                min(block, columns - first),
            )  # fmt: skip
        if not fits:
            store_int64(load_int64(args, FAILED), 0, 1)

    return put


def make_scatter(kind, dtype, across):
    """The kernel of x[i, index[i, j]] = combine(itself, source[i, j]). Operands: x, index, source, x again.

    Args:
        kind: `set`, `add`, `prod`, `amax` or `amin`.
        dtype: Of x and source.
        across: Whether it runs across lines.
    """
    item, itemsize = dtype.type, dtype.itemsize
    combine = subroutine(_COMBINE[kind])

    @subroutine
    def scatter(x, x_step, x_column, index, index_step, source, source_step, size, n):
        if index_step == 8 and source_step == itemsize and all_plain(index, n, size):
            positions, values = int64_at(index, n), array_at(source, n, item)
            for j in range(n):
                target = array_at(x + j * x_column + positions[j] * x_step, 1, item)
                target[0] = item(combine(target[0], values[j]))
            return True
        fits = True
        for j in range(n):
            position = int64_at(index + j * index_step, 1)[0]
            position += size if position < 0 else 0
            inside = (position >= 0) & (position < size)
            fits &= inside
            if inside:
                target = array_at(x + j * x_column + position * x_step, 1, item)
                target[0] = item(combine(target[0], array_at(source + j * source_step, 1, item)[0]))
        return fits

    @subroutine
    def run(args, x, index, source, width, task):
        x_step, index_step, source_step = axis_step(args, 0), axis_step(args, 1), axis_step(args, 2)
        n, size = load_int64(args, LENGTH), load_int64(args, SIZE)
        fits = True
        if across:
            for i in range(n):
                fits &= scatter(
                    x, x_step * itemsize, itemsize, index + i * index_step * 8, 8,
                    source + i * source_step * itemsize, itemsize, size, width,
                )  # fmt: skip
        else:
            fits = scatter(
                x, x_step * itemsize, 0, index, index_step * 8, source, source_step * itemsize, size, n
            )
        if not fits:
            store_int64(load_int64(args, FAILURE), 0, 1)

    return make_line_kernel((itemsize, 8, itemsize), run)
