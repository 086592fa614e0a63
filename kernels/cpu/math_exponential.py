"""Exponentials and logarithms.

All follow the classic pattern of Cody & Waite (Software Manual for the Elementary Functions, 1980): reduce
the argument exactly, evaluate a minimax polynomial (found by Remez exchange; the comments give its relative
error), put the exponent back with integer operations. Errors in ulp are in docs/numerics_ulp.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.kernels.cpu import math_exact as exact
from nbdl.kernels.cpu.math_dispatch import elementary

Function = Callable[..., Any]

LN2 = {
    np.float32: (0.6931471824645996, -1.904654299957768e-09),
    np.float64: (0.6931471805599453, 2.3190468138462996e-17),
}
FRACTION_BITS = {np.float32: 23, np.float64: 52}
INTEGER = {np.float32: np.int32, np.float64: np.int64}

# expm1(r) = r + r^2 q(r) for |r| <= ln(2)/2: 2^-28.0 and 2^-57.2 of exp(r)
_EXP = {
    np.float32: (0.5, 0.16666533052921295, 0.04166724160313606, 0.008367608301341534, 0.0013863673666492105),
    np.float64: (
        0.5, 0.1666666666666643, 0.041666666666603014, 0.008333333333502708, 0.001388888892722636,
        0.00019841269461558605, 2.4801508087062764e-05, 2.7557643707287445e-06, 2.762544404125688e-07,
        2.4977962244756865e-08,
    ),
}  # fmt: skip
# 2^r = 1 + r q(r) for |r| <= 1/2: 2^-25.9 (of which 2^-26 is the rounding of q(0) = ln 2) and 2^-55.1
_EXP2 = {
    np.float32: (
        0.6931471824645996, 0.24022647738456726, 0.05550331994891167, 0.00961843878030777,
        0.0013399001909419894, 0.0001535324554424733,
    ),
    np.float64: (
        0.6931471805599453, 0.2402265069591013, 0.05550410866482007, 0.009618129107593854,
        0.0013333558146777066, 0.00015403530457484802, 1.5252733491494705e-05, 1.3215435081021626e-06,
        1.0178199957947769e-07, 7.073820183817895e-09, 4.4347563475415256e-10,
    ),
}  # fmt: skip
# float32: log(1+f) = f - f^2/2 + f^3 q(f) for 1+f in [sqrt(1/2), sqrt(2)]: 2^-28.2
_LOG_SINGLE = (
    0.3333331346511841, -0.25000008940696716, 0.2000211924314499, -0.1666799634695053, 0.14219552278518677,
    -0.12405578047037125, 0.11888143420219421, -0.11675707995891571, 0.06746753305196762,
)  # fmt: skip
# float64: 2 atanh(s) = 2 s + s z q(z), z = s^2, s = f/(2+f): 2^-59.1
_LOG_DOUBLE = (
    0.6666666666666735, 0.39999999999411157, 0.2857142874325028, 0.22222198477126828, 0.18183569685889533,
    0.15313904512035795, 0.1479749600196636,
)  # fmt: skip


def typed(real: Any, values: tuple[float, ...]) -> tuple:
    """The constants as numbers of type ``real``."""
    return tuple(real(value) for value in values)


def rounding_constant(real: Any, bias: int = 0) -> Any:
    """The number M for which fma(x, c, M) - M is the integer nearest to c*x.

    With t = c*x + M, the representation of t shifted left by the width of the fraction is that of
    2^(n + bias - exponent bias).
    """
    return real(1.5 * 2.0 ** FRACTION_BITS[real] + bias)


def exponent_bias(real: Any) -> int:
    """The exponent of 1.0 in its representation."""
    return 127 if real is np.float32 else 1023


@elementary
def power_of_two(real: Any) -> Function:
    """2^n from t = n + rounding_constant(real, exponent_bias)."""
    integer, width = INTEGER[real], FRACTION_BITS[real]
    return lambda t: exact.from_bits(integer(exact.bits(t) << width))


@elementary
def scale(real: Any) -> Function:
    """y * 2^n from t = n + rounding_constant(real, 2*exponent_bias); rounded once if subnormal."""
    integer, width = INTEGER[real], FRACTION_BITS[real]

    def scale(y: Any, t: Any) -> Any:
        both = exact.bits(t)
        half = integer(both >> 1)
        rest = integer(both - half)
        return y * exact.from_bits(integer(half << width)) * exact.from_bits(integer(rest << width))

    return scale


@elementary
def reduce_exponential(real: Any) -> Function:
    """(t, n, r) with x + tail = n ln 2 + r and t = n + shift, for a ``shift`` made by rounding_constant."""
    log2_e = real(math.log2(math.e))
    ln2_high, ln2_low = typed(real, LN2[real])

    def reduce_exponential(x: Any, tail: Any, shift: Any) -> Any:
        t = exact.fma(x, log2_e, shift)
        n = t - shift
        return t, n, exact.fma(n, -ln2_low, exact.fma(n, -ln2_high, x)) + tail

    return reduce_exponential


@elementary
def exp_with_tail(real: Any) -> Function:
    """exp(x + tail) for a tail below an ulp or so of x."""
    low, high = (real(-104), real(89)) if real is np.float32 else (real(-746), real(710))
    shift = rounding_constant(real, 2 * exponent_bias(real))
    coefficients = typed(real, (1.0, 1.0, *_EXP[real]))

    def exp_with_tail(x: Any, tail: Any) -> Any:
        x = exact.select(x > high, high, x)
        x = exact.select(x < low, low, x)
        t, _, r = reduce_exponential(x, tail, shift)
        return scale(exact.polynomial(r, coefficients), t)

    return exp_with_tail


@elementary
def exp_moderate(real: Any) -> Function:
    """exp(x) for |x| < 80 in float32 and |x| < 700 in float64."""
    shift, nothing = rounding_constant(real, exponent_bias(real)), real(-0.0)
    coefficients = typed(real, (1.0, 1.0, *_EXP[real]))

    def exp_moderate(x: Any) -> Any:
        t, _, r = reduce_exponential(x, nothing, shift)
        return exact.polynomial(r, coefficients) * power_of_two(t)

    return exp_moderate


@elementary
def exp(real: Any) -> Function:
    """e to the power x."""
    nothing = real(-0.0)  # unlike +0, the compiler may drop it
    return lambda x: exp_with_tail(x, nothing)


@elementary
def exp2(real: Any) -> Function:
    """2 to the power x."""
    low, high = (real(-151), real(129)) if real is np.float32 else (real(-1076), real(1025))
    shift = rounding_constant(real, 2 * exponent_bias(real))
    one, coefficients = real(1), typed(real, _EXP2[real])

    def exp2(x: Any) -> Any:
        x = exact.select(x > high, high, x)
        x = exact.select(x < low, low, x)
        t = x + shift
        r = x - (t - shift)
        return scale(exact.fma(r, exact.polynomial(r, coefficients), one), t)

    return exp2


@elementary
def quarter_expm1(real: Any) -> Function:
    """(n, expm1(r), expm1(x)/4) with x = n ln 2 + r; the quarter does not overflow where sinh(x) does not."""
    low, high = (real(-30), real(89.5)) if real is np.float32 else (real(-50), real(710.6))
    shift, quarter, nothing = rounding_constant(real, exponent_bias(real) - 2), real(0.25), real(-0.0)
    coefficients = typed(real, _EXP[real])

    def quarter_expm1(x: Any) -> Any:
        x = exact.select(x > high, high, x)
        x = exact.select(x < low, low, x)
        t, n, r = reduce_exponential(x, nothing, shift)
        p = exact.fma(r * r, exact.polynomial(r, coefficients), r)
        quarter_power = power_of_two(t)
        return n, p, exact.fma(quarter_power, p, quarter_power - quarter)

    return quarter_expm1


@elementary
def expm1(real: Any) -> Function:
    """exp(x) - 1 without cancellation."""
    zero, four = real(0), real(4)

    def expm1(x: Any) -> Any:
        n, p, quarter = quarter_expm1(x)
        return exact.copysign(exact.select(n == zero, p, four * quarter), x)

    return expm1


@elementary
def expit(real: Any) -> Function:
    """The logistic function 1/(1 + exp(-x)), accurate in both tails."""
    zero, one = real(0), real(1)

    def expit(x: Any) -> Any:
        e = exp(-exact.fabs(x))
        return exact.select(x > zero, one, e) / (one + e)

    return expit


@elementary
def reduce_logarithm(real: Any) -> Function:
    """(k, m) with x = 2^k m and m in [sqrt(1/2), sqrt(2)), for positive x."""
    integer, width = INTEGER[real], FRACTION_BITS[real]
    least_normal, up = real(np.finfo(real).tiny), real(2.0**width)
    one, zero, up_exponent = real(1), real(0), real(width)
    base = integer(real(math.sqrt(0.5)).view(integer))
    shift = rounding_constant(real)
    shift_bits = integer(shift.view(integer))

    def reduce_logarithm(x: Any) -> Any:
        subnormal = x < least_normal
        i = exact.bits(x * exact.select(subnormal, up, one))
        k = integer(integer(i - base) >> width)
        m = exact.from_bits(integer(i - integer(k << width)))
        exponent = exact.from_bits(integer(k + shift_bits)) - shift
        return exponent - exact.select(subnormal, up_exponent, zero), m

    return reduce_logarithm


@elementary
def log1p_in_two_parts(real: Any) -> Function:
    """(high, low) with high + low = log(1 + f) + c and high = f - f^2/2 rounded, for a small correction c."""
    half = real(0.5)
    if real is np.float32:
        coefficients = typed(real, _LOG_SINGLE)

        def two_parts_single(f: Any, c: Any) -> Any:
            half_square = half * f * f
            high = f - half_square
            rest = exact.fma(f * f * f, exact.polynomial(f, coefficients), c)
            return high, rest + ((f - high) - half_square)

        return two_parts_single
    two, coefficients = real(2), typed(real, _LOG_DOUBLE)

    def two_parts_double(f: Any, c: Any) -> Any:
        # With s = f/(2+f), log(1+f) = 2 atanh(s) = f - f^2/2 + s (f^2/2 + z q(z)), as in fdlibm's e_log.c.
        s = f / (two + f)
        z = s * s
        half_square = half * f * f
        high = f - half_square
        rest = exact.fma(s, exact.fma(z, exact.polynomial(z, coefficients), half_square), c)
        return high, rest + ((f - high) - half_square)

    return two_parts_double


@elementary
def assemble_logarithm(real: Any) -> Function:
    """k ln(2) + log(1 + f) + c, for a small correction c."""
    ln2_high, ln2_low = typed(real, LN2[real])

    def assemble_logarithm(k: Any, f: Any, c: Any) -> Any:
        high, low = log1p_in_two_parts(f, exact.fma(k, ln2_low, c))
        return exact.fma(k, ln2_high, high + low)

    return assemble_logarithm


@elementary
def logarithm_limits(real: Any) -> Function:
    """y, except where x is 0, infinite, negative or NaN: the logarithm's limits there."""
    zero, infinity, nan = real(0), real(np.inf), real(np.nan)

    def logarithm_limits(x: Any, y: Any) -> Any:
        y = exact.select(x < infinity, y, x)
        y = exact.select(x < zero, nan, y)
        return exact.select(x == zero, -infinity, y)

    return logarithm_limits


