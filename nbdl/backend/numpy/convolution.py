"""Convolutions on NumPy arrays: windows copied into columns, then one matrix product a group."""

from __future__ import annotations

import math
from typing import Any

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Pairs, Sizes, taps, window_counts


class Convolution:
    """The convolution and the two products that are its derivatives, over (N, C, *spatial) arrays.

    With columns = the windows of x as a matrix (C/groups * kernel, N * windows) of every group:

    - convolution: y = w @ columns(x)
    - convolution_weight: w = y @ columns(x)^T
    - convolution_input: x = columns^T(w^T @ y), the elements of all windows added up where they came from
    """

    xp: Any

    def convolution(
        self,
        x: Any,
        weight: Any,
        *bias: Any,
        stride: Sizes,
        padding: Pairs,
        dilation: Sizes,
        groups: int,
        out: Any = None,
    ) -> Any:
        """Cross-correlation of ``x`` with ``weight``.

        Args:
            x: (N, C, *size).
            weight: (O, C / groups, *kernel).
            bias: (O,) or nothing.
            stride: distances of neighbouring windows.
            padding: zeros before and after every axis.
            dilation: distances of neighbouring taps.
            groups: how many independent parts the channels fall into.
            out: (N, O, *windows), receives the result.
        """
        _require_one_dtype(x, weight, *bias)
        kernel, channels = weight.shape[2:], weight.shape[0]
        counts = window_counts(x.shape[2:], kernel, stride, padding, dilation)
        columns = self._columns(widened(x), kernel, stride, padding, dilation, groups, counts)
        product = self.xp.matmul(_rows(widened(weight), groups, math.prod(weight.shape[1:])), columns)
        result = product.reshape((channels, x.shape[0], *counts)).swapaxes(0, 1)
        if bias:
            result = result + widened(bias[0]).reshape((channels, *[1] * len(kernel)))
        return delivered(self.xp.ascontiguousarray(narrowed(result, x.dtype)), out)

    def convolution_input(
        self,
        y: Any,
        weight: Any,
        *,
        size: Sizes,
        stride: Sizes,
        padding: Pairs,
        dilation: Sizes,
        groups: int,
        out: Any = None,
    ) -> Any:
        """The transpose of :meth:`convolution` in its first operand: the gradient of x.

        Args:
            y: (N, O, *windows).
            weight: (O, C / groups, *kernel).
            size: spatial sizes of the result.
            stride: of the convolution.
            padding: of the convolution.
            dilation: of the convolution.
            groups: of the convolution.
            out: (N, C, *size), receives the result.
        """
        _require_one_dtype(y, weight)
        kernel, channels = weight.shape[2:], weight.shape[1] * groups
        counts = window_counts(size, kernel, stride, padding, dilation)
        rows = _rows(widened(weight), groups, math.prod(weight.shape[1:]))
        columns = self.xp.matmul(rows.swapaxes(1, 2), _channel_rows(widened(y), groups))
        columns = columns.reshape((channels, *kernel, y.shape[0], *counts))
        result = self.xp.zeros((y.shape[0], channels, *size), columns.dtype)
        by_channel = result.swapaxes(0, 1)
        before = tuple(pair[0] for pair in padding)
        for tap in taps(size, kernel, stride, before, dilation, counts):
            place = (slice(None), *tap.position, *tap.windows)
            by_channel[tap.elements] += columns[place]
        return delivered(self.xp.ascontiguousarray(narrowed(result, y.dtype)), out)

    def convolution_weight(
        self,
        x: Any,
        y: Any,
        *,
        kernel: Sizes,
        stride: Sizes,
        padding: Pairs,
        dilation: Sizes,
        groups: int,
        out: Any = None,
    ) -> Any:
        """The transpose of :meth:`convolution` in its second operand: the gradient of the weight.

        Args:
            x: (N, C, *size).
            y: (N, O, *windows).
            kernel: spatial sizes of the result.
            stride: of the convolution.
            padding: of the convolution.
            dilation: of the convolution.
            groups: of the convolution.
            out: (O, C / groups, *kernel), receives the result.
        """
        _require_one_dtype(x, y)
        counts = window_counts(x.shape[2:], kernel, stride, padding, dilation)
        columns = self._columns(widened(x), kernel, stride, padding, dilation, groups, counts)
        product = self.xp.matmul(_channel_rows(widened(y), groups), columns.swapaxes(1, 2))
        return delivered(
            self.xp.ascontiguousarray(
                narrowed(product.reshape((y.shape[1], x.shape[1] // groups, *kernel)), x.dtype)
            ),
            out,
        )

    def _columns(
        self,
        x: Any,
        kernel: Sizes,
        stride: Sizes,
        padding: Pairs,
        dilation: Sizes,
        groups: int,
        counts: Sizes,
    ) -> Any:
        """The windows of ``x``: (groups, C / groups * kernel, N * windows)."""
        batch, channels = x.shape[:2]
        columns = self.xp.zeros((channels, *kernel, batch, *counts), x.dtype)
        by_channel = x.swapaxes(0, 1)
        before = tuple(pair[0] for pair in padding)
        for tap in taps(x.shape[2:], kernel, stride, before, dilation, counts):
            place = (slice(None), *tap.position, *tap.windows)
            columns[place] = by_channel[tap.elements]
        return columns.reshape((groups, channels * math.prod(kernel) // groups, batch * math.prod(counts)))


def _rows(weight: Any, groups: int, length: int) -> Any:
    """The weight as (groups, O / groups, C / groups * kernel)."""
    return weight.reshape((groups, weight.shape[0] // groups, length))


def _channel_rows(y: Any, groups: int) -> Any:
    """An output as (groups, O / groups, N * windows)."""
    channels = y.shape[1]
    return y.swapaxes(0, 1).reshape((groups, channels // groups, y.size // channels if channels else 0))


def _require_one_dtype(*arrays: Any) -> None:
    if any(array.dtype != arrays[0].dtype for array in arrays):
        raise TypeError("operands of different dtypes")
