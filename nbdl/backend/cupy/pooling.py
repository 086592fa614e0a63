"""Pooling on the GPU: a thread a window, and a thread an element on the way back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import launch_each
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.cupy.placing import target
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Sizes

MAX_AXES = 3
_INT64 = np.dtype(np.int64)


class CupyPooling:
    """See :class:`~nbdl.backend.numpy.pooling.Pooling`."""

    xp: Any
    _kernels: Kernels

    def max_pool(
        self,
        x: Any,
        *,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        counts: Sizes,
        out: Any = None,
    ) -> tuple[Any, Any]:
        """The maximum of every window, and where it is."""
        shape = (*x.shape[:2], *counts)
        values, places = self._maxima(x, shape, out)
        axes = axes_of_windows(x.shape[2:], counts, kernel, stride, padding, dilation)
        self._pool("max_pool", x.dtype, (self.xp.ascontiguousarray(x), values, places), values.size, axes)
        return delivered((values, places), out)

    def adaptive_max_pool(self, x: Any, *, counts: Sizes, out: Any = None) -> tuple[Any, Any]:
        """The maxima of windows that cover the input evenly, and where they are."""
        shape = (*x.shape[:2], *counts)
        values, places = self._maxima(x, shape, out)
        ones = (1,) * len(counts)
        sizes = axes_of_windows(x.shape[2:], counts, ones, ones, ones, ones)
        sizes = tuple([value for k in range(0, len(sizes), 6) for value in sizes[k : k + 2]])
        operands = self.xp.ascontiguousarray(x), values, places
        self._pool("adaptive_max_pool", x.dtype, operands, values.size, sizes)
        return delivered((values, places), out)

    def window_gather(self, x: Any, indices: Any, *, out: Any = None) -> Any:
        """The elements at flat positions of every plane."""
        result = target(self.xp, out, indices.shape, x.dtype, x, indices)
        planes = np.int64(math.prod(x.shape[2:])), np.int64(math.prod(indices.shape[2:]))
        operands = *map(self.xp.ascontiguousarray, (x, indices)), result
        self._pool("window_gather", x.dtype, operands, result.size, planes)
        return delivered(result, out)

    def window_put(self, y: Any, indices: Any, *, size: Sizes, out: Any = None) -> Any:
        """Elements written at flat positions of planes of zeros."""
        result = self.xp.zeros((*y.shape[:2], *size), y.dtype)
        planes = np.int64(math.prod(size)), np.int64(math.prod(y.shape[2:]))
        operands = *map(self.xp.ascontiguousarray, (y, indices)), result
        self._pool("window_put", y.dtype, operands, y.size, planes)
        return delivered(result, out)

    def fractional_max_pool(
        self, x: Any, samples: Any, *, kernel: Sizes, counts: Sizes, out: Any = None
    ) -> tuple[Any, Any]:
        """The maxima of windows that begin at random places, and where they are."""
        rank, missing = len(counts), MAX_AXES - len(counts)
        shape = (*x.shape[:2], *counts)
        values, places = self._maxima(x, shape, out)
        axes: list[Any] = [np.int32(rank)]
        for axis in range(-missing, rank):
            n, window, count = (1, 1, 1) if axis < 0 else (x.shape[2 + axis], kernel[axis], counts[axis])
            sample = rank - 1 - axis if rank == 2 else max(axis, 0)
            axes += [*map(np.int32, (n, window, count, sample)), np.float64((n - window) / max(1, count - 1))]
        operands = *map(self.xp.ascontiguousarray, (x, samples.astype(x.dtype, copy=False))), values, places
        self._pool("fractional_max_pool", x.dtype, operands, values.size, tuple(axes))
        return delivered((values, places), out)

    def avg_pool(
        self,
        x: Any,
        *,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        counts: Sizes,
        count_include_pad: bool,
        divisor: int | None,
        out: Any = None,
    ) -> Any:
        """The mean of every window."""
        result = target(self.xp, out, (*x.shape[:2], *counts), x.dtype, x)
        axes = axes_of_windows(x.shape[2:], counts, kernel, stride, padding, (1,) * len(counts))
        means = np.int32(count_include_pad), np.int64(divisor or 0)
        self._pool("avg_pool", x.dtype, (self.xp.ascontiguousarray(x), result), result.size, axes, *means)
        return delivered(result, out)

    def avg_pool_input(
        self,
        y: Any,
        *,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        counts: Sizes,
        count_include_pad: bool,
        divisor: int | None,
        out: Any = None,
    ) -> Any:
        """The transpose of :meth:`avg_pool`."""
        result = target(self.xp, out, (*y.shape[:2], *size), y.dtype, y)
        axes = axes_of_windows(size, counts, kernel, stride, padding, (1,) * len(counts))
        means = np.int32(count_include_pad), np.int64(divisor or 0)
        operands = self.xp.ascontiguousarray(y), result
        self._pool("avg_pool_input", y.dtype, operands, result.size, axes, *means)
        return delivered(result, out)

    def _maxima(self, x: Any, shape: tuple[int, ...], out: Any) -> tuple[Any, Any]:
        """Where maxima and their places are written."""
        values, places = out or (None, None)
        return target(self.xp, values, shape, x.dtype, x), target(self.xp, places, shape, _INT64, x)

    def _pool(
        self,
        name: str,
        dtype: np.dtype,
        operands: tuple[Any, ...],
        count: int,
        axes: tuple[Any, ...],
        *arguments: Any,
    ) -> None:
        parts = ("windows.cuh",)
        launch_each(self._kernels, name, "pooling.cu", dtype, operands, count, *axes, *arguments, parts=parts)


def axes_of_windows(size: Sizes, counts: Sizes, *geometry: Sizes) -> tuple[Any, ...]:
    """The parameters of the spatial axes, those that are missing in front.

    Raises:
        ValueError: there are more than the kernels have.
    """
    missing = MAX_AXES - len(size)
    if missing < 0 or math.prod(size) >= 1 << 31:
        raise ValueError(f"windows: at most {MAX_AXES} spatial axes are supported on a GPU, got size {size}")
    kernel, stride, padding, dilation = geometry
    rows = [(1, 1, 1, 1, 0, 1)] * missing
    rows += zip(size, counts, kernel, stride, padding, dilation, strict=True)
    return tuple([np.int32(value) for row in rows for value in row])
