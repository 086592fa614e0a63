"""Pooling on NumPy arrays, tap by tap of the window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Sizes, taps
from nbdl.formula import dtypes


class Pooling:
    """Maxima and means over windows of (N, C, *size) arrays, and their transposes.

    ``counts`` is the number of windows, which ``ceil_mode`` has a say in; a window may reach over the end of
    the input.
    """

    xp: Any

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
        """The maximum of every window, and where it is.

        Args:
            x: (N, C, *size).
            kernel: sizes of the window.
            stride: distances of neighbouring windows.
            padding: how far the first window begins before the input; what lies outside never wins.
            dilation: distances of neighbouring taps.
            counts: numbers of windows.
            out: receives the results.

        Returns:
            Values (N, C, *counts) of the dtype of x, and int64 positions in the flattened (*size): of the
            first maximum, or of the last NaN.
        """
        size = x.shape[2:]
        flat = self.xp.arange(math.prod(size)).reshape(size)
        values = self.xp.full((*x.shape[:2], *counts), lowest(x.dtype), x.dtype)
        indices = self.xp.zeros(values.shape, np.int64)
        indices[...] = self._first_elements(flat, kernel, stride, padding, dilation, counts)
        for tap in taps(size, kernel, stride, padding, dilation, counts):
            candidate, where = x[tap.elements], tap.windows
            # A NaN wins, and stays: nothing compares as larger.
            wins = (candidate > values[where]) | (candidate != candidate)
            values[where] = self.xp.where(wins, candidate, values[where])
            indices[where] = self.xp.where(wins, flat[tap.elements], indices[where])
        return delivered((values, indices), out)

    def _first_elements(
        self, flat: Any, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes
    ) -> Any:
        """The first position inside the input of every window: the maximum where all elements are -inf."""
        first = self.xp.full(counts, -1)
        for tap in reversed(taps(flat.shape, kernel, stride, padding, dilation, counts)):
            first[tap.windows] = flat[tap.elements]
        return first

    def adaptive_max_pool(self, x: Any, *, counts: Sizes, out: Any = None) -> tuple[Any, Any]:
        """Like :meth:`max_pool` over ``counts`` windows that cover the input evenly.

        Window i of an axis of length n is [floor(i n / counts), ceil((i + 1) n / counts)).
        """
        size = x.shape[2:]
        flat = self.xp.arange(math.prod(size)).reshape(size)
        values = self.xp.empty((*x.shape[:2], *counts), x.dtype)
        indices = self.xp.empty(values.shape, np.int64)
        for window in np.ndindex(*counts):
            bounds = [
                slice(i * n // count, -(-(i + 1) * n // count))
                for i, n, count in zip(window, size, counts, strict=True)
            ]
            part, place = (..., *bounds), (..., *window)
            positions = flat[part].reshape(-1)
            region = x[part].reshape((*x.shape[:2], positions.size))
            best = region.argmax(-1)
            is_nan = region != region
            best = self.xp.where(is_nan.any(-1), region.shape[-1] - 1 - is_nan[..., ::-1].argmax(-1), best)
            values[place] = self.xp.take_along_axis(region, best[..., None], -1)[..., 0]
            indices[place] = positions[best]
        return delivered((values, indices), out)

    def window_gather(self, x: Any, indices: Any, *, out: Any = None) -> Any:
        """The elements at flat positions of every plane.

        Args:
            x: (N, C, *size).
            indices: (N, C, *counts), int64 positions in the flattened (*size).
            out: (N, C, *counts), receives the result.
        """
        planes = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
        chosen = indices.reshape((*indices.shape[:2], math.prod(indices.shape[2:])))
        result = self.xp.take_along_axis(planes, chosen, 2).reshape(indices.shape)
        return delivered(result, out)

    def window_scatter(self, y: Any, indices: Any, *, size: Sizes, out: Any = None) -> Any:
        """The transpose of :meth:`window_gather`: elements added to zeros (N, C, *size) at positions."""
        plane = math.prod(size)
        lead = y.shape[0] * y.shape[1]
        result = self.xp.zeros((*y.shape[:2], *size), widened(y).dtype)
        positions = indices.reshape((lead, -1)) if lead and y.size else indices.reshape((lead, 0))
        positions = positions + self.xp.arange(lead)[:, None] * plane
        self.xp.add.at(result.reshape(-1), positions.reshape(-1), widened(y).reshape(-1))
        return delivered(narrowed(result, y.dtype), out)

    def window_put(self, y: Any, indices: Any, *, size: Sizes, out: Any = None) -> Any:
        """Zeros (N, C, *size) with elements written at positions, one of those with equal positions.

        Raises:
            IndexError: a position lies outside.
        """
        lead, plane = y.shape[0] * y.shape[1], math.prod(size)
        count = math.prod(y.shape[2:])
        places = indices.reshape((lead, count))
        places = self.xp.where(places < 0, plane, places)  # negative ones do not count from the end
        result = self.xp.zeros((lead, plane), y.dtype)
        result[self.xp.arange(lead)[:, None], places] = y.reshape((lead, count))
        return delivered(result.reshape((*y.shape[:2], *size)), out)

    def fractional_max_pool(
        self, x: Any, samples: Any, *, kernel: Sizes, counts: Sizes, out: Any = None
    ) -> tuple[Any, Any]:
        """Like :meth:`max_pool` over ``counts`` windows that begin at random places.

        Of an axis of length n, window i begins at trunc((i + u) a) - trunc(u a) for a = (n - kernel) /
        (counts - 1), and the last one at n - kernel.

        Args:
            x: (N, C, *size).
            samples: (N, C, number of spatial axes), the numbers u in [0, 1). Of two axes the last one has the
                first number.
            kernel: sizes of the windows.
            counts: numbers of windows.
            out: receives the results.
        """
        size, rank = x.shape[2:], len(counts)
        starts = []
        for axis, (n, window, count) in enumerate(zip(size, kernel, counts, strict=True)):
            u = samples[:, :, rank - 1 - axis if rank == 2 else axis, None]
            alpha = samples.dtype.type((n - window) / max(1, count - 1))
            places = self.xp.arange(count).astype(samples.dtype)
            start = (self.xp.trunc((places + u) * alpha) - self.xp.trunc(u * alpha)).astype(np.int64)
            start[:, :, -1] = n - window
            starts.append(start.reshape((*x.shape[:2], *[count if k == axis else 1 for k in range(rank)])))
        planes = x.reshape((*x.shape[:2], math.prod(size)))
        values = self.xp.full((*x.shape[:2], *counts), lowest(x.dtype), x.dtype)
        indices = None
        for tap in np.ndindex(*kernel):
            where: Any = 0
            for n, start, offset in zip(size, starts, tap, strict=True):
                where = where * n + (start + offset)
            flat = where.reshape((*x.shape[:2], math.prod(counts)))
            candidate = self.xp.take_along_axis(planes, flat, 2).reshape(where.shape)
            wins = (candidate > values) | (candidate != candidate)
            values = self.xp.where(wins, candidate, values)
            indices = where if indices is None else self.xp.where(wins, where, indices)
        return delivered((values, indices), out)

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
        """The mean of every window.

        Args:
            x: (N, C, *size).
            kernel: sizes of the window.
            stride: distances of neighbouring windows.
            padding: zeros around the input.
            counts: numbers of windows.
            count_include_pad: whether these zeros count in the mean.
            divisor: what the sum is divided by; None for the number of elements.
            out: (N, C, *counts), receives the result.
        """
        size = x.shape[2:]
        if kernel == stride and size == tuple([n * k for n, k in zip(counts, kernel, strict=True)]):
            blocks = [n for pair in zip(counts, kernel, strict=True) for n in pair]
            axes = tuple(range(3, 2 * len(size) + 2, 2))
            total = widened(x).reshape((*x.shape[:2], *blocks)).sum(axes)
        else:
            total = self.xp.zeros((*x.shape[:2], *counts), widened(x).dtype)
            for tap in taps(size, kernel, stride, padding, (1,) * len(size), counts):
                total[tap.windows] += x[tap.elements]
        divisors = self.window_divisors(size, kernel, stride, padding, counts, count_include_pad, divisor)
        return delivered(narrowed(total / divisors.astype(total.dtype), x.dtype), out)

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
        """The transpose of :meth:`avg_pool`: each element spread evenly over its window of (N, C, *size)."""
        divisors = self.window_divisors(size, kernel, stride, padding, counts, count_include_pad, divisor)
        share = widened(y) / divisors.astype(widened(y).dtype)
        result = self.xp.zeros((*y.shape[:2], *size), share.dtype)
        for tap in taps(size, kernel, stride, padding, (1,) * len(size), counts):
            result[tap.elements] += share[tap.windows]
        return delivered(narrowed(result, y.dtype), out)

    def window_divisors(
        self,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        counts: Sizes,
        include_pad: bool,
        divisor: int | None,
    ) -> Any:
        """What the sum of every window is divided by, broadcast over (*counts)."""
        if divisor is not None:
            return self.xp.asarray(divisor)
        lengths = self.xp.asarray(1)
        for n, k, step, pad, count in zip(size, kernel, stride, padding, counts, strict=True):
            first = self.xp.arange(count) * step - pad
            last = self.xp.minimum(first + k, n + pad)
            if not include_pad:
                first, last = self.xp.maximum(first, 0), self.xp.minimum(last, n)
            lengths = self.xp.multiply.outer(lengths, last - first)
        return lengths


def lowest(dtype: Any) -> Any:
    """The value of ``dtype`` that is not larger than any other."""
    return -np.inf if dtypes.is_floating(dtype) else False if dtype == dtypes.BOOL else np.iinfo(dtype).min
