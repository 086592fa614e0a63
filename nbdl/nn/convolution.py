"""Convolutions and transposed convolutions in one to three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn import init
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.nn.settings import per_axis
from nbdl.ops.creation import empty

Sizes = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What all convolutions have in common; subclasses name the dimensions and the function."""

    _dims: ClassVar[int]
    _transposed: ClassVar[bool] = False
    _function: ClassVar[Callable[..., Tensor]]

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes | str,
        dilation: Sizes,
        output_padding: Sizes,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ):
        super().__init__()
        label, n = type(self).__name__, self._dims
        if groups <= 0:
            raise ValueError(f"{label}: groups must be a positive integer, got {groups}")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{label}: {name} must be divisible by groups, got {channels} and {groups}")
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{label}: padding_mode must be one of {PADDING_MODES}, but got padding_mode={padding_mode!r}"
            )
        self.in_channels, self.out_channels, self.groups, self.padding_mode = (
            in_channels,
            out_channels,
            groups,
            padding_mode,
        )
        self.kernel_size = per_axis(label, "kernel_size", kernel_size, n)
        self.stride = per_axis(label, "stride", stride, n)
        self.dilation = per_axis(label, "dilation", dilation, n)
        self.output_padding = per_axis(label, "output_padding", output_padding, n)
        self.padding = padding if isinstance(padding, str) else per_axis(label, "padding", padding, n)
        if isinstance(padding, str):
            _check_named_padding(label, padding, self.stride)
        first, second = (
            (in_channels, out_channels // groups)
            if self._transposed
            else (out_channels, in_channels // groups)
        )
        self.weight = Parameter(empty(first, second, *self.kernel_size, device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.fans(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._pad_widths(), mode=self.padding_mode), 0
        return type(self)._function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _pad_widths(self) -> list[int]:
        """What ``F.pad`` adds before and after, last axis first."""
        widths: list[int] = []
        for k in reversed(range(self._dims)):
            total = self.dilation[k] * (self.kernel_size[k] - 1)
            if self.padding == "same":
                widths += [total // 2, total - total // 2]
            else:
                widths += [0, 0] if self.padding == "valid" else [self.padding[k], self.padding[k]]  # type: ignore[list-item]
        return widths

    def extra_repr(self) -> str:
        n = self._dims
        parts = [
            f"{self.in_channels}",
            f"{self.out_channels}",
            f"kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        if self.padding != (0,) * n:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * n:
            parts.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * n:
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


def _check_named_padding(label: str, padding: str, stride: Sequence[int]) -> None:
    if padding not in ("same", "valid"):
        raise ValueError(f"{label}: Invalid padding string {padding!r}, should be one of 'same', 'valid'")
    if padding == "same" and any(step != 1 for step in stride):
        raise ValueError(
            f"{label}: padding='same' is not supported for strided convolutions, got stride={tuple(stride)}"
        )


class _Forward(_Convolution):
    """Convolutions proper."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class _Transposed(_Convolution):
    """Transposed convolutions."""

    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        if padding_mode != "zeros":
            raise ValueError(
                f'{type(self).__name__}: Only "zeros" padding mode is supported, got {padding_mode!r}'
            )
        if isinstance(padding, str):
            raise ValueError(f"{type(self).__name__}: padding must be given in numbers, got {padding!r}")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        output_padding = self.output_padding if output_size is None else self._padding_for(input, output_size)
        return type(self)._function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
        )

    def _padding_for(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives the spatial sizes ``output_size``.

        Raises:
            ValueError: no output padding does.
        """
        n, label = self._dims, type(self).__name__
        wanted = tuple(output_size)[-n:] if len(output_size) in (n + 1, n + 2) else tuple(output_size)
        if len(wanted) != n:
            raise ValueError(
                f"{label}: output_size must have {n} elements (or {n + 2} with batch and channels), got "
                f"{len(wanted)}"
            )
        smallest = tuple(
            (input.shape[k - n] - 1) * self.stride[k]
            - 2 * self.padding[k]
            + self.dilation[k] * (self.kernel_size[k] - 1)
            + 1
            for k in range(n)
        )
        largest = tuple(size + step - 1 for size, step in zip(smallest, self.stride, strict=True))
        if not all(low <= size <= high for low, size, high in zip(smallest, wanted, largest, strict=True)):
            raise ValueError(
                f"{label}: requested an output size of {wanted}, but valid sizes range from {smallest} to "
                f"{largest} (for an input of {tuple(input.shape[-n:])})"
            )
        return tuple(size - low for size, low in zip(wanted, smallest, strict=True))


class Conv1d(_Forward):
    """Convolution of (N, C, L) or (C, L) with learned kernels; else as :class:`Conv2d`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Conv1d(3, 8, 5, padding=2)(nbdl.zeros(2, 3, 20)).shape
        nbdl.Size([2, 8, 20])
    """

    _dims, _function = 1, staticmethod(F.conv1d)


class Conv2d(_Forward):
    """Convolution of (N, C, H, W) or (C, H, W) with learned kernels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: size of the kernel, an integer or one an axis; as all sizes below.
        stride: step of the kernel.
        padding: zeros added on both sides; or ``valid`` (none) or ``same`` (the output has the size of the
            input).
        dilation: step between the elements of the kernel.
        groups: blocks of channels that do not mix.
        bias: whether a bias is added.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight: (out_channels, in_channels / groups, *kernel_size), evenly distributed in ±1 / sqrt(fan_in) at
            first.
        bias: (out_channels,), likewise; or None.

    Raises:
        ValueError: the groups do not divide the channels, or a padding is unknown or does not go with the
            stride.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Conv2d(1, 8, kernel_size=3, padding=1)(nbdl.zeros(4, 1, 28, 28)).shape
        nbdl.Size([4, 8, 28, 28])
    """

    _dims, _function = 2, staticmethod(F.conv2d)


class Conv3d(_Forward):
    """Convolution of (N, C, D, H, W) or (C, D, H, W) with learned kernels; else as :class:`Conv2d`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Conv3d(1, 2, 3)(nbdl.zeros(1, 1, 8, 8, 8)).shape
        nbdl.Size([1, 2, 6, 6, 6])
    """

    _dims, _function = 3, staticmethod(F.conv3d)


class ConvTranspose1d(_Transposed):
    """The transpose of :class:`Conv1d` as a linear map; else as :class:`ConvTranspose2d`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.ConvTranspose1d(3, 2, 4, stride=2)(nbdl.zeros(1, 3, 10)).shape
        nbdl.Size([1, 2, 22])
    """

    _dims, _function = 1, staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The transpose of :class:`Conv2d` as a linear map.

    ``forward(input, output_size=None)``: a spatial size, of those that the stride leaves open, may be chosen.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: size of the kernel, an integer or one an axis; as all sizes below.
        stride: step of the kernel on the output.
        padding: what is cut off the output on both sides.
        output_padding: added to one side of the output.
        groups: blocks of channels that do not mix.
        bias: whether a bias is added.
        dilation: step between the elements of the kernel.
        padding_mode: ``zeros``.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight: (in_channels, out_channels / groups, *kernel_size), evenly distributed in ±1 / sqrt(fan_in) at
            first.
        bias: (out_channels,), likewise; or None.

    Raises:
        ValueError: the groups do not divide the channels, or the padding mode is not ``zeros``.

    Example:
        >>> import nbdl
        >>> up = nbdl.nn.ConvTranspose2d(8, 4, kernel_size=3, stride=2, padding=1)
        >>> up(nbdl.zeros(1, 8, 7, 7), output_size=(14, 14)).shape
        nbdl.Size([1, 4, 14, 14])
    """

    _dims, _function = 2, staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_Transposed):
    """The transpose of :class:`Conv3d` as a linear map; else as :class:`ConvTranspose2d`."""

    _dims, _function = 3, staticmethod(F.conv_transpose3d)
