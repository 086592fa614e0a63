"""The vocabulary of formulas on NumPy arrays: what each :class:`~nbdl.formula.functions.Function` means.

This module is the specification the Numba and CUDA kernels are tested against. SciPy is imported when one of
its functions is first used.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

# Same name and meaning in NumPy.
_NUMPY_NAMES = (
    "add", "subtract", "multiply", "divide", "negative", "square", "fmod", "remainder", "floor_divide",
    "abs", "copysign", "heaviside", "nextafter", "maximum", "minimum", "fmax", "fmin", "floor",
    "ceil", "trunc", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt",
    "logaddexp", "logaddexp2", "sin", "cos", "tan", "sinh", "cosh", "tanh", "hypot", "deg2rad", "rad2deg",
    "where", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "isnan", "isinf",
    "isfinite", "signbit", "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and",
    "bitwise_or", "bitwise_xor", "bitwise_not", "left_shift", "right_shift",
)  # fmt: skip
_NUMPY_ALIASES = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
}
_SCIPY_NAMES = ("erf", "erfc", "erfinv", "logit", "xlogy", "xlog1py")
_SCIPY_ALIASES = {"digamma": "psi"}


def cast(x: Any, dtype: np.dtype) -> Any:
    """``x`` in ``dtype``, itself if it has it."""
    return np.asarray(x).astype(dtype, copy=False)


def truth(x: Any) -> Any:
    """``x != 0`` as bool."""
    return np.asarray(x).astype(bool, copy=False)


def reciprocal(x: Any) -> Any:
    """1 / x."""
    return np.divide(1, x)


def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return np.divide(1, np.sqrt(x))


def pow(x: Any, y: Any) -> Any:
    """x to the power y; integers to negative powers give 0 (1 and -1 excepted), as in C and PyTorch."""
    x, y = np.asarray(x), np.asarray(y)
    if np.result_type(x, y).kind in "iu" and (y < 0).any():
        positive = np.power(x, np.where(y < 0, 0, y))
        unit = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
        return np.where(y < 0, unit, positive)
    return np.power(x, y)


float_power = np.power


def rint(x: Any) -> Any:
    """The nearest integer, halves to even; integers stay as they are."""
    x = np.asarray(x)
    return x if x.dtype.kind in "biu" else np.rint(x)


def sign(x: Any) -> Any:
    """-1, 0 or 1; bools stay as they are."""
    x = np.asarray(x)
    return x if x.dtype.kind == "b" else np.sign(x)


def relu(x: Any) -> Any:
    """max(x, 0); NaN stays NaN, and -0 stays -0, which np.maximum leaves open."""
    return np.where(x < 0, 0, x)


def clip(x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high); NaN stays NaN, and ``high`` wins where the bounds cross."""
    return np.minimum(np.maximum(x, low), high)


def nan_to_num(x: Any, nan: Any, posinf: Any, neginf: Any) -> Any:
    """Non-finite values replaced."""
    return np.where(np.isnan(x), nan, np.where(x == np.inf, posinf, np.where(x == -np.inf, neginf, x)))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return np.logaddexp(x, 0)


def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x), 1 at 0."""
    return sinc_slope(x, 0)


def sinc_slope(x: Any, order: Any) -> Any:
    """The ``order``-th derivative of sin(pi x) / (pi x).

    With s = pi x, the n-th derivative of sin(s)/s is (sin(s + n pi/2) - n * (the one before)) / s away from
    0, which loses digits for small s; there the Taylor series of sin(s)/s is differentiated term by term.
    """
    n = int(order)
    x = np.asarray(x)
    s = np.asarray(x, np.float64) * np.pi
    small = np.abs(s) < 1.0 + n
    safe = np.where(small, 1.0, s)
    value = np.sin(safe) / safe
    for k in range(1, n + 1):
        value = (np.sin(safe + k * (np.pi / 2)) - k * value) / safe
    near = np.where(small, s, 0.0)
    series = np.zeros_like(near)
    for m in range((n + 1) // 2, (n + 1) // 2 + 20 + n):
        power = 2 * m - n
        if power >= 0:
            coefficient = (-1) ** m / math.factorial(power) / (2 * m + 1)
            series = series + coefficient * near**power
    return (np.where(small, series, value) * np.pi**n).astype(x.dtype if x.dtype.kind == "f" else np.float64)


@functools.cache
def _special() -> Any:
    import scipy.special

    return scipy.special


def expit(x: Any) -> Any:
    """1 / (1 + exp(-x)), also of complex numbers."""
    x = np.asarray(x)
    return np.divide(1, 1 + np.exp(-x)) if x.dtype.kind == "c" else _special().expit(x)


def lgamma(x: Any) -> Any:
    """log |gamma(x)|; infinite at both infinities, as in C and PyTorch (SciPy has -inf at -inf)."""
    value = _special().gammaln(x)
    return np.where(np.isneginf(x), np.abs(value), value)


def polygamma(n: Any, x: Any) -> Any:
    """The n-th derivative of digamma; at negative x by reflection is undefined in SciPy and stays NaN."""
    return cast(_special().polygamma(np.asarray(n, np.float64), x), np.asarray(x).dtype)


def __getattr__(name: str) -> Callable:
    """SciPy's functions, on first use."""
    scipy_name = _SCIPY_ALIASES.get(name, name if name in _SCIPY_NAMES else None)
    if scipy_name is None:
        raise AttributeError(f"module {__name__!r} has no function {name!r}")
    function = getattr(_special(), scipy_name)
    globals()[name] = function
    return function


def _adopt() -> None:
    for name in _NUMPY_NAMES:
        globals()[name] = getattr(np, name)
    for name, numpy_name in _NUMPY_ALIASES.items():
        globals()[name] = getattr(np, numpy_name)


_adopt()
