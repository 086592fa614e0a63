"""Arithmetic, rounding, comparison and bit functions of floats and integers, with NumPy's semantics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.kernels.cpu import math_exact as exact
from nbdl.kernels.cpu.math_dispatch import arithmetic, by_operands, choice, elementary

Function = Callable[..., Any]


def _is_real(number: Any) -> bool:
    return issubclass(number, np.floating)


def _is_unsigned(number: Any) -> bool:
    return issubclass(number, np.unsignedinteger)


def _identity(x: Any) -> Any:
    return x


# ------------------------------------------------------------------------------------------------- arithmetic
@arithmetic
def square(number: Any) -> Function:
    """x * x."""
    return lambda x: number(x * x)


@arithmetic
def negative(number: Any) -> Function:
    """-x."""
    return lambda x: number(-x)


@elementary
def reciprocal(real: Any) -> Function:
    """1 / x."""
    one = real(1)
    return lambda x: one / x


@elementary
def sqrt(real: Any) -> Function:
    """The square root, NaN below 0 and -0 at -0."""
    return lambda x: exact.sqrt(x)


@elementary
def rsqrt(real: Any) -> Function:
    """1 / sqrt(x)."""
    one = real(1)
    return lambda x: one / exact.sqrt(x)


@arithmetic
def absolute(number: Any) -> Function:
    """|x|; the most negative integer stays itself."""
    if _is_real(number):
        return lambda x: exact.fabs(x)
    zero = number(0)
    return lambda x: number(zero - x) if x < zero else x


@elementary
def fabs(real: Any) -> Function:
    """|x| as a float."""
    return lambda x: exact.fabs(x)


@arithmetic
def sign(number: Any) -> Function:
    """-1, 0 or 1; NaN at NaN."""
    zero, one = number(0), number(1)
    if _is_unsigned(number):
        return lambda x: exact.select(x > zero, one, zero)
    minus_one = number(-1)

    def sign(x: Any) -> Any:
        magnitude = exact.select(x > zero, one, exact.select(x < zero, minus_one, zero))
        return exact.select(x == x, magnitude, x)

    return sign


@elementary
def copysign(real: Any) -> Function:
    """|x| with the sign of y."""
    return lambda x, y: exact.copysign(x, y)


@arithmetic
def heaviside(number: Any) -> Function:
    """0 below 0, y at 0, 1 above; NaN at NaN."""
    zero, one = number(0), number(1)

    def heaviside(x: Any, y: Any) -> Any:
        step = exact.select(x > zero, one, exact.select(x == zero, y, zero))
        return exact.select(x == x, step, x)

    return heaviside


@elementary
def nextafter(real: Any) -> Function:
    """The float after x in the direction of y."""
    integer = np.int32 if real is np.float32 else np.int64
    zero = real(0)
    smallest, one = real(np.finfo(real).smallest_subnormal), integer(1)

    def nextafter(x: Any, y: Any) -> Any:
        # Floats of one sign are ordered like their representations.
        away = (y > x) == (x > zero)
        i = exact.bits(x)
        neighbour = exact.from_bits(integer(i + one) if away else integer(i - one))
        result = exact.select(x == zero, exact.copysign(smallest, y), neighbour)
        result = exact.select(x == y, y, result)
        return exact.select((x == x) & (y == y), result, x + y)

    return nextafter


@elementary
def deg2rad(real: Any) -> Function:
    """Degrees to radians."""
    factor = real(math.pi / 180)
    return lambda x: x * factor


@elementary
def rad2deg(real: Any) -> Function:
    """Radians to degrees."""
    factor = real(180 / math.pi)
    return lambda x: x * factor


# --------------------------------------------------------------------------------------- quotients and
# remainders
def _safe_divisor(number: Any) -> Function:
    """A divisor for which the machine's integer division is defined: 1 in place of 0 and -1."""
    zero, one = number(0), number(1)
    minus_one = number(0) if _is_unsigned(number) else number(-1)
    return lambda y: exact.select((y == zero) | (y == minus_one), one, y)


