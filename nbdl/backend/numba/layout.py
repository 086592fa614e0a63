"""Images as kernels see them: (N, C, *size) arrays with three spatial axes, and their layout in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.launch import OutputSpec
from nbdl.backend.numba.loops import row_major
from nbdl.backend.windows import Sizes

Array = NDArray[Any]


class Image(NamedTuple):
    """Sizes and element strides of an (N, C, *size) array; missing axes have length 1 and stride 0."""

    batch: int
    channels: int
    size: Sizes
    strides: Sizes

    @property
    def has_adjacent_channels(self) -> bool:
        """Whether the channels of one position are neighbours in memory."""
        return self.strides[1] == 1 or self.channels == 1


def three_axes(sizes: Sequence[Any], missing: Any) -> tuple[Any, ...]:
    """The values of one to three spatial axes as three."""
    return (missing,) * (3 - len(sizes)) + tuple(sizes)


def image_of(array: Array) -> Image:
    """The layout of an array."""
    strides = [stride // array.itemsize for stride in array.strides]
    size = three_axes(array.shape[2:], 1)
    return Image(array.shape[0], array.shape[1], size, (*strides[:2], *three_axes(strides[2:], 0)))


def fresh_image(shape: Sizes, dtype: np.dtype[Any], channels_last: bool) -> tuple[Image, OutputSpec]:
    """The layout of a result that is yet to be allocated."""
    batch, channels, *size = shape
    if channels_last:
        outer, *inner = row_major((batch, *size, channels))
        strides = (outer, 1, *three_axes(inner[:-1], 0))
        axes = (0, len(shape) - 1, *range(1, len(shape) - 1))
        return Image(batch, channels, three_axes(size, 1), strides), OutputSpec(shape, dtype, axes)
    outer, channel, *inner = row_major(shape)
    return Image(batch, channels, three_axes(size, 1), (outer, channel, *three_axes(inner, 0))), OutputSpec(
        shape, dtype
    )


def is_plain(arrays: Sequence[Array], dtype: np.dtype[Any]) -> bool:
    """Whether kernels can read the arrays: of one native dtype, not empty, aligned, whole strides."""
    return all(
        x.dtype == dtype
        and x.dtype.isnative
        and x.flags.aligned
        and x.size > 0
        and all(stride % x.itemsize == 0 for stride in x.strides)
        for x in arrays
    )


def has_neighbours(array: Array) -> bool:
    """Whether the elements along the last axis are neighbours in memory."""
    return array.strides[-1] == array.itemsize or array.shape[-1] == 1
