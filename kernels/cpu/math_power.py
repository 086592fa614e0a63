"""Powers and roots of scalars."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.kernels.cpu import math_exact as exact
from nbdl.kernels.cpu.math_basic import integer_power
from nbdl.kernels.cpu.math_dispatch import arithmetic, elementary, elementary_double
from nbdl.kernels.cpu.math_exponential import (
    LN2,
    exp,
    exp_with_tail,
    exponent_bias,
    log,
    power_of_two,
    reduce_logarithm,
    rounding_constant,
)

Function = Callable[..., Any]

# 2 atanh(s) = 2 s + s^3 (2/3 + z q(z)), z = s^2, for |s| <= 0.1716: 2^-66.3
_LOG_TAIL = (
    0.3999999999999998, 0.28571428571445134, 0.22222222217530235, 0.18181818871080044, 0.15384556818792944,
    0.13336319426326823, 0.1167477777783533, 0.11989352329989203,
)  # fmt: skip
# cbrt(m) for m in [sqrt(1/2), sqrt(2)]: 2^-22.5
_CBRT = (
    0.39835753636859594, 1.1970509582494304, -1.1869967083894615, 0.9710604337511803, -0.5148400538816815,
    0.15574921115899526, -0.020381500700690128,
)  # fmt: skip


@elementary
def _log_in_two_parts(real: Any) -> Function:
    """log(x) as a sum of two float64 with a relative error of about 2^-65, for positive finite x."""
    ln2_high, ln2_low = LN2[np.float64]
    two_thirds, two_thirds_low = 2 / 3, 3.700743415417188e-17

    def log_in_two_parts(x: Any) -> Any:
        k, m = reduce_logarithm(x)
        # s = f/(2+f) in two parts
        f = m - 1.0
        divisor = 2.0 + f
        divisor_low = f - (divisor - 2.0)
        inverse = 1.0 / divisor
        s = f * inverse
        s_low = inverse * (exact.fma(-s, divisor, f) - s * divisor_low)
        # z = s^2, cube = s^3
        z = s * s
        z_low = exact.fma(s, s, -z) + 2.0 * s * s_low
        cube = s * z
        cube_low = exact.fma(s, z, -cube) + exact.fma(s, z_low, s_low * z)
        # factor = 2/3 + z q(z)
        rest = z * exact.polynomial(z, _LOG_TAIL)
        factor = two_thirds + rest
        factor_low = ((two_thirds - factor) + rest) + two_thirds_low
        # log(m) = 2 s + cube * factor
        term = cube * factor
        term_low = exact.fma(cube, factor, -term) + exact.fma(cube, factor_low, cube_low * factor)
        log_m = exact.fma(2.0, s, term)
        log_m_low = (exact.fma(2.0, s, -log_m) + term) + exact.fma(2.0, s_low, term_low)
        # k ln(2) + log(m)
        exponent = k * ln2_high
        exponent_low = exact.fma(k, ln2_high, -exponent) + k * ln2_low
        high = exponent + log_m
        low = ((exponent - high) + log_m) + (exponent_low + log_m_low)
        total = high + low
        return total, (high - total) + low

    return log_in_two_parts


@elementary
def _power_of_magnitude(real: Any) -> Function:
    """|x|^y for 0 <= |x| <= inf."""
    zero, infinity = real(0), real(np.inf)
    if real is np.float32:

        def power_single(a: Any, y: Any) -> Any:
            return np.float32(exp(np.float64(y) * log(np.float64(a))))

        return power_single
    largest_exponent = 800.0

    def power_double(a: Any, y: Any) -> Any:
        high, low = _log_in_two_parts(a)
        high = exact.select(a == infinity, infinity, exact.select(a == zero, -infinity, high))
        product = y * high
        tail = exact.fma(y, high, -product) + y * low
        return exp_with_tail(product, exact.select(exact.fabs(product) < largest_exponent, tail, zero))

    return power_double


@elementary
def float_power(real: Any) -> Function:
    """x to the power y as C defines it: 1 for y = 0 and for x = 1, NaN for finite x < 0 and y no integer."""
    zero, half, one, infinity, nan = real(0), real(0.5), real(1), real(np.inf), real(np.nan)

    def float_power(x: Any, y: Any) -> Any:
        a = exact.fabs(x)
        y_half = half * y
        is_integer = exact.trunc(y) == y
        is_odd = is_integer & (exact.trunc(y_half) != y_half)
        result = _power_of_magnitude(a, y)
        result = exact.select(is_odd, exact.copysign(result, x), result)
        result = exact.select((x < zero) & (a < infinity) & (not is_integer), nan, result)
        result = exact.select((x != x) | (y != y), nan, result)
        result = exact.select((a == one) & (exact.fabs(y) == infinity), one, result)
        return exact.select((x == one) | (y == zero), one, result)

    return float_power


@arithmetic
def pow(number: Any) -> Function:
    """x to the power y: :func:`float_power` for floats, :func:`integer_power` for integers."""
    if issubclass(number, np.floating):
        return lambda x, y: float_power(x, y)
    return integer_power(number)


@elementary_double
def cbrt(real: Any) -> Function:
    """The cube root."""
    third, up, down = 1 / 3, 2 ** (1 / 3), 2 ** (-1 / 3)
    round_off, shift = rounding_constant(np.float64), rounding_constant(np.float64, exponent_bias(np.float64))

    def cbrt(x: Any) -> Any:
        a = exact.fabs(x)
        k, m = reduce_logarithm(a)
        n = exact.fma(k, third, round_off) - round_off
        j = k - 3.0 * n
        # cbrt(m 2^j) for j = -1, 0 or 1
        reduced = m * exact.select(j > 0.5, 2.0, exact.select(j < -0.5, 0.5, 1.0))
        y = exact.polynomial(m, _CBRT) * exact.select(j > 0.5, up, exact.select(j < -0.5, down, 1.0))
        # one step of Halley's method, which triples the number of digits
        square = y * y
        residual = exact.fma(-square, y, reduced) - exact.fma(y, y, -square) * y
        y = y + y * (residual / exact.fma(2.0 * square, y, reduced))
        result = y * power_of_two(n + shift)
        return exact.copysign(exact.select((a > 0.0) & (a < math.inf), result, a), x)

    return cbrt


@elementary
def hypot(real: Any) -> Function:
    """sqrt(x^2 + y^2) without overflow; an infinity beats a NaN."""
    infinity = real(np.inf)
    if real is np.float32:

        def hypot_single(x: Any, y: Any) -> Any:
            a, b = np.float64(x), np.float64(y)
            result = np.float32(exact.sqrt(exact.fma(a, a, b * b)))
            return exact.select((exact.fabs(x) == infinity) | (exact.fabs(y) == infinity), infinity, result)

        return hypot_single
    big, tiny, down, up = 2.0**500, 2.0**-450, 2.0**-600, 2.0**600

    def hypot_double(x: Any, y: Any) -> Any:
        a, b = exact.fabs(x), exact.fabs(y)
        large, small = exact.select(a > b, a, b), exact.select(a > b, b, a)
        factor = exact.select(large > big, down, exact.select(large < tiny, up, 1.0))
        inverse = exact.select(large > big, up, exact.select(large < tiny, down, 1.0))
        p, q = large * factor, small * factor
        result = exact.sqrt(exact.fma(p, p, q * q)) * inverse
        return exact.select((a == infinity) | (b == infinity), infinity, result)

    return hypot_double