@elementary
def log(real: Any) -> Function:
    """The natural logarithm."""
    zero, one = real(0), real(1)

    def log(x: Any) -> Any:
        k, m = reduce_logarithm(x)
        return logarithm_limits(x, assemble_logarithm(k, m - one, zero))

    return log


@elementary
def log1p(real: Any) -> Function:
    """log(1 + x) without losing x to the sum."""
    zero, one = real(0), real(1)

    def log1p(x: Any) -> Any:
        u = one + x
        rounded = u - one
        lost = (one - (u - rounded)) + (x - rounded)  # 1 + x = u + lost (Knuth's two-sum)
        k, m = reduce_logarithm(u)
        near_one = k == zero
        f = exact.select(near_one, x, m - one)
        c = exact.select(near_one, zero, lost / u)
        return exact.copysign(logarithm_limits(u, assemble_logarithm(k, f, c)), x)

    return log1p


def _split(real: Any, parts: tuple[float, float]) -> tuple:
    """A float64 pair as a pair of type ``real``."""
    if real is np.float64:
        return parts
    high = real(parts[0])
    return high, real(parts[0] - float(high))


def _scaled_logarithm(base: float, inverse: tuple[float, float], step: tuple[float, float]) -> Callable:
    """The logarithm to ``base``; 1/log(base) and log(2)/log(base) are given as high and low parts."""

    def make(real: Any) -> Function:
        inverse_high, inverse_low = _split(real, inverse)
        step_high, step_low = _split(real, step)
        one, zero = real(1), real(0)

        def logarithm(x: Any) -> Any:
            k, m = reduce_logarithm(x)
            high, low = log1p_in_two_parts(m - one, zero)
            product = high * inverse_high
            rest = exact.fma(high, inverse_low, low * inverse_high) + exact.fma(high, inverse_high, -product)
            exponent = k * step_high
            total = exponent + product
            rest = exact.fma(k, step_low, rest) + exact.fma(k, step_high, -exponent)
            return logarithm_limits(x, total + (rest + ((exponent - total) + product)))

        return logarithm

    make.__name__ = f"log{base:g}"
    make.__doc__ = f"The logarithm to the base {base:g}."
    return elementary(make)


