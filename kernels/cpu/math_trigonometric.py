"""Trigonometric functions and their inverses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from nbdl.kernels.cpu import math_exact as exact
from nbdl.kernels.cpu.math_dispatch import by_operands, elementary, elementary_double
from nbdl.kernels.cpu.math_exponential import INTEGER, rounding_constant, typed

Function = Callable[..., Any]

# pi/2 as a sum of three numbers of the type
_HALF_PI = {
    np.float32: (1.5707963705062866, -4.371138828673793e-08, -1.7151244994428829e-15),
    np.float64: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# The multiples of pi/2 up to which the three terms reduce accurately; further out the C library is called.
_LIMITS = {types.float32: 2.0**16, types.float64: 2.0**28}
# sin(r) = r + r z q(z) for |r| <= pi/4 + 0.01, z = r^2: 2^-27.5 and 2^-57.0
_SIN = {
    np.float32: (-0.16666653752326965, 0.008332118391990662, -0.00019509064441081136),
    np.float64: (
        -0.16666666666666627, 0.008333333333320956, -0.00019841269828599754, 2.7557313260337624e-06,
        -2.5050688827325505e-08, 1.589269165865541e-10,
    ),
}  # fmt: skip
# cos(r) = 1 - z/2 + z^2 q(z): 2^-29.9 and 2^-61.5
_COS = {
    np.float32: (0.04166664555668831, -0.001388723379932344, 2.4423627110081725e-05),
    np.float64: (
        0.04166666666666658, -0.001388888888887089, 2.480158728747754e-05, -2.755731377698054e-07,
        2.087564550856616e-09, -1.135564161809495e-11,
    ),
}  # fmt: skip
# atan(t) = t + t z q(z) for |t| <= tan(pi/8), z = t^2: 2^-59.0
_ATAN = (
    -0.333333333333332, 0.19999999999953677, -0.14285714280205097, 0.11111110783859496,
    -0.09090897768168882, 0.07692060378072908, -0.06663105610993586, 0.05847898340259298,
    -0.05039334418988532, 0.038065031839780945, -0.017907415215776067,
)  # fmt: skip
# asin(t) = t + t z q(z) for |t| <= 1/2: 2^-59.6
_ASIN = (
    0.16666666666666763, 0.07499999999970097, 0.04464285717528892, 0.030381942675116205,
    0.0223722159106669, 0.017351595416266467, 0.013981019497188924, 0.011397285592312739,
    0.010789360645613229, 0.0036720440593712564, 0.02179097191861302, -0.021117154849769487,
    0.03270242036118201,
)  # fmt: skip
_HALF_PI_LOW = 6.123233995736766e-17

_library_sin = exact.library_beyond("sin", _LIMITS)
_library_cos = exact.library_beyond("cos", _LIMITS)
_library_tan = exact.library_beyond("tan", _LIMITS)


@elementary
def _reduce(real: Any) -> Function:
    """(q, r, tail) with x = q pi/2 + r + tail, the low two bits of the integer q counting (Cody & Waite)."""
    two_over_pi, shift = real(2 / math.pi), rounding_constant(real)
    part1, part2, part3 = typed(real, _HALF_PI[real])
    zero = real(0)

    def reduce_single(x: Any) -> Any:
        t = exact.fma(x, two_over_pi, shift)
        n = t - shift
        r = exact.fma(n, -part3, exact.fma(n, -part2, exact.fma(n, -part1, x)))
        return exact.bits(t), r, zero

    def reduce_double(x: Any) -> Any:
        t = exact.fma(x, two_over_pi, shift)
        n = t - shift
        first = exact.fma(n, -part1, x)  # exact
        second = exact.fma(n, -part2, first)
        rest = exact.fma(n, -part3, exact.fma(n, -part2, first - second))
        r = second + rest
        return exact.bits(t), r, (second - r) + rest

    return reduce_single if real is np.float32 else reduce_double


@elementary
def _sin_cos(real: Any) -> Function:
    """sin(r + tail) and cos(r + tail) for |r| <= pi/4."""
    half, one = real(0.5), real(1)
    sin_terms, cos_terms = typed(real, _SIN[real]), typed(real, _COS[real])

    def sin_cos(r: Any, tail: Any) -> Any:
        z = r * r
        sine = r + exact.fma(r * z, exact.polynomial(z, sin_terms), tail)
        half_z = half * z
        leading = one - half_z
        lost = (one - leading) - half_z
        cosine = leading + exact.fma(z * z, exact.polynomial(z, cos_terms), exact.fma(-r, tail, lost))
        return sine, cosine

    return sin_cos


@by_operands
def _flip_sign(real: Any) -> Function:
    """y, negated if the second bit of the integer q is set."""
    integer = INTEGER[real]
    to_sign, sign = integer(8 * np.dtype(real).itemsize - 2), integer(np.iinfo(integer).min)
    return lambda q, y: exact.from_bits(integer(exact.bits(y) ^ integer(integer(q << to_sign) & sign)))


@elementary
def sin(real: Any) -> Function:
    """The sine."""
    zero, integer = real(0), INTEGER[real]

    def sin(x: Any) -> Any:
        q, r, tail = _reduce(exact.fabs(x))
        sine, cosine = _sin_cos(r, tail)
        y = _flip_sign(q, exact.select((q & 1) != 0, cosine, sine))
        y = exact.from_bits(integer(exact.bits(y) ^ exact.bits(exact.copysign(zero, x))))
        return _library_sin(x, y)

    return sin


@elementary
def cos(real: Any) -> Function:
    """The cosine."""
    integer = INTEGER[real]
    one = integer(1)

    def cos(x: Any) -> Any:
        q, r, tail = _reduce(x)
        sine, cosine = _sin_cos(r, tail)
        return _library_cos(x, _flip_sign(integer(q + one), exact.select((q & one) != 0, sine, cosine)))

    return cos


@elementary
def sin_cos_moderate(real: Any) -> Function:
    """(sin(x), cos(x)) for |x| up to some thousands, from one reduction."""
    integer = INTEGER[real]
    one = integer(1)

    def sin_cos(x: Any) -> Any:
        q, r, tail = _reduce(x)
        sine, cosine = _sin_cos(r, tail)
        odd = (q & one) != 0
        next_quarter = integer(q + one)
        return (
            _flip_sign(q, exact.select(odd, cosine, sine)),
            _flip_sign(next_quarter, exact.select(odd, sine, cosine)),
        )

    return sin_cos


@elementary_double
def tan(real: Any) -> Function:
    """The tangent."""

    def tan(x: Any) -> Any:
        q, r, tail = _reduce(exact.fabs(x))
        sine, cosine = _sin_cos(r, tail)
        odd = (q & 1) != 0
        y = exact.select(odd, -cosine, sine) / exact.select(odd, sine, cosine)
        return _library_tan(x, exact.select(x < 0.0, -y, exact.select(x == 0.0, x, y)))

    return tan


@elementary_double
def sinc(real: Any) -> Function:
    """sin(pi x)/(pi x), 1 at 0."""

    def sinc(x: Any) -> Any:
        n = exact.rint(x)
        sine = sin(math.pi * (x - n))
        is_odd = exact.trunc(0.5 * n) != 0.5 * n
        y = exact.select(is_odd, -sine, sine) / (math.pi * x)
        return exact.select(x == 0.0, 1.0, y)

    return sinc


@elementary
def _atan_of_quotient(real: Any) -> Function:
    """atan(a/b) for a, b >= 0 (not both zero or infinite), with one division."""
    tan_eighth, half_pi, quarter_pi = math.tan(math.pi / 8), math.pi / 2, math.pi / 4
    low_over_high = _HALF_PI_LOW / half_pi
    big = 2.0**1000

    def atan_of_quotient(a: Any, b: Any) -> Any:
        # atan(a/b) = offset +- atan(t) with |t| <= tan(pi/8)
        steep = a > b
        small, large = exact.select(steep, b, a), exact.select(steep, a, b)
        factor = exact.select(large > big, 0.25, 1.0)
        small, large = small * factor, large * factor
        middle = small > tan_eighth * large
        t = exact.select(middle, small - large, small) / exact.select(middle, small + large, large)
        z = t * t
        y = exact.fma(t * z, exact.polynomial(z, _ATAN), t)
        offset = exact.select(middle, quarter_pi, exact.select(steep, half_pi, 0.0))
        return offset + exact.fma(offset, low_over_high, exact.select(steep, -y, y))

    return atan_of_quotient


@elementary_double
def atan(real: Any) -> Function:
    """The inverse tangent, in [-pi/2, pi/2]."""
    return lambda x: exact.copysign(_atan_of_quotient(exact.fabs(x), 1.0), x)


@elementary_double
def atan2(real: Any) -> Function:
    """The angle of the point (y, x), in [-pi, pi]; ``y`` is the first operand."""
    infinity, pi, pi_low = math.inf, math.pi, 2 * _HALF_PI_LOW

    def atan2(y: Any, x: Any) -> Any:
        a, b = exact.fabs(y), exact.fabs(x)
        both_infinite = (a == infinity) & (b == infinity)
        both_zero = (a == 0.0) & (b == 0.0)
        angle = _atan_of_quotient(
            exact.select(both_infinite, 1.0, a), exact.select(both_infinite | both_zero, 1.0, b)
        )
        left = exact.copysign(1.0, x) < 0.0
        return exact.copysign(exact.select(left, pi - (angle - pi_low), angle), y)

    return atan2


@elementary
def _asin_terms(real: Any) -> Function:
    """(|x| > 1/2, t + t z q(z)): asin|x| of the smaller half, and of sqrt((1 - |x|)/2) of the larger."""

    def asin_terms(a: Any) -> Any:
        is_large = a > 0.5
        z = exact.select(is_large, 0.5 - 0.5 * a, a * a)
        t = exact.select(is_large, exact.sqrt(z), a)
        return is_large, exact.fma(t * z, exact.polynomial(z, _ASIN), t)

    return asin_terms


@elementary_double
def asin(real: Any) -> Function:
    """The inverse sine, in [-pi/2, pi/2]; NaN outside [-1, 1]."""

    def asin(x: Any) -> Any:
        is_large, y = _asin_terms(exact.fabs(x))
        return exact.copysign(exact.select(is_large, math.pi / 2 - ((y + y) - _HALF_PI_LOW), y), x)

    return asin


@elementary_double
def acos(real: Any) -> Function:
    """The inverse cosine, in [0, pi]; NaN outside [-1, 1]."""

    def acos(x: Any) -> Any:
        is_large, y = _asin_terms(exact.fabs(x))
        positive = x > 0.0
        double = y + y
        far = exact.select(positive, double, math.pi - (double - 2.0 * _HALF_PI_LOW))
        near = math.pi / 2 - (exact.copysign(y, x) - _HALF_PI_LOW)
        return exact.select(is_large, far, near)

    return acos
