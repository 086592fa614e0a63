"""Pooling: maxima, means and p-norms over windows, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.module import Module
from nbdl.nn.settings import settings


class _MaxPool(Module):
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return settings(self, "kernel_size", "stride", "padding", "dilation", "ceil_mode")


class MaxPool1d(_MaxPool):
    """Maxima over windows of (N, C, L) or (C, L); arguments as in :class:`MaxPool2d`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.MaxPool1d(2)(nbdl.tensor([[1.0, 5.0, 2.0, 3.0]]))
        tensor([[5., 3.]])
    """

    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """Maxima over windows of (N, C, H, W) or (C, H, W).

    Args:
        kernel_size: size of the windows, an integer or one an axis; as all sizes below.
        stride: step of the windows; default: their size.
        padding: minus infinities added on both sides, at most half a window.
        dilation: step between the elements of a window.
        return_indices: give the positions of the maxima too.
        ceil_mode: let the last window reach over the end.

    Example:
        >>> import nbdl
        >>> nbdl.nn.MaxPool2d(2)(nbdl.zeros(4, 8, 28, 28)).shape
        nbdl.Size([4, 8, 14, 14])
    """

    _function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """Maxima over windows of (N, C, D, H, W) or (C, D, H, W); arguments as in :class:`MaxPool2d`."""

    _function = staticmethod(F.max_pool3d)


class AvgPool1d(Module):
    """Means over windows of (N, C, L) or (C, L); arguments as in :class:`AvgPool2d`, which has one more."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return settings(self, "kernel_size", "stride", "padding")


class _AvgPool(AvgPool1d):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class AvgPool2d(_AvgPool):
    """Means over windows of (N, C, H, W) or (C, H, W).

    Args:
        kernel_size: size of the windows, an integer or one an axis; as all sizes below.
        stride: step of the windows; default: their size.
        padding: zeros added on both sides, at most half a window.
        ceil_mode: let the last window reach over the end.
        count_include_pad: count the added zeros in the mean.
        divisor_override: divide by this instead of the size of the window.

    Example:
        >>> import nbdl
        >>> nbdl.nn.AvgPool2d(2)(nbdl.zeros(1, 3, 8, 8)).shape
        nbdl.Size([1, 3, 4, 4])
    """

    _function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """Means over windows of (N, C, D, H, W) or (C, D, H, W); arguments as in :class:`AvgPool2d`."""

    _function = staticmethod(F.avg_pool3d)


class _LPPool(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = (
            norm_type,
            kernel_size,
            stride,
            ceil_mode,
        )

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return settings(self, "norm_type", "kernel_size", "stride", "ceil_mode")


class LPPool1d(_LPPool):
    """p-norms over windows of (N, C, L) or (C, L); arguments as in :class:`LPPool2d`."""

    _function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """p-norms over windows of (N, C, H, W) or (C, H, W).

    Args:
        norm_type: p.
        kernel_size: size of the windows, an integer or one an axis.
        stride: step of the windows; default: their size.
        ceil_mode: let the last window reach over the end.
    """

    _function = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """p-norms over windows of (N, C, D, H, W) or (C, D, H, W); arguments as in :class:`LPPool2d`."""

    _function = staticmethod(F.lp_pool3d)


class _AdaptiveAvgPool(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        return settings(self, "output_size")


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means over windows that cover (N, C, L) evenly; arguments as in :class:`AdaptiveAvgPool2d`."""

    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means over windows that cover (N, C, H, W) evenly.

    Args:
        output_size: spatial size of the output, an integer or one an axis; None keeps an axis as it is.

    Example:
        >>> import nbdl
        >>> nbdl.nn.AdaptiveAvgPool2d(1)(nbdl.zeros(1, 3, 7, 9)).shape
        nbdl.Size([1, 3, 1, 1])
    """

    _function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means over windows that cover (N, C, D, H, W) evenly; arguments as in :class:`AdaptiveAvgPool2d`."""

    _function = staticmethod(F.adaptive_avg_pool3d)


class _AdaptiveMaxPool(Module):
    _function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return settings(self, "output_size")


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima over windows that cover (N, C, L) evenly; arguments as in :class:`AdaptiveMaxPool2d`."""

    _function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima over windows that cover (N, C, H, W) evenly.

    Args:
        output_size: spatial size of the output, an integer or one an axis; None keeps an axis as it is.
        return_indices: give the positions of the maxima too.
    """

    _function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima over windows that cover (N, C, D, H, W) evenly; arguments as in :class:`AdaptiveMaxPool2d`."""

    _function = staticmethod(F.adaptive_max_pool3d)


class _MaxUnpool(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return settings(self, "kernel_size", "stride", "padding")


class MaxUnpool1d(_MaxUnpool):
    """Maxima put back where :class:`MaxPool1d` found them; arguments as in :class:`MaxUnpool2d`."""

    _function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Maxima put back where :class:`MaxPool2d` found them, among zeros.

    ``forward(input, indices, output_size=None)`` takes what the pooling returned with ``return_indices``.

    Args:
        kernel_size: size of the windows, an integer or one an axis; as all sizes below.
        stride: step of the windows; default: their size.
        padding: what the pooling had added on both sides.
    """

    _function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Maxima put back where :class:`MaxPool3d` found them; arguments as in :class:`MaxUnpool2d`."""

    _function = staticmethod(F.max_unpool3d)


class _FractionalMaxPool(Module):
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ):
        super().__init__()
        label = type(self).__name__
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{label}: exactly one of output_size and output_ratio must be given")
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,)
        if output_ratio is not None and not all(0 < ratio < 1 for ratio in ratios):
            raise ValueError(f"{label}: output_ratio must be between 0 and 1 (got {output_ratio})")
        self.kernel_size, self.output_size, self.output_ratio = kernel_size, output_size, output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
            self._random_samples,
        )  # fmt: skip


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maxima over windows of (N, C, H, W) or (C, H, W) at random distances.

    Args:
        kernel_size: size of the windows.
        output_size: how many windows, one number or one an axis.
        output_ratio: their number as a part of the size of the input, in (0, 1), instead.
        return_indices: give the positions of the maxima too.
        _random_samples: numbers to be used instead of random ones.

    Raises:
        ValueError: not exactly one of size and ratio is given, or the ratio is out of range.

    Source: Graham (2014), Fractional max-pooling.
    """

    _function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """The same of (N, C, D, H, W) or (C, D, H, W); arguments as in :class:`FractionalMaxPool2d`."""

    _function = staticmethod(F.fractional_max_pool3d)
