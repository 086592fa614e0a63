"""The error function and its kin, and the gamma function's logarithm and derivatives.

The first ones vectorise; those of the gamma function have loops and branches and are computed an element at
a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.kernels.cpu import math_exact as exact
from nbdl.kernels.cpu.math_dispatch import by_operands, elementary, elementary_double, scalar, scalar_double
from nbdl.kernels.cpu.math_exponential import exp_moderate, exp_with_tail, log, typed
from nbdl.kernels.cpu.math_power import float_power
from nbdl.kernels.cpu.math_trigonometric import cos, sin, sinc

Function = Callable[..., Any]

# erf(x) = x + x q(x^2): 2^-25.9 for |x| <= 0.93 and 2^-56.3 for |x| <= 1
_ERF_SMALL = {
    np.float32: (
        0.12837916612625122, -0.37612631916999817, 0.11283687502145767, -0.026858940720558167,
        0.005199906881898642, -0.0008130015339702368, 8.316788444062695e-05,
    ),
    np.float64: (
        0.1283791670955126, -0.3761263890318375, 0.11283791670954857, -0.026866170645072893,
        0.005223977624780844, -0.0008548326978740753, 0.00012055331036844493, -1.4925593505592317e-05,
        1.6460972797706685e-06, -1.63500250421157e-07, 1.4657878828825645e-08, -1.1365662911148837e-09,
        5.945258135560892e-11,
    ),
}  # fmt: skip
# float32: erfc(x) = exp(-q(x)) for x in [0.92, 3.93]: 2^-26.5 of erf(x)
_ERF_LARGE_SINGLE = (
    0.00020708728698082268, 1.1276270151138306, 0.6372663378715515, 0.10385583341121674, -0.02218950353562832,
    0.003033620771020651, -0.00019493908621370792,
)  # fmt: skip
# float64: erfc(x) = exp(-x^2)/(1+2x) q(t), t = (x-4)/(x+4): 2^-56.4 of erf(x) for x in [0.95, 6.1]
_ERF_LARGE_DOUBLE = (
    1.2329951185489325, -0.13962112047640704, 0.01537957781290298, 0.06809617706254348,
    -0.10104580330879151, 0.09369708114618766, -0.06646574900613858, 0.036796545515951455,
    -0.016932663071977137, 0.003998022538960003, -0.0017456664461626176, -0.0007763175060909839,
    5.632521329673732e-06,
)  # fmt: skip
# The same to 2^-54.2 of erfc(x) for x in [0.45, 27.5]
_ERFC = (
    1.2329951186255526, -0.1396211168405625, 0.015379652102618874, 0.06809705425469197,
    -0.10103906603624445, 0.09373283499838408, -0.0663303658138229, 0.037167515536679005,
    -0.016197734035759727, 0.005031969988572766, -0.0007577734651961299, -0.0001992567802037611,
    0.0001506225607215715, -2.4398768706513027e-05, -1.1224891949773992e-05, 5.708206256625743e-06,
    2.9979080933688473e-07, -8.220182148353222e-07, 6.683805345269389e-08, 1.0530623922111043e-07,
    -1.2161117215356105e-08, -1.0366644006134807e-08,
)  # fmt: skip

# Wichura's algorithm AS 241 (PPND16, Applied Statistics 37, 1988) for the normal quantile: numerators and
# denominators near the centre, in the tails and in the far tails.
_QUANTILE_CENTRE = (
    (
        3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
        4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
    ),
    (
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
        2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
    ),
)  # fmt: skip
_QUANTILE_TAIL = (
    (
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
        3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
        2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ),
    (
        1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
        1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)  # fmt: skip
_QUANTILE_FAR = (
    (
        6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
        2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
        2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ),
    (
        1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
        7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)  # fmt: skip

# digamma(x) = (x - root) q(x - 3/2) for x in [1, 2]: 2^-52.7; the root in two parts
_DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)
_DIGAMMA = (
    0.9510558760318328, -0.4236274212814572, 0.24054248424077762, -0.14840492305487388,
    0.09498872445448782, -0.06192213318960939, 0.04076083383576747, -0.026975800065110023,
    0.017907251829657533, -0.011908145891595811, 0.007926953786606579, -0.005280909407744353,
    0.003518923051836494, -0.0023375136087330378, 0.0015571019259349914, -0.0010778291743443753,
    0.0007217244603128164, -0.0003544779990748959, 0.00023025482133813988, -0.00037863117075877245,
    0.0002572634275105091,
)  # fmt: skip
# B(2j)/(2j) and B(2j)/(2j)! for j = 1, 2, ...
_DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_ZETA_SERIES = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000,
)  # fmt: skip


@elementary
def erf(real: Any) -> Function:
    """The error function."""
    small_terms = typed(real, _ERF_SMALL[real])
    one = real(1)
    if real is np.float32:
        limit, bound, large_terms = real(0.925), real(3.93), typed(real, _ERF_LARGE_SINGLE)

        def erf_single(x: Any) -> Any:
            a = exact.fabs(x)
            a = exact.select(a > bound, bound, a)
            large = one - exp_moderate(-exact.polynomial(a, large_terms))
            small = exact.fma(a, exact.polynomial(a * a, small_terms), a)
            return exact.copysign(exact.select(a < limit, small, large), x)

        return erf_single
    bound = 6.0

    def erf_double(x: Any) -> Any:
        a = exact.fabs(x)
        a = exact.select(a > bound, bound, a)
        z = a * a
        t = (a - 4.0) / (a + 4.0)
        large = one - exp_moderate(-z) * exact.polynomial(t, _ERF_LARGE_DOUBLE) / exact.fma(2.0, a, one)
        small = exact.fma(a, exact.polynomial(z, small_terms), a)
        return exact.copysign(exact.select(a < one, small, large), x)

    return erf_double


@elementary_double
def erfc(real: Any) -> Function:
    """1 - erf(x), accurate in the right tail."""
    small_terms = _ERF_SMALL[np.float64]
    limit, bound = 0.46875, 28.0

    def erfc(x: Any) -> Any:
        a = exact.fabs(x)
        a = exact.select(a > bound, bound, a)
        z = a * a
        t = (a - 4.0) / (a + 4.0)
        tail = exp_with_tail(-z, -exact.fma(a, a, -z)) * (exact.polynomial(t, _ERFC) / exact.fma(2.0, a, 1.0))
        large = exact.select(x < 0.0, 2.0 - tail, tail)
        small = 1.0 - exact.fma(x, exact.polynomial(z, small_terms), x)
        return exact.select(a < limit, small, large)

    return erfc


@elementary_double
def erfinv(real: Any) -> Function:
    """The inverse of erf; infinite at -1 and 1, NaN beyond."""
    sqrt_half = math.sqrt(0.5)
    centre_p, centre_q = _QUANTILE_CENTRE
    tail_p, tail_q = _QUANTILE_TAIL
    far_p, far_q = _QUANTILE_FAR

    def erfinv(y: Any) -> Any:
        # The normal quantile of (1 + |y|)/2
        a = exact.fabs(y)
        c = exact.fma(-0.25 * a, a, 0.180625)
        r = exact.sqrt(-log(0.5 - 0.5 * a))
        t, u = r - 1.6, r - 5.0
        is_central, is_tail = a < 0.85, r < 5.0
        p = exact.select(is_tail, exact.polynomial(t, tail_p), exact.polynomial(u, far_p))
        q = exact.select(is_tail, exact.polynomial(t, tail_q), exact.polynomial(u, far_q))
        p = exact.select(is_central, exact.polynomial(c, centre_p), p)
        q = exact.select(is_central, exact.polynomial(c, centre_q), q)
        value = exact.select(is_central, 0.5 * a, 1.0) * (sqrt_half * (p / q))
        return exact.copysign(exact.select(a == 1.0, math.inf, value), y)

    return erfinv


@scalar
def sinc_slope(real: Any) -> Function:
    """The n-th derivative of sin(pi x)/(pi x), n = 0, 1, 2, ...

    With s = pi x, the n-th derivative of sin(s)/s is (sin(s + n pi/2) - n * (the one before))/s. That loses
    digits for small s; there the Taylor series is differentiated term by term.
    """
    pi, half_pi = math.pi, math.pi / 2

    def taylor(s: float, n: int) -> float:
        # Terms (-1)^m s^(2m-n) / ((2m-n)! (2m+1)) with 2m >= n
        m = (n + 1) // 2
        term = (1.0 - 2.0 * (m % 2)) * (s if n % 2 else 1.0)
        total = 0.0
        power = n % 2
        for _ in range(20 + n):
            total += term / (2 * m + 1)
            m += 1
            term *= -s * s / ((power + 1) * (power + 2))
            power += 2
        return total

    taylor_sum = by_operands(lambda _: taylor)

    def sinc_slope(x: Any, n: Any) -> Any:
        order = int(n)
        if order == 0:
            return sinc(x)
        s = pi * x
        if abs(s) < 1.0 + n:
            return taylor_sum(s, order) * pi**n
        value = sin(s) / s
        for k in range(1, order + 1):
            value = (sin(s + k * half_pi) - k * value) / s
        return value * pi**n

    return sinc_slope


@scalar
def lgamma(real: Any) -> Function:
    """log|gamma(x)|, by the C library."""
    return lambda x: math.lgamma(x)


@scalar
def digamma(real: Any) -> Function:
    """The derivative of lgamma; NaN at negative integers, infinite at 0."""
    root, root_low = _DIGAMMA_ROOT
    pi = math.pi

    def digamma(x: Any) -> Any:
        if x == 0.0:
            return math.copysign(math.inf, -x)
        reflected = 0.0
        if x < 0.0:
            # digamma(x) = digamma(1-x) - pi cot(pi x)
            angle = pi * (x - exact.floor(x + 0.5))
            if not angle * angle > 0.0:
                return math.nan
            reflected = -pi * cos(angle) / sin(angle)
            x = 1.0 - x
        if x < 10.0:
            # digamma(x+1) = digamma(x) + 1/x, from [1, 2]
            shifted = 0.0
            if x < 1.0:
                shifted = -1.0 / x
                x += 1.0
            while x > 2.0:
                x -= 1.0
                shifted += 1.0 / x
            value = ((x - root) - root_low) * exact.polynomial(x - 1.5, _DIGAMMA)
            return value + shifted + reflected
        inverse_square = 1.0 / (x * x)
        series = inverse_square * exact.polynomial(inverse_square, _DIGAMMA_SERIES)
        return log(x) - 0.5 / x - series + reflected

    return digamma


@scalar_double
def _hurwitz_zeta(real: Any) -> Function:
    """The sum of (a + k)^-s over k = 0, 1, ..., for a > 0 and s = 2, 3, ... (Euler and Maclaurin)."""

    def hurwitz_zeta(s: Any, a: Any) -> Any:
        total = 0.0
        while a < s + 11.0:
            total += float_power(a, -s)
            a += 1.0
        power = float_power(a, -s)
        if power == 0.0:
            return total
        total += power * (a / (s - 1.0) + 0.5)
        # B(2j)/(2j)! s (s+1) ... (s+2j-2) a^(-s-2j+1)
        rising = s * power / a
        for j in range(len(_ZETA_SERIES)):
            total += _ZETA_SERIES[j] * rising
            rising *= (s + (2 * j + 1)) * (s + (2 * j + 2)) / (a * a)
        return total

    return hurwitz_zeta


@scalar
def polygamma(real: Any) -> Function:
    """The n-th derivative of digamma at x, n = 0, 1, 2, ...; infinite at x = 0, -1, ..."""

    def polygamma(n: Any, x: Any) -> Any:
        if n == 0.0:
            return digamma(x)
        s = n + 1.0
        parity, factor = 1.0, -1.0  # (-1)^s and (-1)^s n!
        for k in range(1, int(n) + 1):
            parity, factor = -parity, -factor * k
        parity = -parity
        if x > 0.0:
            return factor * _hurwitz_zeta(s, x)
        fraction = x - exact.floor(x)
        if fraction == 0.0:
            return factor * math.inf
        # The sum over all integers without those to the left of x
        both_sides = _hurwitz_zeta(s, fraction) + parity * _hurwitz_zeta(s, 1.0 - fraction)
        return factor * (both_sides - parity * _hurwitz_zeta(s, 1.0 - x))

    return polygamma


@scalar
def trigamma(real: Any) -> Function:
    """The derivative of digamma."""
    return lambda x: polygamma(1.0, x)
