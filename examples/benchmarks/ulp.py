"""Measure the errors of the Numba backend's elementary functions and write docs/numerics_ulp.md.

    python examples/benchmarks/ulp.py                 # all functions, about two minutes
    python examples/benchmarks/ulp.py exp tanh        # some, printed only

float32 functions are compared with float64 ones on 16.7 million arguments: every 257th of the 2^32 bit
patterns. float64 functions are compared with extended precision (80-bit long double, or mpmath where NumPy
has no such function) on arguments of every exponent and both signs, and densely where the function is not
trivial.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np
import scipy.special

from nbdl.kernels.cpu import math as scalar

TABLE = Path(__file__).resolve().parents[2] / "docs" / "numerics_ulp.md"
WIDE = np.longdouble
PI = 4 * np.arctan(WIDE(1))


# --------------------------------------------------------------------------------------------------------
# references
def erf(x: np.ndarray) -> np.ndarray:
    """2/sqrt(pi) exp(-x^2) sum 2^k x^(2k+1)/(1*3*...*(2k+1)); the terms are all positive."""
    a = np.minimum(np.abs(x), 7)
    total = term = a
    for k in range(1, 240):
        term = term * (2 * a * a / (2 * k + 1))
        total = total + term
    return np.copysign(2 / np.sqrt(PI) * np.exp(-a * a) * total, x)


def expit(x: np.ndarray) -> np.ndarray:
    """The logistic function."""
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1, e) / (1 + e)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x))."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def logit(x: np.ndarray) -> np.ndarray:
    """log(x/(1 - x))."""
    return np.where(np.abs(x - 0.5) < 0.25, 2 * np.arctanh(2 * x - 1), np.log(x / (1 - x)))


def sinc(x: np.ndarray) -> np.ndarray:
    """sin(pi x)/(pi x)."""
    pi, n = PI.astype(x.dtype), np.rint(x)
    return np.where(x == 0, 1, np.where(n % 2 == 0, 1, -1) * np.sin(pi * (x - n)) / (pi * x))


def multiprecision(name: str, x: np.ndarray) -> np.ndarray:
    """The function ``name`` of mpmath."""
    import mpmath

    mpmath.mp.prec = 130
    function = getattr(mpmath, name)
    values = np.empty(x.shape, WIDE)
    for k, argument in enumerate(x.tolist()):
        exact = function(mpmath.mpf(argument))
        high = float(exact)
        values[k] = WIDE(high) + WIDE(float(exact - mpmath.mpf(high)))
    return values


class Case:
    """A function to measure.

    Args:
        name: its name in ``nbdl.kernels.cpu.math``.
        reference: takes an array of extended precision; None to use mpmath for float64.
        dense: where to sample densely.
        single: the float64 function that float32 is compared with, if ``reference`` is not good for it.
        domain: the arguments with a finite result, for mpmath.
    """

    def __init__(
        self,
        name: str,
        reference: Callable | None,
        dense: tuple[float, float],
        *,
        single: Callable | None = None,
        domain: tuple[float, float] = (-np.inf, np.inf),
    ):
        self.name, self.reference, self.dense, self.domain = name, reference, dense, domain
        self.single = single or reference


CASES = [
    Case("exp", np.exp, (-746, 710)),
    Case("exp2", np.exp2, (-1076, 1025)),
    Case("expm1", np.expm1, (-40, 40)),
    Case("log", np.log, (0.5, 2)),
    Case("log2", np.log2, (0.5, 2)),
    Case("log10", np.log10, (0.5, 2)),
    Case("log1p", np.log1p, (-0.9, 2)),
    Case("expit", expit, (-100, 100)),
    Case("softplus", softplus, (-100, 100)),
    Case("logit", logit, (0, 1)),
    Case("tanh", np.tanh, (-20, 20)),
    Case("sinh", np.sinh, (-5, 5)),
    Case("cosh", np.cosh, (-5, 5)),
    Case("asinh", np.arcsinh, (-5, 5)),
    Case("acosh", np.arccosh, (1, 5)),
    Case("atanh", np.arctanh, (-1, 1)),
    Case("sin", np.sin, (-1000, 1000)),
    Case("cos", np.cos, (-1000, 1000)),
    Case("tan", np.tan, (-1000, 1000)),
    Case("asin", np.arcsin, (-1, 1)),
    Case("acos", np.arccos, (-1, 1)),
    Case("atan", np.arctan, (-5, 5)),
    Case("sinc", sinc, (-20, 20)),
    Case("cbrt", np.cbrt, (-5, 5)),
    Case("rsqrt", lambda x: 1 / np.sqrt(x), (0, 5)),
    Case("erf", erf, (-6.5, 6.5), single=scipy.special.erf),
    Case("erfc", None, (-6, 27), single=scipy.special.erfc, domain=(-30, 26.5)),
    Case("erfinv", None, (-1, 1), single=scipy.special.erfinv, domain=(-1, 1)),
    Case("lgamma", None, (2.5, 100), single=scipy.special.gammaln, domain=(0, 1e300)),
    Case("digamma", None, (1, 100), single=scipy.special.digamma, domain=(0, 1e300)),
]
MPMATH_NAMES = {"lgamma": "loggamma"}


# ----------------------------------------------------------------------------------------------------------
# measuring
@functools.cache
def loop(name: str) -> Callable:
    """A compiled loop over the function, with the fast-math flags that nbdl's kernels are compiled with."""
    function = getattr(scalar, name)

    @numba.njit(error_model="numpy", fastmath={"nsz", "arcp", "contract", "reassoc"})
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


