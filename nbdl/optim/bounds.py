"""Bounds of variables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import from_numpy


class Box:
    """lower <= x <= upper, elementwise; infinite where there is no bound.

    Args:
        lower: (n,), of the dtype and device of x.
        upper: likewise.
    """

    def __init__(self, lower: Tensor, upper: Tensor):
        self.lower, self.upper = lower, upper

    @classmethod
    def of(cls, caller: str, bounds: Any, like: Tensor, by_side: bool = False) -> Box | None:
        """The box of what a user gave; None if nothing is bounded.

        Args:
            caller: the name that errors begin with.
            bounds: None; n pairs (low, high), None or infinite where there is no bound; a pair of scalars or
                arrays (lower, upper); or an object with ``lb`` and ``ub``.
            like: a vector (n,).
            by_side: whether two pairs are (lower, upper), as ``scipy.optimize.least_squares`` has them, and
                not the pairs of two variables, as ``scipy.optimize.minimize``.

        Raises:
            TypeError: they are no numbers.
            ValueError: there are not n of them, one is NaN, or a lower bound is above the upper one.
        """
        if bounds is None:
            return None
        n = like.numel()
        lower, upper = _arrays(caller, bounds, n, by_side)
        for name, array in (("lower", lower), ("upper", upper)):
            if np.isnan(array).any():
                raise ValueError(f"{caller}: {name} bounds must not be NaN, got {array}")
        crossed = np.flatnonzero(lower > upper)
        if crossed.size:
            k = int(crossed[0])
            raise ValueError(
                f"{caller}: every lower bound must be at most the upper one, but variable {k} has bounds "
                f"({lower[k]}, {upper[k]})"
            )
        if np.isinf(lower).all() and np.isinf(upper).all():
            return None
        return cls(*(from_numpy(a).to(dtype=like.dtype, device=like.device) for a in (lower, upper)))

    @cached_property
    def is_bounded(self) -> bool:
        """Whether every variable has both bounds."""
        return bool((self.lower.isfinite() & self.upper.isfinite()).all())

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return x.maximum(self.lower).minimum(self.upper)

    def projected_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """x - P(x - g), which is 0 exactly at stationary points."""
        return x - self.project(x - gradient)

    def seen_from(self, origin: Tensor, units: Tensor) -> Box:
        """The bounds of u where x = origin + units u; a variable whose unit is 0 has none, and stays."""
        moves = units > 0
        lower, upper = ((side - origin) / where(moves, units, 1.0) for side in (self.lower, self.upper))
        return Box(where(moves, lower, -math.inf), where(moves, upper, math.inf))

    def scaled_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The gradient times the way to the bound that a step against it meets, 1 where there is none.

        Source: Branch, Coleman, Li (1999), A subspace, interior, and conjugate gradient method for
            large-scale bound-constrained minimization problems, definition 2.
        """
        way = where(gradient > 0, x - self.lower, self.upper - x)
        return gradient * where(way.isfinite(), way, 1.0)

    def free(self, x: Tensor, gradient: Tensor) -> Tensor:
        """1 where a variable may move against the gradient, 0 where it is held at a bound (n,)."""
        held = ((x <= self.lower) & (gradient > 0)) | ((x >= self.upper) & (gradient < 0))
        return held.logical_not().to(x.dtype)


def _arrays(caller: str, bounds: Any, n: int, by_side: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds (n,) in float64."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds, by_side = (bounds.lb, bounds.ub), True
    bounds = list(bounds) if isinstance(bounds, Iterable) else bounds
    if not by_side and isinstance(bounds, list) and all(np.shape(pair) == (2,) for pair in bounds):
        if len(bounds) != n:
            raise ValueError(
                f"{caller}: bounds must have one pair for each of the {n} variables, got {len(bounds)}"
            )
        lows = [-np.inf if low is None else low for low, _ in bounds]
        highs = [np.inf if high is None else high for _, high in bounds]
        return _numbers(caller, lows), _numbers(caller, highs)
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise ValueError(
            f"{caller}: bounds must be a sequence of pairs, or the pair (lower, upper); got {bounds!r}"
        )
    try:
        low, high = (np.broadcast_to(_numbers(caller, side).reshape(-1), (n,)) for side in bounds)
    except ValueError:
        shapes = " and ".join(str(np.shape(side)) for side in bounds)
        raise ValueError(
            f"{caller}: bounds must be scalars or have {n} elements, got shapes {shapes}"
        ) from None
    return low.copy(), high.copy()


def _numbers(caller: str, values: Any) -> np.ndarray:
    array = np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: bounds must be real numbers or None, got {values!r}")
    return array.astype(np.float64)
