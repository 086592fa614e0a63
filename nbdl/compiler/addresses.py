"""Where the elements of arrays lie, and whose memory that is."""

from __future__ import annotations

from typing import Any

import numpy as np


def layout_of(array: Any) -> tuple[Any, ...]:
    """What arrays have in common that a program can work on alike."""
    return type(array), array.shape, array.strides, array.dtype


def owner_of(array: Any) -> Any:
    """The array that owns the memory of ``array``.

    Between a strided view and its array NumPy puts an object that only refers to the array, as ``base``.
    """
    base = array.base
    while base is not None:
        if isinstance(base, type(array)):
            array = base
        base = getattr(base, "base", None)
    return array


def address_of(array: Any) -> int:
    """Address of the first element."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def extent_of(array: Any) -> tuple[int, int]:
    """First byte of the elements, and the one behind the last."""
    start = stop = address_of(array)
    for n, step in zip(array.shape, array.strides, strict=True):
        if n == 0:
            return start, start
        start, stop = start + min(0, (n - 1) * step), stop + max(0, (n - 1) * step)
    return start, stop + array.itemsize


def share_memory(a: Any, b: Any) -> bool:
    """Whether the elements of one array lie between those of the other; they may alternate."""
    (first, behind_first), (second, behind_second) = extent_of(a), extent_of(b)
    return first < behind_second and second < behind_first