def single_arguments() -> Iterator[np.ndarray]:
    """Every 257th float32, in pieces."""
    patterns = np.arange(0, 2**32, 257, dtype=np.uint64).astype(np.uint32).view(np.float32)
    yield from np.array_split(patterns, 16)


def double_arguments(case: Case) -> Iterator[np.ndarray]:
    """Numbers of every exponent and numbers in the dense interval: 2 million, or 12 thousand for mpmath."""
    rng = np.random.default_rng(0)
    per_exponent = 250 if case.reference else 1
    exponents = np.repeat(np.arange(2**12, dtype=np.uint64) << np.uint64(52), per_exponent)
    numbers = (exponents | rng.integers(0, 2**52, exponents.size, dtype=np.uint64)).view(np.float64)
    dense = rng.uniform(*case.dense, 1_000_000 if case.reference else 8_000)
    x = np.concatenate([numbers, dense])
    if not case.reference:
        x = x[(x > case.domain[0]) & (x < case.domain[1])]
    yield from np.array_split(x, 8)


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """The distances in units of the last place of ``got``'s dtype; infinite where only one of them is NaN."""
    rounded = want.astype(got.dtype)
    spacing = np.spacing(np.minimum(np.abs(rounded), np.finfo(got.dtype).max)).astype(want.dtype)
    distance = np.abs(got.astype(want.dtype) - want) / spacing
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    distance[same & ~np.isfinite(distance)] = 0
    distance[np.isnan(distance)] = np.inf
    return distance


def worst(case: Case, dtype: type) -> tuple[float, float, int]:
    """The largest error, its argument and the number of arguments tried."""
    error, argument, count = -1.0, 0.0, 0
    for x in single_arguments() if dtype is np.float32 else double_arguments(case):
        out = np.empty_like(x)
        loop(case.name)(x, out)
        if dtype is np.float32:
            want = case.single(x.astype(np.float64))
        elif case.reference:
            want = case.reference(x.astype(WIDE))
        else:
            want = multiprecision(MPMATH_NAMES.get(case.name, case.name), x)
        distance = ulps(out, want)
        k = int(np.argmax(distance))
        count += x.size
        if distance[k] > error:
            error, argument = float(distance[k]), float(x[k])
    return error, argument, count


def rows(cases: list[Case]) -> Iterator[str]:
    """The lines of the table."""
    yield "| function | float32 | at | float64 | at | float64 arguments |"
    yield "|---|---|---|---|---|---|"
    for case in cases:
        single, double = worst(case, np.float32), worst(case, np.float64)
        cells = (
            case.name,
            f"{single[0]:.2f}",
            np.float32(single[1]),
            f"{double[0]:.2f}",
            double[1],
            f"{double[2]:,}",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure the functions named on the command line, or all of them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="functions to measure; all by default")
    names = parser.parse_args().names
    unknown = set(names) - {case.name for case in CASES}
    if unknown:
        sys.exit(
            f"ulp.py: unknown functions {sorted(unknown)}; known are {', '.join(case.name for case in CASES)}"
        )
    if np.finfo(WIDE).nmant <= 60:
        sys.exit(
            "ulp.py: the references need an 80-bit or 128-bit numpy.longdouble, which this platform lacks"
        )
    lines = []
    with np.errstate(all="ignore"):
        for line in rows([case for case in CASES if not names or case.name in names]):
            print(line, flush=True)
            lines.append(line)
    if not names:
        TABLE.write_text(HEADER + "\n".join(lines) + "\n" + FOOTER)


HEADER = """# Errors of the elementary functions of the Numba backend

The largest error found, in units of the last place (ulp) of the result, and the argument where it occurs.
Written by `python examples/benchmarks/ulp.py`.

float32: every 257th of the 2^32 bit patterns, 16.7 million arguments, against float64. float64: arguments
of every exponent and both signs and a million in the interesting interval, against 80-bit arithmetic (erfc,
erfinv, lgamma and digamma: a sample of positive results against mpmath). The loops are compiled with the
fast-math flags of nbdl's kernels. An error of 0.50 means correct rounding; infinities, NaN and signed zeros
agree with NumPy.

"""
FOOTER = """
Functions without a row: sqrt, reciprocal and all of rounding, signs, comparisons, remainders and bits are
exact or correctly rounded. For functions of two operands, tests/numba/test_vector_math.py holds these
bounds on random pairs (float32, float64): pow 0.51, 1.3; hypot 0.51, 1.2; atan2 0.51, 2.5; xlogy and
xlog1py 2, 2.5; logaddexp and logaddexp2 4 eps (|result| + 1), as the relative error is unbounded near a
result of 0. digamma loses digits near its zeros at negative arguments.
"""

if __name__ == "__main__":
    main()