log2 = _scaled_logarithm(2, (1.4426950408889634, 2.0355273740931033e-17), (1.0, 0.0))
log10 = _scaled_logarithm(
    10, (0.4342944819032518, 1.098319650216765e-17), (0.30102999566398120, -2.8037281277851704e-18)
)


@elementary
def softplus(real: Any) -> Function:
    """log(1 + exp(x))."""
    zero = real(0)

    def softplus(x: Any) -> Any:
        return exact.select(x < zero, zero, x) + log1p(exp(-exact.fabs(x)))

    return softplus


@elementary
def logaddexp(real: Any) -> Function:
    """log(exp(x) + exp(y))."""
    zero = real(0)

    def logaddexp(x: Any, y: Any) -> Any:
        distance = exact.select(x == y, zero, x - y)
        return exact.select(x > y, x, y) + log1p(exp(-exact.fabs(distance)))

    return logaddexp


@elementary
def logaddexp2(real: Any) -> Function:
    """log2(2^x + 2^y)."""
    zero, log2_e = real(0), real(math.log2(math.e))

    def logaddexp2(x: Any, y: Any) -> Any:
        distance = exact.select(x == y, zero, x - y)
        return exact.select(x > y, x, y) + log2_e * log1p(exp2(-exact.fabs(distance)))

    return logaddexp2


