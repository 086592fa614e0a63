"""The geometry of sliding windows: how many there are, and where each tap of a kernel meets the input.

Convolution, pooling and padding share it. All functions are integer arithmetic on tuples with one entry a
spatial axis.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Tap(NamedTuple):
    """One position of a kernel, in all the windows for which it lies inside the input.

    Attributes:
        position: the index inside the kernel.
        windows: the windows as an index of the output, which may have leading axes.
        elements: the elements as an index of the input, which may have leading axes.
    """

    position: Sizes
    windows: tuple[Any, ...]
    elements: tuple[Any, ...]


def window_count(
    size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, ceil_mode: bool = False
) -> int:
    """How many windows fit along one axis; zero or negative if not even one does.

    Args:
        size: length of the axis.
        kernel: taps of the kernel.
        stride: distance of neighbouring windows.
        padding: elements added before and after.
        dilation: distance of neighbouring taps.
        ceil_mode: also count a last window that reaches over the end, if it starts inside the input or its
            left padding.
    """
    before, after = padding
    room = size + before + after - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1
    return count


def window_counts(
    size: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, ceil_mode: bool = False
) -> Sizes:
    """:func:`window_count` of every axis.

    Raises:
        ValueError: the numbers of axes differ, or an axis has no room for a window.
    """
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    counts = tuple(window_count(*axis, ceil_mode) for axis in axes)
    if min(counts, default=1) < 1:
        raise ValueError(f"no window of {kernel} taps fits into {size}")
    return counts


def _axis_taps(
    size: int, kernel: int, stride: int, before: int, dilation: int, count: int
) -> list[tuple[int, slice, slice]]:
    """(tap, windows, elements) along one axis; taps that meet no element are left out."""
    taps = []
    for k in range(kernel):
        shift = k * dilation - before  # window o meets element o * stride + shift
        first = max(0, -(shift // stride))
        last = min(count - 1, (size - 1 - shift) // stride)
        if first <= last:
            start = first * stride + shift
            stop = last * stride + shift + 1
            taps.append((k, slice(first, last + 1), slice(start, stop, stride)))
    return taps


@functools.lru_cache(maxsize=1024)
def taps(
    size: Sizes, kernel: Sizes, stride: Sizes, before: Sizes, dilation: Sizes, counts: Sizes
) -> tuple[Tap, ...]:
    """Every tap of a kernel that meets an element of the input, in row-major order.

    Args:
        size: spatial sizes of the input.
        kernel: sizes of the kernel.
        stride: distances of neighbouring windows.
        before: padding at the front of every axis.
        dilation: distances of neighbouring taps.
        counts: numbers of windows.
    """
    axes = [_axis_taps(*axis) for axis in zip(size, kernel, stride, before, dilation, counts, strict=True)]
    return tuple(
        Tap(tuple(t[0] for t in group), (..., *[t[1] for t in group]), (..., *[t[2] for t in group]))
        for group in itertools.product(*axes)
    )


@functools.lru_cache(maxsize=256)
def frame_places(n: int, before: int, after: int, mode: Any) -> Any:
    """For every place of an axis of length n with a frame the one that it repeats.

    Args:
        n: length of the axis.
        before: width of the frame in front.
        after: width of the frame behind.
        mode: of :func:`numpy.pad`: ``edge``, ``reflect``, ``symmetric`` or ``wrap``.
    """
    places = np.pad(np.arange(n, dtype=np.int64), (before, after), mode=mode)
    places.flags.writeable = False  # shared by all callers
    return places
