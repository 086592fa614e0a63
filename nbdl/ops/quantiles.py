"""Quantiles: places between the sorted elements."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import as_tensor
from nbdl.ops.primitive import normalize_axis
from nbdl.ops.scattering import take_along_dim
from nbdl.ops.sorting import ArgKth, sort

__all__ = ["nanquantile", "quantile"]

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The q-quantiles along ``dim``; NaN where there is a NaN.

    Args:
        input: floating tensor.
        q: a number, or a tensor with at most one axis, in [0, 1].
        dim: the axis; None: of all elements.
        keepdim: leave the axis with length 1.
        interpolation: between the two neighbours: ``linear``, ``lower``, ``higher``, ``midpoint``,
            ``nearest``.
        axis: another name of ``dim``.
        keepdims: another name of ``keepdim``.

    Returns:
        The shape of a reduction, behind the axis of ``q`` if it has one.

    Raises:
        RuntimeError: no elements, a dtype that is not floating, or of ``q`` other than of the input, another
            interpolation.
        IndexError: the axis is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([0.0, 1.0, 2.0, 4.0]).quantile(0.5)
        tensor(1.5000)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, axis, keepdims, False)


def nanquantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """:func:`quantile` of the elements that are not NaN; NaN where there are none."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, axis, keepdims, True)


def _quantile(
    label: str,
    input: Tensor,
    q: Any,
    dim: int | None,
    keepdim: bool,
    interpolation: str,
    axis: int | None,
    keepdims: bool | None,
    skips_nan: bool,
) -> Tensor:
    if dim is not None and axis is not None:
        raise TypeError(f"{label}: give dim or axis, not both")
    if not input.is_floating_point():
        raise RuntimeError(f"{label}: input tensor must be floating, got {input.dtype}")
    if interpolation not in _METHODS:
        raise RuntimeError(
            f"{label}: interpolation must be one of {', '.join(_METHODS)}, but got {interpolation}"
        )
    wanted = q if isinstance(q, Tensor) else as_tensor(q, dtype=input.dtype, device=input.device)
    if wanted.array.ndim > 1 or wanted.dtype != input.dtype:
        raise RuntimeError(
            f"{label}: q must be a scalar or 1D tensor of dtype {input.dtype}, got {wanted.array.ndim}D of "
            f"{wanted.dtype}"
        )
    if not isinstance(q, Tensor) and not 0 <= q <= 1:
        raise RuntimeError(f"{label}: q must be in the range [0, 1] but got {q}")
    position = axis if dim is None else dim
    keep = keepdim if keepdims is None else keepdims
    rank = input.array.ndim
    if position is None:
        rows = input.reshape(-1)
        kept_shape = (1,) * rank
    else:
        place = normalize_axis(label, position, rank)
        rows = input.movedim(place, -1) if rank else input.reshape(1)
        kept_shape = tuple([1 if k == place else n for k, n in enumerate(input.array.shape)])
    if rows.array.shape[-1] == 0:
        raise RuntimeError(f"{label}: input tensor must be non-empty")
    if isinstance(q, (int, float)) and not skips_nan:
        value = _selected(rows, q, interpolation)
        return value.reshape(kept_shape if keep else value.array.shape[:-1])
    values = _between(rows, wanted.reshape(-1), interpolation, skips_nan)  # (..., number of quantiles)
    values = values.movedim(-1, 0)
    if keep:
        values = values.reshape((values.array.shape[0], *kept_shape))
    return values if wanted.array.ndim else values.squeeze(0)


def _selected(rows: Tensor, q: float, interpolation: str) -> Tensor:
    """One quantile of the last axis, which is kept; nothing is sorted."""
    last, number = rows.array.shape[-1] - 1, rows.dtype.type
    rank = float(number(q) * number(last))  # rounded as a tensor of them is
    if interpolation == "nearest":
        rank = float(round(rank))
    elif interpolation == "lower":
        rank = math.floor(rank)
    elif interpolation == "higher":
        rank = math.ceil(rank)
    below, above = math.floor(rank), min(math.ceil(rank), last)
    value = _ranked(rows, below)
    if interpolation in ("linear", "midpoint"):
        weight = rank - below if interpolation == "linear" else 0.5
        value = value.lerp(value if above == below else _ranked(rows, above), weight)
    return value


def _ranked(rows: Tensor, k: int) -> Tensor:
    """The element behind k smaller ones in each row; NaN where there is a NaN."""
    return rows.gather(-1, apply(ArgKth.of(k, rows.array.ndim - 1, True), rows))


def _between(rows: Tensor, q: Tensor, interpolation: str, skips_nan: bool) -> Tensor:
    """The quantiles of the last axis."""
    ordered = sort(rows, -1)[0]  # NaN last
    is_nan = rows.detach().isnan()
    if skips_nan:
        last = (is_nan.logical_not().to("int64").sum(-1, keepdim=True) - 1).to(rows.dtype)
        rank = q * last.clamp(min=0)
    else:
        rank = (q * (rows.array.shape[-1] - 1)).expand((*rows.array.shape[:-1], q.array.shape[0]))
    if interpolation == "nearest":
        rank = rank.round()
    elif interpolation == "lower":
        rank = rank.floor()
    elif interpolation == "higher":
        rank = rank.ceil()
    below = rank.detach().floor().to("int64")
    value = take_along_dim(ordered, below, -1)
    if interpolation in ("linear", "midpoint"):
        weight = rank - below.to(rank.dtype) if interpolation == "linear" else 0.5
        value = value.lerp(take_along_dim(ordered, rank.detach().ceil().to("int64"), -1), weight)
    return value if skips_nan else where(is_nan.any(-1, keepdim=True), float("nan"), value)
