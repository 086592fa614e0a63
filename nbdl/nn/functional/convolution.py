"""Convolutions, transposed convolutions, and the windows themselves."""

from __future__ import annotations

import functools
import math
from typing import Any

from nbdl.autograd.autocast import lowered
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.backend.windows import Pairs, Sizes, window_count
from nbdl.nn.functional.sizes import batched, sizes
from nbdl.ops.convolution import convolution, per_channel, transposed_convolution
from nbdl.ops.unfolding import ColumnsOfWindows, WindowsOfColumns


def _padding(
    label: str, padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple:
    """Zeros before and after every axis."""
    if not isinstance(padding, str):
        return tuple((p, p) for p in sizes(label, "padding", padding, len(stride)))
    if padding == "valid":
        return ((0, 0),) * len(stride)
    if padding != "same":
        raise ValueError(f"{label}: Invalid padding string {padding!r}, should be one of 'valid', 'same'")
    if max(stride) > 1:
        raise RuntimeError(
            f"{label}: padding='same' is not supported for strided convolutions, got stride={stride}"
        )
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _check_weight(label: str, weight: Tensor, rank: int, groups: int) -> None:
    if weight.array.ndim != rank + 2:
        raise RuntimeError(
            f"{label}: expected a weight with {rank + 2} axes (channels, channels, and {rank} of the "
            f"kernel), but got weight of size {list(weight.shape)}"
        )
    if groups < 1:
        raise RuntimeError(f"{label}: non-positive groups is not supported, got groups={groups}")


def _convolution(
    label: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    _check_weight(label, weight, rank, groups)
    x, unbatch = batched(label, input, rank)
    stride = sizes(label, "stride", stride, rank, least=1)
    dilation = sizes(label, "dilation", dilation, rank, least=1)
    pairs = _padding(label, padding, weight.array.shape[2:], stride, dilation)
    return unbatch(convolution(x, weight, bias, stride, pairs, dilation, groups))


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over one spatial axis, see :func:`conv2d`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.conv1d(nbdl.tensor([[1.0, 2.0, 4.0]]), nbdl.tensor([[[-1.0, 1.0]]]))
        tensor([[1., 2.]])
    """
    return _convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over two spatial axes.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (O, C / groups, kernel height, kernel width).
        bias: (O,) or None.
        stride: distance of neighbouring windows, one number or one an axis.
        padding: zeros on both sides, ``valid`` (none) or ``same`` (as many as keep the size).
        dilation: distance of neighbouring taps of the kernel.
        groups: how many independent parts the channels fall into.

    Returns:
        (N, O, windows, windows) or (O, windows, windows)

    Raises:
        RuntimeError: the shapes do not fit, or the dtypes differ.
        ValueError: an unknown padding.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.conv2d(nbdl.ones(1, 3, 8, 8), nbdl.ones(4, 3, 3, 3), padding=1).shape
        nbdl.Size([1, 4, 8, 8])
    """
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over three spatial axes, see :func:`conv2d`."""
    return _convolution("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


@functools.lru_cache(maxsize=1024)
def _transposed_geometry(
    label: str, windows: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, extra: Sizes, dilation: Sizes
) -> tuple[Sizes, Pairs]:
    """Spatial sizes of the result, and what is cropped of it before and after every axis."""
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            raise RuntimeError(
                f"{label}: output padding must be smaller than either stride or dilation, but got "
                f"output_padding={extra}, stride={stride}, dilation={dilation}"
            )
    geometry = zip(windows, kernel, stride, padding, dilation, extra, strict=True)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in geometry)
    if min(size) < 1:
        raise RuntimeError(
            f"{label}: the calculated output size {size} is too small for an input of size {windows}"
        )
    # What is appended to the result is cropped less, or even less than nothing, at its end.
    return size, tuple((p, p - e) for p, e in zip(padding, extra, strict=True))


def _transposed(
    label: str,
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    input, weight, bias = lowered(input, weight, bias)
    _check_weight(label, weight, rank, groups)
    y, unbatch = batched(label, input, rank)
    stride = sizes(label, "stride", stride, rank, least=1)
    dilation = sizes(label, "dilation", dilation, rank, least=1)
    padding = sizes(label, "padding", padding, rank)
    extra = sizes(label, "output_padding", output_padding, rank)
    shapes = y.array.shape[2:], weight.array.shape[2:]
    size, pairs = _transposed_geometry(label, *shapes, stride, padding, extra, dilation)
    out = transposed_convolution(y, weight, size, stride, pairs, dilation, groups)
    if bias is not None:
        channels = weight.array.shape[1] * groups
        if bias.array.shape != (channels,):
            raise RuntimeError(
                f"{label}: expected bias to have shape ({channels},), but got {list(bias.shape)}"
            )
        out = out + per_channel(bias, out.array.ndim)
    return unbatch(out)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv1d`, see :func:`conv_transpose2d`."""
    return _transposed(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv2d` as a linear map of its input.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, O / groups, kernel height, kernel width).
        bias: (O,) or None.
        stride: of the convolution that is transposed.
        padding: of that convolution: it cuts the result on both sides.
        output_padding: how much larger than the smallest possible size the result is, at its end.
        groups: how many independent parts the channels fall into.
        dilation: distance of neighbouring taps of the kernel.

    Returns:
        (N, O, size, size), with size = (n - 1) stride - 2 padding + dilation (kernel - 1) + output_padding +
        1

    Raises:
        RuntimeError: the shapes do not fit, or the dtypes differ.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.conv_transpose2d(nbdl.ones(1, 4, 8, 8), nbdl.ones(4, 3, 2, 2), stride=2).shape
        nbdl.Size([1, 3, 16, 16])
    """
    return _transposed(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv3d`, see :func:`conv_transpose2d`."""
    return _transposed(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


# ---------------------------------------------------------------------------------------------------- windows
def _window_geometry(
    label: str,
    size: tuple[int, ...],
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> tuple[tuple[int, ...], ...]:
    """Sizes of image and window, stride, padding, dilation, and the numbers of windows."""
    kernel, pads = sizes(label, "kernel_size", kernel_size, 2, least=1), sizes(label, "padding", padding, 2)
    steps, gaps = sizes(label, "stride", stride, 2, least=1), sizes(label, "dilation", dilation, 2, least=1)
    counts = tuple(
        window_count(n, k, step, (pad, pad), gap)
        for n, k, step, pad, gap in zip(size, kernel, steps, pads, gaps, strict=True)
    )
    return size, kernel, steps, pads, gaps, counts


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """All windows as columns.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: size of the window.
        dilation: distance of neighbouring taps.
        padding: zeros on both sides.
        stride: distance of neighbouring windows.

    Returns:
        (N, C * taps, windows) or (C * taps, windows)

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.unfold(nbdl.ones(1, 3, 4, 4), 2).shape
        nbdl.Size([1, 12, 9])
    """
    x, unbatch = batched("unfold", input, 2)
    geometry = _window_geometry("unfold", x.array.shape[2:], kernel_size, dilation, padding, stride)
    if min(geometry[-1]) < 1:
        raise RuntimeError(
            f"unfold: no window of {geometry[1]} fits: expected positive numbers of windows for an input "
            f"{list(input.shape)}, padding={padding}, dilation={dilation} and stride={stride}, got "
            f"{geometry[-1]}"
        )
    return unbatch(apply(ColumnsOfWindows.of(*geometry), x.contiguous()))


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The transpose of :func:`unfold`: the elements of all windows added up where they came from.

    Args:
        input: (N, C * taps, windows) or (C * taps, windows).
        output_size: (H, W).
        kernel_size: size of the window.
        dilation: distance of neighbouring taps.
        padding: zeros on both sides.
        stride: distance of neighbouring windows.

    Returns:
        (N, C, H, W) or (C, H, W)

    Raises:
        RuntimeError: the numbers of taps or windows do not fit.
    """
    y, unbatch = batched("fold", input, 1)
    size = sizes("fold", "output_size", output_size, 2, least=1)
    geometry = _window_geometry("fold", size, kernel_size, dilation, padding, stride)
    kernel, counts = geometry[1], geometry[-1]
    rows, columns = y.array.shape[1:]
    taps = math.prod(kernel)
    if rows % taps or min(counts) < 1 or math.prod(counts) != columns:
        raise RuntimeError(
            f"fold: output_size={size}, kernel_size={kernel}, dilation={dilation}, padding={padding} and "
            f"stride={stride} need an input (N, multiple of {taps}, {math.prod(counts)}), got "
            f"{list(input.shape)}"
        )
    return unbatch(apply(WindowsOfColumns.of(*geometry), y.contiguous()))
