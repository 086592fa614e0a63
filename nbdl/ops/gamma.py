"""How a gamma number depends on its concentration, to any order.

P(a, x) is the regularised incomplete gamma function. A number x of probability u = P(a, x) moves with a as

    dx/da = -(dP/da) / (dP/dx)                                  (Figurnov, Mohamed, Mnih 2018, equation 5).

Here y = log x is used, and dy/da is computed to about 1e-13 by differentiable operations:

- for small x from the power series P = x^a e^-x G(a, x) / Gamma(a + 1), G = sum_k x^k / ((a + 1) ... (a + k))
  (DLMF 8.7.3): dy/da = ((psi(a + 1) - y) G - dG/da) / a;
- else from dP/da = integral over t < x of (log t - psi(a)) p(t) dt, or over t > x with the other sign. With
  t = x e^r, r < 0 or r > 0, dy/da is the integral of (y - psi(a) + r) exp(a r - x (e^r - 1)) over the side on
  which no two signs cancel. The integrand decays there like an exponential or a bell, and Gauss's rule with a
  fixed number of nodes is exact to rounding on the part that counts.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.backend.device import transfer
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import digamma, exp, where
from nbdl.ops.clamping import clamp
from nbdl.ops.pointwise import call
from nbdl.ops.reduction import Reduce

_SMALL = 0.0  # up to this y the series is taken, whose terms then fall like 1 / k!
_TERMS = 18
_NODES = 48
_EXPONENT = 42.0  # the integral ends where the integrand has fallen by e^42

_ORDINATE = Formula(
    "gamma_ordinate",
    lambda a, x, shift, reach, node, weight: (
        (shift + reach * node)
        * (reach * weight)
        * f.exp((a - x) * (reach * node) - x * (f.expm1(reach * node) - reach * node))
    ),
    6,
)


def _series(a: f.Expr, y: f.Expr) -> f.Expr:
    """dy/da for x = e^y up to 1, by nested multiplication of G and dG/da."""
    x = f.exp(y)
    g: Any = 1
    slope: Any = 0
    for k in range(_TERMS, 0, -1):
        factor = x / (a + k)
        slope = factor * (slope - g / (a + k))
        g = 1 + factor * g
    return ((f.digamma(a + 1) - y) * g - slope) / a


_SERIES = Formula("gamma_series", _series, 2)


def _left(a: f.Expr, x: f.Expr) -> f.Expr:
    """Where exp(a r - x (e^r - 1)) surely is below e^-42 for r < 0, from e^-s - 1 + s >= min(s^2, s) / 3."""
    slope = a - x
    near = 2 * _EXPONENT / (slope + f.sqrt(f.square(slope) + (4 / 3) * _EXPONENT * x))
    return f.where(near <= 1, near, _EXPONENT / (slope + x / 3))


def _right(a: f.Expr, x: f.Expr) -> f.Expr:
    """The same for r > 0: from e^s - 1 - s >= s^2 / 2, and Newton's method, which comes from the right."""
    slope = x - a
    s = 2 * _EXPONENT / (slope + f.sqrt(f.square(slope) + 2 * _EXPONENT * x))
    for _ in range(3):
        growth = f.expm1(s)
        s = s - (x * growth - a * s - _EXPONENT) / (x * (growth + 1) - a)
    return s


_REACH = Formula("gamma_reach", lambda a, x, shift: f.where(shift < 0, -_left(a, x), _right(a, x)), 3)


@functools.cache
def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Gauss's rule for the interval from 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return 0.5 * (nodes + 1), 0.5 * weights


def log_gamma_slope(concentration: Tensor, y: Tensor) -> Tensor:
    """The derivative by the concentration of y = log x at a constant probability of x.

    Args:
        concentration: floating and positive.
        y: of the same dtype; both broadcast.

    Returns:
        In the same dtype; computed in float64. NaN where an operand is.
    """
    a, y64 = [x.to(dtypes.FLOAT64).unsqueeze(-1) for x in (concentration, y)]
    series = call(_SERIES, a, clamp(y64, max=_SMALL))
    larger = clamp(y64, min=_SMALL)
    x, shift = exp(larger), larger - digamma(a)
    with no_grad():
        reach = call(_REACH, a, x, shift)
    nodes, weights = [Tensor(transfer(values, a.device)) for values in _rule()]
    axis = max(a.array.ndim, y64.array.ndim) - 1
    integral = apply(Reduce.of(_ORDINATE, "sum", (axis,), True), a, x, shift, reach, nodes, weights)
    return where(y64 <= _SMALL, series, integral).squeeze(-1).to(y.dtype)


# of y = log x
_DENSITY = Formula("gamma_density", lambda a, y, x: f.exp(a * y - x - f.lgamma(a)), 3)


def gammainc_slope(a: Tensor, x: Tensor) -> Tensor:
    """The derivative of the regularised incomplete gamma function P(a, x) by a; 0 at x = 0 and infinity."""
    inside = (x > 0) & (x < math.inf)
    safe = where(inside, x, 1.0)
    y = safe.log()
    density = call(_DENSITY, a, y, safe)
    return where(inside, -density * log_gamma_slope(a, y), 0.0)