@arithmetic
def remainder(number: Any) -> Function:
    """x - floor(x/y)*y, with the sign of y; 0 for an integer divisor 0."""
    zero = number(0)
    if _is_real(number):

        def remainder(x: Any, y: Any) -> Any:
            r = exact.fmod(x, y)
            wrong_sign = (r != zero) & ((r < zero) != (y < zero))
            return exact.select(wrong_sign, r + y, exact.select(r == zero, exact.copysign(zero, y), r))

        return remainder
    divisor = arithmetic(_safe_divisor)
    return lambda x, y: number(x % divisor(y))


@arithmetic
def fmod(number: Any) -> Function:
    """x - trunc(x/y)*y, with the sign of x; 0 for an integer divisor 0."""
    zero = number(0)
    if _is_real(number):
        return lambda x, y: exact.fmod(x, y)
    divisor = arithmetic(_safe_divisor)

    def fmod(x: Any, y: Any) -> Any:
        d = divisor(y)
        r = number(x % d)
        return number(r - d) if (r != zero) & ((x < zero) != (d < zero)) else r

    return fmod


@arithmetic
def floor_divide(number: Any) -> Function:
    """floor(x/y); for integers 0 at y = 0 and wrapped at the one overflow."""
    zero, one = number(0), number(1)
    if _is_real(number):
        half = number(0.5)

        def floor_divide(x: Any, y: Any) -> Any:
            # x - fmod is divisible by y up to rounding, so that the quotient is within rounding of an
            # integer.
            r = exact.fmod(x, y)
            quotient = (x - r) / y
            quotient = exact.select((r != zero) & ((r < zero) != (y < zero)), quotient - one, quotient)
            below = exact.floor(quotient)
            nearest = exact.select(quotient - below > half, below + one, below)
            result = exact.select(quotient == zero, exact.copysign(zero, x / y), nearest)
            return exact.select(y == zero, x / y, result)

        return floor_divide
    divisor = arithmetic(_safe_divisor)
    if _is_unsigned(number):
        return lambda x, y: exact.select(y == zero, zero, number(x // divisor(y)))
    minus_one = number(-1)

    def floor_divide_integers(x: Any, y: Any) -> Any:
        quotient = exact.select(y == minus_one, number(zero - x), number(x // divisor(y)))
        return exact.select(y == zero, zero, quotient)

    return floor_divide_integers


def integer_power(number: Any) -> Function:
    """x to the power y modulo the width of the integer; negative powers give 0, except of 1 and -1."""
    zero, one = number(0), number(1)

    def integer_power(x: Any, y: Any) -> Any:
        exponent = y
        if y < zero:
            if x != one and number(x + one) != zero:
                return zero
            exponent = number(y & one)
        result, factor = one, x
        while exponent > zero:
            if number(exponent & one) == one:
                result = number(result * factor)
            factor = number(factor * factor)
            exponent = number(exponent >> one)
        return result

    return integer_power


# ------------------------------------------------------------------------------------------------------
# rounding
def _rounding(function: Function, doc: str) -> Any:
    def make(number: Any) -> Function:
        return (lambda x: function(x)) if _is_real(number) else _identity

    make.__name__, make.__doc__ = function.__name__, doc
    return arithmetic(make)


floor = _rounding(exact.floor, "The largest integer not above x.")
ceil = _rounding(exact.ceil, "The smallest integer not below x.")
trunc = _rounding(exact.trunc, "The integer part of x.")
rint = _rounding(exact.rint, "The nearest integer, the even one at a tie.")


# ----------------------------------------------------------------------------------------------- the
# larger, the smaller
@arithmetic
def maximum(number: Any) -> Function:
    """The larger operand; NaN if either is."""
    return (lambda x, y: exact.maximum(x, y)) if _is_real(number) else (lambda x, y: x if x > y else y)


@arithmetic
def minimum(number: Any) -> Function:
    """The smaller operand; NaN if either is."""
    return (lambda x, y: exact.minimum(x, y)) if _is_real(number) else (lambda x, y: x if x < y else y)


@arithmetic
def fmax(number: Any) -> Function:
    """The larger operand; the other one if one is NaN."""
    return (lambda x, y: exact.maxnum(x, y)) if _is_real(number) else (lambda x, y: x if x > y else y)


@arithmetic
def fmin(number: Any) -> Function:
    """The smaller operand; the other one if one is NaN."""
    return (lambda x, y: exact.minnum(x, y)) if _is_real(number) else (lambda x, y: x if x < y else y)


@arithmetic
def clip(number: Any) -> Function:
    """min(max(x, low), high); NaN if any operand is."""

    def clip(x: Any, low: Any, high: Any) -> Any:
        return minimum(maximum(x, low), high)

    return clip


@arithmetic
def relu(number: Any) -> Function:
    """max(x, 0); NaN at NaN."""
    zero = number(0)
    return lambda x: exact.select(x < zero, zero, x)


# -----------------------------------------------------------------------------------------------------
# non-finite values
@arithmetic
def isnan(number: Any) -> Function:
    """Whether x is NaN."""
    return lambda x: x != x


@arithmetic
def isinf(number: Any) -> Function:
    """Whether x is an infinity."""
    if not _is_real(number):
        return lambda x: False
    infinity = number(np.inf)
    return lambda x: exact.fabs(x) == infinity


@arithmetic
def isfinite(number: Any) -> Function:
    """Whether x is neither NaN nor an infinity."""
    if not _is_real(number):
        return lambda x: True
    infinity = number(np.inf)
    return lambda x: exact.fabs(x) < infinity


@arithmetic
def signbit(number: Any) -> Function:
    """Whether the sign bit is set, as it is for -0."""
    if not _is_real(number):
        zero = number(0)
        return lambda x: x < zero
    return lambda x: exact.bits(x) < 0


@arithmetic
def nan_to_num(number: Any) -> Function:
    """x with NaN and the infinities replaced by the three other operands."""
    if not _is_real(number):
        return lambda x, nan, posinf, neginf: x
    infinity = number(np.inf)

    def nan_to_num(x: Any, nan: Any, posinf: Any, neginf: Any) -> Any:
        finite = exact.select(x == infinity, posinf, exact.select(x == -infinity, neginf, x))
        return exact.select(x == x, finite, nan)

    return nan_to_num


# ----------------------------------------------------------------------------------------------------
# choice and logic
@choice
def where(number: Any) -> Function:
    """``x if condition else y``; all operands are evaluated."""
    return lambda condition, x, y: exact.select(bool(condition), x, y)


@by_operands
def logical_and(number: Any) -> Function:
    """Whether both operands are non-zero."""
    return lambda x, y: bool(x) & bool(y)


@by_operands
def logical_or(number: Any) -> Function:
    """Whether an operand is non-zero."""
    return lambda x, y: bool(x) | bool(y)


@by_operands
def logical_xor(number: Any) -> Function:
    """Whether exactly one operand is non-zero."""
    return lambda x, y: bool(x) != bool(y)


@by_operands
def logical_not(number: Any) -> Function:
    """Whether x is zero."""
    return lambda x: not bool(x)


# -------------------------------------------------------------------------------------------------- bits of
# integers
@arithmetic
def bitwise_and(number: Any) -> Function:
    """x & y."""
    return lambda x, y: number(x & y)


@arithmetic
def bitwise_or(number: Any) -> Function:
    """x | y."""
    return lambda x, y: number(x | y)


@arithmetic
def bitwise_xor(number: Any) -> Function:
    """x ^ y."""
    return lambda x, y: number(x ^ y)


@by_operands
def bitwise_not(number: Any) -> Function:
    """The complement of an integer, the negation of a truth value."""
    if number is np.bool_:
        return lambda x: not x
    return lambda x: number(~x)


@arithmetic
def left_shift(number: Any) -> Function:
    """x * 2**n modulo the width; 0 for n outside [0, width)."""
    width = number(8 * np.dtype(number).itemsize)
    zero, last = number(0), number(width - 1)

    def left_shift(x: Any, n: Any) -> Any:
        return exact.select((n >= zero) & (n < width), number(x << number(n & last)), zero)

    return left_shift


@arithmetic
def right_shift(number: Any) -> Function:
    """floor(x / 2**n); the sign, 0 or -1, for n outside [0, width)."""
    width = number(8 * np.dtype(number).itemsize)
    zero, last = number(0), number(width - 1)
    if _is_unsigned(number):
        return lambda x, n: exact.select(n < width, number(x >> number(n & last)), zero)

    def right_shift(x: Any, n: Any) -> Any:
        return number(x >> exact.select((n >= zero) & (n < width), n, last))

    return right_shift
