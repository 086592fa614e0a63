"""Integrals and derivatives of sampled functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import cat
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.primitive import normalize_axis

__all__ = ["cumulative_trapezoid", "gradient", "trapezoid", "trapz"]


def _areas(label: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The trapezoids between neighbours along an axis, and the axis."""
    axis = normalize_axis(label, dim, y.array.ndim)
    if y.array.ndim == 0:
        raise RuntimeError(f"{label}: y must have at least one axis")
    n = y.array.shape[axis]
    if n < 2:
        return y.narrow(axis, 0, 0), axis
    heights = y.narrow(axis, 0, n - 1) + y.narrow(axis, 1, n - 1)
    if x is None:
        return heights * (dx / 2), axis
    if x.array.ndim == 1:
        if x.array.shape[0] != n:
            raise RuntimeError(
                f"{label}: there must be one `x` value for each sample point, got {x.array.shape[0]} for {n}"
            )
        widths = x.diff().reshape([n - 1 if k == axis else 1 for k in range(y.array.ndim)])
    else:
        widths = x.diff(dim=dim)
    return heights * widths * 0.5, axis


@numpy_keywords
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The integral along ``dim`` by the trapezoidal rule.

    Args:
        y: values at the sample points.
        x: the sample points: one axis, or as ``y``; None: ``dx`` apart.
        dx: distance between the points.
        dim: the axis.

    Raises:
        RuntimeError: not one point for each value.
        IndexError: the axis is out of range.
    """
    areas, axis = _areas("trapezoid", y, x, dx, dim)
    return areas.sum(axis)


@numpy_keywords
def trapz(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """Another name of :func:`trapezoid`."""
    return trapezoid(y, x, dx=dx, dim=dim)


@numpy_keywords
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    """The running integrals along ``dim``, one fewer than there are points; see :func:`trapezoid`."""
    areas, axis = _areas("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(axis)


@numpy_keywords
def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Derivatives along axes by differences of second order, exact for parabolas inside.

    Args:
        input: values on a grid.
        spacing: distance between the points, one number or one an axis; or for each axis a tensor of its
            coordinates.
        dim: the axes; None: all.
        edge_order: 1 or 2: the order of the differences at both ends.

    Returns:
        For each axis a tensor of the shape of the input.

    Raises:
        RuntimeError: too few points for the edges, another ``edge_order``, or spacings that do not fit.
        IndexError: an axis is out of range.
    """
    rank = input.array.ndim
    given = range(rank) if dim is None else (dim,) if isinstance(dim, int) else dim
    axes = [normalize_axis("gradient", axis, rank) for axis in given]
    spacing = 1 if spacing is None else spacing
    if isinstance(spacing, (int, float)) or (isinstance(spacing, Tensor) and spacing.array.ndim == 0):
        spacings: list[Any] = [spacing] * len(axes)
    else:
        spacings = [spacing] if isinstance(spacing, Tensor) else list(spacing)
    if len(spacings) != len(axes):
        raise RuntimeError(
            f"gradient: expected spacing to be unspecified, a scalar or of length {len(axes)}, got "
            f"{len(spacings)}"
        )
    if len(set(axes)) < len(axes):
        raise RuntimeError(f"gradient: a dim appears multiple times in the list of dims {list(axes)}")
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient: only supports edge_order=1 and edge_order=2, got {edge_order}")
    for axis in axes:
        if input.array.shape[axis] < edge_order + 1:
            raise RuntimeError(
                "gradient: expected each dimension size to be at least edge_order+1, got "
                f"{input.array.shape[axis]} in dim {axis}"
            )
    return tuple(
        [_along(input, axis, spacing, edge_order) for axis, spacing in zip(axes, spacings, strict=True)]
    )


def _along(y: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    """The derivative along one axis."""
    n = y.array.shape[axis]
    if not y.is_floating_point() and not y.is_complex():
        y = y.double() if isinstance(spacing, Tensor) and spacing.dtype == np.float64 else y.float()
    slopes = y.diff(dim=axis)
    if isinstance(spacing, Tensor) and spacing.array.ndim:
        steps = spacing.diff().reshape([n - 1 if k == axis else 1 for k in range(y.array.ndim)])
    else:
        steps = spacing
    slopes = slopes / steps

    def part(x: Any, start: int, length: int) -> Any:
        return x.narrow(axis, start, length) if isinstance(steps, Tensor) and steps.array.ndim else x

    count = n - 1
    pieces: Sequence[Tensor]
    left, right = slopes.narrow(axis, 0, 1), slopes.narrow(axis, count - 1, 1)
    if n > 2:
        before, after = part(steps, 0, count - 1), part(steps, 1, count - 1)
        a, b = slopes.narrow(axis, 0, count - 1), slopes.narrow(axis, 1, count - 1)
        inside = (a * after + b * before) / (before + after)
        if edge_order == 2:  # the parabola through three points
            left = _at_edge(slopes, axis, 0, 1, part(steps, 0, 1), part(steps, 1, 1))
            right = _at_edge(
                slopes, axis, count - 1, count - 2, part(steps, count - 1, 1), part(steps, count - 2, 1)
            )
        pieces = (left, inside, right)
    else:
        pieces = (left, right)
    return cat(pieces, axis)


def _at_edge(slopes: Tensor, axis: int, near: int, far: int, near_step: Any, far_step: Any) -> Tensor:
    a, b = slopes.narrow(axis, near, 1), slopes.narrow(axis, far, 1)
    return a + (a - b) * (near_step / (near_step + far_step))
