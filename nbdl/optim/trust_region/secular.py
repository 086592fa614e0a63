"""Quadratic models in the basis of their eigenvectors, where the multiplier is the root of one equation.

The minimizers of g^T p + p^T B p / 2 under a constraint or penalty on |p| are p = -(B + nu I)^{-1} g. With
eigenvalues w of B and coefficients c of g in the basis of the eigenvectors, |p(nu)| falls monotonically; what
the constraint wants is a length that does not fall.

The root is found by a fixed number of operations on the device, and nothing is read on the way. It is
bracketed on a logarithmic grid, of which all lengths are computed at once, three times over, and then
polished by Newton's method. The unknown is t = nu + min(0, w_min), from which w + nu follows without
cancellation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import maximum, minimum
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange
from nbdl.ops.matmul import dot
from nbdl.ops.pointwise import pointwise
from nbdl.optim.vectors import norm

_GRID = 64  # intervals of a bracket
_ROUNDS = 3  # from 18 decades to a relative width of 2e-4
_POLISHES = 3  # Newton steps from there to rounding
_WIDEST = 1e-18  # the lower end of a bracket, relative to the upper one
_NOISE = 1e-14  # of an eigenvalue, and of a coefficient, relative to the largest

_squared = pointwise("squared_step", lambda c, gap, t: (c / (gap + t)) * (c / (gap + t)))
_grid = pointwise("bracket_grid", lambda low, ratio, share: low * ratio**share)
_newton = pointwise(
    "secular_newton",
    # 1 / |p(t)| = 1 / wanted(t) is nearly linear: Nocedal & Wright (2006), eq. (4.43).
    lambda t, low, high, squares, bend, wanted, slope: minimum(
        maximum(
            t
            - (1 / squares**0.5 - 1 / wanted) / (bend / (squares * squares**0.5) + slope / (wanted * wanted)),
            low,
        ),
        high,
    ),
)


def trust_region_step(values: Tensor, coefficients: Tensor, radius: float | Tensor) -> tuple[Tensor, Tensor]:
    """The global minimizer within a radius.

    Source: Moré & Sorensen (1983), Computing a trust region step; Nocedal & Wright (2006), theorem 4.1 and
    eqs. (4.38) to (4.45) with the hard case.

    Args:
        values: eigenvalues, the least one first (n,).
        coefficients: of the gradient (n,).
        radius: of the trust region.

    Returns:
        The coefficients of the step (n,), and the multiplier nu, both float64.
    """

    def wanted(t: Tensor, base: Tensor) -> Tensor:
        return t * 0 + radius

    return _shifted_step(values, coefficients, wanted, 0.0, lambda a, base: a / radius)


def cubic_step(values: Tensor, coefficients: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """The global minimizer of g^T p + p^T B p / 2 + weight |p|^3 / 3.

    Source: Cartis, Gould, Toint (2011), Adaptive cubic regularisation methods for unconstrained optimization,
        part I, theorem 3.1: nu = weight |p|.

    Args:
        values: eigenvalues, the least one first (n,).
        coefficients: of the gradient (n,).
        weight: sigma, positive.

    Returns:
        The coefficients of the step (n,), and nu, both float64.
    """

    def bound(a: Tensor, base: Tensor) -> Tensor:  # t (t - base) = weight a
        total = (base * base + 4 * weight * a).sqrt() - base
        return where(total > 0, 2 * weight * a / total, 0.0)

    return _shifted_step(values, coefficients, lambda t, base: (t - base) / weight, 1 / weight, bound)


def model_decrease(values: Tensor, coefficients: Tensor, step: Tensor) -> Tensor:
    """-m(p) of the quadratic model, 0-d, float64."""
    values, c = values.to(np.float64), coefficients.to(np.float64)
    return -(dot(c, step) + dot(step, values * step) / 2)


def _shifted_step(
    values: Tensor,
    coefficients: Tensor,
    wanted: Callable[[Tensor, Tensor], Tensor],
    slope: float,
    bound: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The step of the nu >= max(0, -w_min) for which its length is what is wanted.

    Args:
        values: see :func:`trust_region_step`.
        coefficients: of the gradient.
        wanted: the length for t; its second argument is min(0, w_min).
        slope: its derivative.
        bound: the t at which a / t is what is wanted.
    """
    values, c = values.to(np.float64), coefficients.to(np.float64)
    least = values[0]
    base = least.clamp(max=0.0)
    gaps = values - base
    near = (gaps <= _NOISE * values.abs().amax()) & (least <= 0)  # eigenvectors of the least eigenvalue
    size, lowest = norm(c), norm(where(near, c, 0.0))
    t = _root(gaps, c, bound(lowest, base), bound(size, base), lambda t: wanted(t, base), slope)
    # Where g lies beside them, |p(0)| may fall short: what is missing is taken along one of them.
    beside = where(near, 0.0, -c / gaps)
    missing = wanted(least * 0, base).square() - dot(beside, beside)
    is_hard = (lowest <= _NOISE * size) & (missing >= 0)
    is_first = arange(values.numel(), device=values.device) == 0
    beside = where(is_first & (least < 0), missing.clamp(min=0.0).sqrt(), beside)
    step = where(is_hard, beside, -c / (gaps + t))
    return step, where(is_hard, 0.0, t) - base


def _root(
    gaps: Tensor, c: Tensor, low: Tensor, high: Tensor, wanted: Callable[[Tensor], Tensor], slope: Any
) -> Tensor:
    """The t > 0 at which |c / (gaps + t)| is what is wanted, known to lie in a bracket."""
    low = low.maximum(_WIDEST * high).clamp(min=float(np.finfo(np.float64).tiny))
    high = high.maximum(low)
    shares = arange(_GRID + 1, dtype=np.float64, device=c.device) / _GRID
    rows, columns = c.unsqueeze(1), gaps.unsqueeze(1)
    for _ in range(_ROUNDS):
        grid = _grid(low, high / low, shares)
        is_long = _squared(rows, columns, grid).sum(0).sqrt() > wanted(grid)
        low, high = where(is_long, grid, low).amax(), where(is_long, high, grid).amin()
    t = low
    for _ in range(_POLISHES):
        squares = _squared(c, gaps, t)
        polished = _newton(t, low, high, squares.sum(), (squares / (gaps + t)).sum(), wanted(t), slope)
        t = where(polished.isfinite(), polished, t)
    return t
