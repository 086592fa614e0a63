"""Maxima, means and norms over windows."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.sizes import batched, sizes
from nbdl.ops import pooling
from nbdl.ops.pointwise import call

# The root of a sum of powers, with the sign of the sum; where that is 0, so is the slope.
_SIGNED_ROOT = Formula(
    "signed_root",
    lambda mean, taps, p: f.where(
        f.equal(mean, 0),
        0 * mean,
        f.sign(mean) * f.pow(f.where(f.equal(mean, 0), 1, f.abs(mean)) * taps, 1 / p),
    ),
    3,
)
_SQUARE_ROOT = Formula(
    "root_of_squares",
    lambda mean, taps: f.where(f.equal(mean, 0), 0 * mean, f.sqrt(f.where(f.equal(mean, 0), 1, mean) * taps)),
    2,
)
_POWER = Formula("power", lambda x, p: f.pow(x, p), 2)
_SQUARE = Formula("square", lambda x: f.square(x), 1)


def _windows(label: str, kernel_size: Any, stride: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kernel = sizes(label, "kernel_size", kernel_size, rank, least=1)
    empty = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    return kernel, kernel if empty else sizes(label, "stride", stride, rank, least=1)


def _filled(label: str, input: Tensor, rank: int) -> tuple[Tensor, Any]:
    """The input with a batch axis, the only one that may have no elements."""
    x, unbatch = batched(label, input, rank)
    if not x.array.size and (0 in x.array.shape[1:] or x is not input):
        raise RuntimeError(
            f"{label}: expected a {rank + 1}D or {rank + 2}D tensor, of which only the batch may be empty, "
            f"but got {list(input.shape)}"
        )
    return x, unbatch


def _max_pool(
    label: str,
    rank: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    x, unbatch = _filled(label, input, rank)
    kernel, stride = _windows(label, kernel_size, stride, rank)
    values, indices = pooling.max_pool(
        x,
        kernel,
        stride,
        sizes(label, "padding", padding, rank),
        sizes(label, "dilation", dilation, rank, least=1),
        bool(ceil_mode),
    )
    return (unbatch(values), unbatch(indices)) if return_indices else unbatch(values)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of every window of one spatial axis, see :func:`max_pool2d`."""
    return _max_pool(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of every window of two spatial axes.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: size of the window, one number or one an axis.
        stride: distance of neighbouring windows; default: the size of the window.
        padding: how far the first window begins before the input, at most half the window; what lies outside
            never wins.
        dilation: distance of neighbouring taps.
        ceil_mode: also take a last window that reaches over the end.
        return_indices: return the int64 positions in the flattened (H, W) as well.

    Raises:
        RuntimeError: no window fits, or the padding is too large.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.max_pool2d(nbdl.arange(16.0).reshape(1, 4, 4), 2)
        tensor([[[ 5.,  7.],
                 [13., 15.]]])
    """
    return _max_pool(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of every window of three spatial axes, see :func:`max_pool2d`."""
    return _max_pool(
        "max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def _avg_pool(
    label: str,
    rank: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
) -> Tensor:
    if divisor == 0:
        raise RuntimeError(f"{label}: divisor must be not zero")
    x, unbatch = _filled(label, input, rank)
    kernel, stride = _windows(label, kernel_size, stride, rank)
    pads = sizes(label, "padding", padding, rank)
    return unbatch(
        pooling.avg_pool(x, kernel, stride, pads, bool(ceil_mode), bool(count_include_pad), divisor)
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window of one spatial axis, see :func:`avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window of two spatial axes.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: size of the window, one number or one an axis.
        stride: distance of neighbouring windows; default: the size of the window.
        padding: zeros on both sides, at most half the window.
        ceil_mode: also take a last window that reaches over the end.
        count_include_pad: whether these zeros count in the mean.
        divisor_override: what the sum is divided by instead of the number of elements.

    Raises:
        RuntimeError: no window fits, the padding is too large, or the divisor is 0.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.avg_pool2d(nbdl.arange(16.0).reshape(1, 4, 4), 2)
        tensor([[[ 2.5000,  4.5000],
                 [10.5000, 12.5000]]])
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window of three spatial axes, see :func:`avg_pool2d`."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


# ----------------------------------------------------------------------------------------- norms and inverses
def _lp_pool(
    label: str, rank: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    p = float(norm_type)
    kernel, _ = _windows(label, kernel_size, stride, rank)
    powers = call(_SQUARE, input) if p == 2 else call(_POWER, input, p)
    mean = _avg_pool(label, rank, powers, kernel_size, stride, 0, ceil_mode, True)
    if p == 2:  # the sum of squares has no sign
        return call(_SQUARE_ROOT, mean, math.prod(kernel))
    return call(_SIGNED_ROOT, mean, math.prod(kernel), p)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The root of the sum of powers over every window of one spatial axis, see :func:`lp_pool2d`."""
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(sum of x^p)^(1/p) over every window of two spatial axes; a window that sums to 0 has slope 0."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The root of the sum of powers over every window of three spatial axes, see :func:`lp_pool2d`."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


def _max_unpool(
    label: str,
    rank: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Tensor:
    x, unbatch = batched(label, input, rank)
    kernel, stride = _windows(label, kernel_size, stride, rank)
    pads = sizes(label, "padding", padding, rank)
    smallest = tuple(
        (n - 1) * s - 2 * p + k for n, k, s, p in zip(x.array.shape[2:], kernel, stride, pads, strict=True)
    )
    size = smallest if output_size is None else tuple(output_size)[-rank:]
    if any(abs(n - low) >= s for n, low, s in zip(size, smallest, stride, strict=True)):
        raise ValueError(
            f"{label}: invalid output_size {tuple(output_size)} (every size must be less than a stride "
            f"{stride} away from {smallest})"
        )
    if indices.array.shape != input.array.shape:
        raise RuntimeError(
            f"{label}: Expected shape of indices to be same as that of the input tensor "
            f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}"
        )
    places = batched(label, indices, rank)[0]
    return unbatch(pooling.window_put(x, places, tuple(size)))


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The maxima of :func:`max_pool1d` back in their places, see :func:`max_unpool2d`."""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The maxima of :func:`max_pool2d` back in their places, among zeros; of several for one place, one.

    Args:
        input: (N, C, H, W) or (C, H, W).
        indices: the positions that the pooling returned.
        kernel_size: of the pooling.
        stride: of the pooling.
        padding: of the pooling.
        output_size: spatial sizes of the result; default: the smallest that fit.

    Raises:
        ValueError: the output size does not belong to such a pooling.
        RuntimeError: input and indices differ in shape.
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The maxima of :func:`max_pool3d` back in their places, see :func:`max_unpool2d`."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
