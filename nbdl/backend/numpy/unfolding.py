"""Windows of images as columns, on NumPy arrays."""

from __future__ import annotations

import math
from typing import Any

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Sizes, taps


class Unfolding:
    """What `unfold` and `fold` compute; they are each other's transposes."""

    xp: Any

    def columns_of_windows(
        self,
        x: Any,
        *,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        counts: Sizes,
        out: Any = None,
    ) -> Any:
        """Every window of (N, C, *size) as a column.

        Args:
            x: the images.
            size: their spatial sizes.
            kernel: sizes of the window.
            stride: distances of neighbouring windows.
            padding: zeros around the images.
            dilation: distances of neighbouring taps.
            counts: numbers of windows.
            out: (N, C * taps, windows), receives the result.
        """
        result = self.xp.zeros((*x.shape[:2], *kernel, *counts), x.dtype)
        for tap in taps(size, kernel, stride, padding, dilation, counts):
            place = (slice(None), slice(None), *tap.position)
            result[place][tap.windows] = x[tap.elements]
        rows = x.shape[1] * math.prod(kernel)
        return delivered(result.reshape((x.shape[0], rows, math.prod(counts))), out)

    def windows_of_columns(
        self,
        y: Any,
        *,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        counts: Sizes,
        out: Any = None,
    ) -> Any:
        """The transpose of :meth:`columns_of_windows`: columns added up where they came from.

        Args:
            y: (N, C * taps, windows).
            size: of :meth:`columns_of_windows`.
            kernel: of :meth:`columns_of_windows`.
            stride: of :meth:`columns_of_windows`.
            padding: of :meth:`columns_of_windows`.
            dilation: of :meth:`columns_of_windows`.
            counts: of :meth:`columns_of_windows`.
            out: (N, C, *size), receives the result.
        """
        channels = y.shape[1] // math.prod(kernel)
        windows = widened(y).reshape((y.shape[0], channels, *kernel, *counts))
        result = self.xp.zeros((y.shape[0], channels, *size), windows.dtype)
        for tap in taps(size, kernel, stride, padding, dilation, counts):
            place = (slice(None), slice(None), *tap.position)
            result[tap.elements] += windows[place][tap.windows]
        return delivered(narrowed(result, y.dtype), out)