@elementary
def logit(real: Any) -> Function:
    """log(x/(1 - x)), the inverse of expit."""
    half, one, zero = real(0.5), real(1), real(0)
    step = FRACTION_BITS[real]
    tiny, up, log_up = real(2.0 ** (-4 * step)), real(2.0**step), real(step * math.log(2))

    def logit(x: Any) -> Any:
        # |logit(x)| = log(1 + |1-2x|/m), whose argument is positive, so that errors are not amplified.
        m = exact.select(x < half, x + zero, one - x)  # +0 for -0
        is_tiny = exact.fabs(m) < tiny  # 1/m may overflow
        y = log1p(exact.fabs((half - x) + (half - x)) / (m * exact.select(is_tiny, up, one)))
        return exact.copysign(y + exact.select(is_tiny, log_up, zero), x - half)

    return logit


@elementary
def xlogy(real: Any) -> Function:
    """x log(y), and 0 at x = 0 for every number y."""
    zero = real(0)
    return lambda x, y: exact.select((x == zero) & (y == y), zero, x * log(y))


@elementary
def xlog1py(real: Any) -> Function:
    """x log(1 + y), and 0 at x = 0 for every number y."""
    zero = real(0)
    return lambda x, y: exact.select((x == zero) & (y == y), zero, x * log1p(y))
