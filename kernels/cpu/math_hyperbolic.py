"""Hyperbolic functions and their inverses, from expm1 and log1p."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.kernels.cpu import math_exact as exact
from nbdl.kernels.cpu.math_dispatch import elementary, elementary_double
from nbdl.kernels.cpu.math_exponential import log1p, quarter_expm1, typed

Function = Callable[..., Any]

# float32: tanh(x) = x + x z q(z), z = x^2, for |x| <= 0.625: 2^-27.1
_TANH_SINGLE = (
    -0.3333328068256378, 0.13331420719623566, -0.05373780056834221, 0.020632555708289146,
    -0.005697392392903566,
)  # fmt: skip


@elementary
def tanh(real: Any) -> Function:
    """The hyperbolic tangent."""
    half = real(0.5)
    if real is np.float32:
        one, limit = real(1), real(0.625)
        coefficients = typed(real, _TANH_SINGLE)

        def tanh_single(x: Any) -> Any:
            a = exact.fabs(x)
            _, _, quarter = quarter_expm1(a + a)
            large = one - half / (quarter + half)
            z = a * a
            small = exact.fma(a * z, exact.polynomial(z, coefficients), a)
            return exact.copysign(exact.select(a < limit, small, large), x)

        return tanh_single
    tiny = 2.0**-30

    def tanh_double(x: Any) -> Any:
        a = exact.fabs(x)
        _, _, quarter = quarter_expm1(a + a)
        return exact.select(a < tiny, x, exact.copysign(quarter / (quarter + half), x))

    return tanh_double


@elementary_double
def sinh(real: Any) -> Function:
    """The hyperbolic sine."""
    tiny = 2.0**-30

    def sinh(x: Any) -> Any:
        a = exact.fabs(x)
        _, _, quarter = quarter_expm1(a)
        y = (quarter + quarter) + 0.5 * (quarter / (quarter + 0.25))
        return exact.select(a < tiny, x, exact.copysign(y, x))

    return sinh


@elementary_double
def cosh(real: Any) -> Function:
    """The hyperbolic cosine."""

    def cosh(x: Any) -> Any:
        _, _, quarter = quarter_expm1(exact.fabs(x))
        e = quarter + 0.25
        return (e + e) + 0.125 / e

    return cosh


@elementary_double
def asinh(real: Any) -> Function:
    """The inverse hyperbolic sine."""
    big, ln2 = 2.0**28, math.log(2)

    def asinh(x: Any) -> Any:
        a = exact.fabs(x)
        bounded = exact.select(a < big, a, big)
        square = bounded * bounded
        argument = exact.select(a < big, a + square / (1.0 + exact.sqrt(square + 1.0)), a - 1.0)
        y = log1p(argument) + exact.select(a < big, 0.0, ln2)
        return exact.copysign(exact.select(x == x, y, x), x)

    return asinh


@elementary_double
def acosh(real: Any) -> Function:
    """The inverse hyperbolic cosine, NaN below 1."""
    big, ln2 = 2.0**28, math.log(2)

    def acosh(x: Any) -> Any:
        excess = x - 1.0
        small = excess + exact.sqrt(excess * (excess + 2.0))
        y = log1p(exact.select(x < big, small, excess)) + exact.select(x < big, 0.0, ln2)
        return exact.select(x < 1.0, np.nan, y)

    return acosh


@elementary_double
def atanh(real: Any) -> Function:
    """The inverse hyperbolic tangent."""

    def atanh(x: Any) -> Any:
        a = exact.fabs(x)
        return exact.copysign(0.5 * log1p((a + a) / (1.0 - a)), x)

    return atanh
