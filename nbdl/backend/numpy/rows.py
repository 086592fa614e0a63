"""Rows of operands, such as one for each parameter of an optimizer, that are computed together.

A call of NumPy costs a microsecond, however small the array: the update of ten small parameters by a formula
of thirty operations is mostly that. So small rows are laid end to end.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Row = Sequence[Any]

# Elements up to which a row is small: beyond, computing costs more than calling.
SMALL = 4096


def groups_of_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in groups that :func:`joined_rows` can join; in their order within a group."""
    groups: dict[Hashable, list[Row]] = {}
    for k, row in enumerate(rows):
        groups.setdefault(_kind(row) or k, []).append(row)
    return list(groups.values())


def _kind(row: Row) -> Hashable:
    """What rows must share to be joined: dtypes, and numbers beside arrays; None if ``row`` stays alone."""
    shapes = {array.shape for array in row if array.ndim}
    if len(shapes) > 1 or any(type(array) is not np.ndarray for array in row):
        return None
    if not shapes:  # all are numbers, which become elements of arrays
        return tuple([array.dtype for array in row])
    if max(array.size for array in row) > SMALL:
        return None
    return tuple([(array.dtype, None if array.ndim else array.item()) for array in row])


def joined_rows(rows: Sequence[Row]) -> list[Any]:
    """One row of the rows of a group: arrays end to end, and the numbers that all of them have."""
    first = rows[0]
    are_numbers = all(array.ndim == 0 for array in first)
    return [
        np.concatenate([row[k].reshape(-1) for row in rows]) if array.ndim or are_numbers else array
        for k, array in enumerate(first)
    ]
