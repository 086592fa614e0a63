"""Loop nests: how operands of any shape and strides become few, long loops.

An operation over a broadcast shape is a nest of loops, one an axis, in which every operand has a stride (0
where it is broadcast). Axes of length 1 are dropped, neighbouring axes that are contiguous in all operands
are merged, and what is left is walked as rows x columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Strides = tuple[int, ...]


class Nest(NamedTuple):
    """A loop nest.

    Attributes:
        dims: lengths of the loops, outermost first; at least one.
        strides: for each operand its element strides along ``dims``.
    """

    dims: tuple[int, ...]
    strides: tuple[Strides, ...]


def domain(inputs: Sequence[Any], outputs: Sequence[Any] | None) -> tuple[int, ...]:
    """The shape over which a formula runs: operands may broadcast to that of given outputs."""
    return np.broadcast_shapes(*[x.shape for x in (*inputs, *(outputs or ()))])


def element_strides(array: Any, shape: tuple[int, ...]) -> Strides | None:
    """Strides of ``array`` broadcast to ``shape``, in elements; None if no multiple of the element size."""
    itemsize = array.itemsize
    missing = len(shape) - array.ndim
    strides = [0] * missing
    for n, stride in zip(array.shape, array.strides, strict=True):
        if stride % itemsize and n != 1:
            return None
        strides.append(0 if n == 1 else stride // itemsize)
    return tuple(strides)


def row_major(shape: Sequence[int]) -> Strides:
    """Strides of a contiguous array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def memory_order(shape: tuple[int, ...], operands: Sequence[Strides]) -> tuple[int, ...]:
    """Axes from the slowest to the fastest in memory, as the first operand that has all axes lies.

    Ties keep their order.
    """
    natural = tuple(range(len(shape)))
    for strides in operands:
        if all(stride != 0 or n == 1 for stride, n in zip(strides, shape, strict=True)):
            # An axis of length 1 has no place of its own: it stays beside its left neighbour.
            weights, last = [], 1 << 62
            for stride, n in zip(strides, shape, strict=True):
                last = abs(stride) if n != 1 else last
                weights.append(last)
            return tuple(sorted(natural, key=lambda axis: -weights[axis]))
    return natural


def merge(
    dims: Sequence[int], strides: Sequence[Sequence[int]], groups: Sequence[int] | None = None
) -> tuple[Nest, tuple[int, ...]]:
    """The nest with axes of length 1 dropped and contiguous neighbours merged.

    Args:
        dims: lengths, outermost first.
        strides: per operand.
        groups: axes merge only within their group (kept and reduced axes); default: all in one.

    Returns:
        The nest (at least one loop), and the groups of its loops.
    """
    merged: list[int] = []
    merged_groups: list[int] = []
    columns: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(dims):
        if n == 1:
            continue
        group = 0 if groups is None else groups[axis]
        fits = bool(merged) and merged_groups[-1] == group
        if fits and all(
            column[-1] == stride[axis] * n for column, stride in zip(columns, strides, strict=True)
        ):
            merged[-1] *= n
            for column, stride in zip(columns, strides, strict=True):
                column[-1] = stride[axis]
        else:
            merged.append(n)
            merged_groups.append(group)
            for column, stride in zip(columns, strides, strict=True):
                column.append(stride[axis])
    if not merged:
        merged, merged_groups, columns = [1], [0], [[0] for _ in strides]
    return Nest(tuple(merged), tuple(tuple(column) for column in columns)), tuple(merged_groups)
