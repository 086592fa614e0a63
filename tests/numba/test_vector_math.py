"""How accurate the elementary functions of the Numba backend are, and that loops over them vectorise."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest
import scipy.special
from math_checks import FLOATS, WIDE, all_exponents, apply, loop, quiet, special_numbers, ulps
from numba.core.compiler_lock import global_compiler_lock

from nbdl.backend.numba import compiler
from nbdl.formula.functions import FUNCTIONS
from nbdl.formula.printers import INFIX
from nbdl.kernels.cpu import math as scalar
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64

VIEWS = {np.float32: float32_at, np.float64: float64_at}
REFERENCE_ULP = 0.0 if np.finfo(WIDE).nmant > 60 else 1.5


def between(low, high, dtype, count=30_000, seed=1):
    return np.random.default_rng(seed).uniform(low, high, count).astype(dtype)


def _expit(x):
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1, e) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _logit(x):
    return np.where(np.abs(x - 0.5) < 0.25, 2 * np.arctanh(2 * x - 1), np.log(x / (1 - x)))


def _sinc(x):
    pi = 4 * np.arctan(WIDE(1))
    n = np.rint(x)
    return np.where(x == 0, 1, np.where(n % 2 == 0, 1, -1) * np.sin(pi * (x - n)) / (pi * x))


# name, reference in extended precision, interval besides all exponents, ulp bounds for float32 and float64
UNARY = [
    ("exp", np.exp, (-110, 90), 1.1, 1.1),
    ("exp2", np.exp2, (-155, 130), 1.0, 1.0),
    ("expm1", np.expm1, (-5, 5), 1.5, 2.0),
    ("log", np.log, (0.5, 2), 1.0, 1.0),
    ("log2", np.log2, (0.5, 2), 1.0, 1.0),
    ("log10", np.log10, (0.5, 2), 1.0, 1.0),
    ("log1p", np.log1p, (-0.9, 2), 1.0, 1.0),
    ("expit", _expit, (-100, 100), 2.1, 2.1),
    ("softplus", _softplus, (-100, 100), 2.0, 2.0),
    ("logit", _logit, (0, 1), 2.0, 2.0),
    ("tanh", np.tanh, (-10, 10), 1.5, 2.5),
    ("sinh", np.sinh, (-5, 5), 0.51, 2.5),
    ("cosh", np.cosh, (-5, 5), 0.51, 1.5),
    ("asinh", np.arcsinh, (-3, 3), 2.0, 2.0),
    ("acosh", np.arccosh, (1, 3), 0.51, 2.5),
    ("atanh", np.arctanh, (-1, 1), 2.0, 2.0),
    ("sin", np.sin, (-300, 300), 1.6, 1.0),
    ("cos", np.cos, (-300, 300), 1.6, 1.0),
    ("tan", np.tan, (-300, 300), 0.51, 2.5),
    ("asin", np.arcsin, (-1, 1), 0.51, 2.5),
    ("acos", np.arccos, (-1, 1), 0.51, 2.0),
    ("atan", np.arctan, (-3, 3), 0.51, 2.5),
    ("cbrt", np.cbrt, (-3, 3), 0.51, 1.0),
    ("sinc", _sinc, (-5, 5), 0.51, 3.0),
    ("sqrt", np.sqrt, (0, 5), 0.5, 0.5),
    ("rsqrt", lambda x: 1 / np.sqrt(x), (0, 5), 1.5, 1.5),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "reference", "interval", "bound32", "bound64"), UNARY, ids=[row[0] for row in UNARY]
)
def test_unary_error_in_ulps(name, reference, interval, bound32, bound64, dtype):
    x = np.concatenate([all_exponents(dtype), between(*interval, dtype)])
    if name == "sinc":
        x = x[np.abs(x) < 2**20]
    got, want = apply(name, x), quiet(reference, x.astype(WIDE))
    error = ulps(got, want)
    worst = np.argmax(error)
    bound = (bound32 if dtype is np.float32 else bound64) + REFERENCE_ULP
    assert error[worst] <= bound, f"{name}({x[worst]!r}) = {got[worst]!r}, want {want[worst]!r}"
    zeros = want == 0
    assert (np.signbit(got[zeros]) == np.signbit(want[zeros])).all()


# SciPy's own errors, of an ulp or two of float64, count in the last column.
SPECIAL = [
    ("erf", scipy.special.erf, (-6.5, 6.5), 1.5, 4.0),
    ("erfc", scipy.special.erfc, (-6, 0.4), 0.51, 4.0),
    ("erfinv", scipy.special.erfinv, (-1, 1), 0.51, 8.0),
    ("lgamma", scipy.special.gammaln, (2.5, 50), 0.51, 6.0),
    ("digamma", scipy.special.digamma, (1.6, 50), 0.51, 8.0),
    ("trigamma", lambda x: scipy.special.polygamma(1, x), (0.01, 50), 0.51, 10.0),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "reference", "interval", "bound32", "bound64"), SPECIAL, ids=[row[0] for row in SPECIAL]
)
def test_special_function_error_in_ulps(name, reference, interval, bound32, bound64, dtype):
    x = between(*interval, dtype)
    if name in ("erf", "erfc"):
        x = np.concatenate([x, special_numbers(dtype), all_exponents(dtype, 2000)])
        x = x[(x < 0.4) | ~(x < 28)]  # SciPy's erfc is off by 10 to 500 ulps in the tail
    got, want = apply(name, x), quiet(reference, x.astype(np.float64)).astype(WIDE)
    error = ulps(got, want)
    worst = np.argmax(error)
    assert error[worst] <= (bound32 if dtype is np.float32 else bound64), (
        f"{name}({x[worst]!r}) = {got[worst]!r}"
    )


def _pairs(dtype):
    rng = np.random.default_rng(2)
    n = 20_000
    close_to_one = 1 + rng.uniform(-1, 1, n) * 10.0 ** rng.uniform(-7, 0, n)
    return [
        (all_exponents(dtype), rng.permutation(all_exponents(dtype))),
        (rng.uniform(0, 4, n).astype(dtype), rng.uniform(-60, 60, n).astype(dtype)),
        (close_to_one.astype(dtype), (rng.choice([-1, 1], n) * 10.0 ** rng.uniform(0, 7, n)).astype(dtype)),
        (rng.uniform(-10, 10, n).astype(dtype), np.rint(rng.uniform(-30, 30, n)).astype(dtype)),
    ]


BINARY = [
    ("pow", np.power, 0.51, 1.3),
    ("float_power", np.power, 0.51, 1.3),
    ("atan2", np.arctan2, 0.51, 2.5),
    ("hypot", np.hypot, 0.51, 1.2),
    ("logaddexp", np.logaddexp, None, None),  # relative errors are unbounded near a result of 0
    ("logaddexp2", np.logaddexp2, None, None),
    ("xlogy", scipy.special.xlogy, 2.0, 2.5),
    ("xlog1py", scipy.special.xlog1py, 2.0, 2.5),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "reference", "bound32", "bound64"), BINARY, ids=[row[0] for row in BINARY])
def test_binary_error_in_ulps(name, reference, bound32, bound64, dtype):
    wide = np.float64 if reference in (scipy.special.xlogy, scipy.special.xlog1py) else WIDE
    for x, y in _pairs(dtype):
        got, want = apply(name, x, y), quiet(reference, x.astype(wide), y.astype(wide)).astype(WIDE)
        if bound32 is None:
            np.testing.assert_allclose(
                got, want.astype(dtype), rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps
            )
            continue
        error = ulps(got, want)
        worst = np.argmax(error)
        bound = (bound32 if dtype is np.float32 else bound64) + REFERENCE_ULP
        assert error[worst] <= bound, (
            f"{name}({x[worst]!r}, {y[worst]!r}) = {got[worst]!r}, want {want[worst]!r}"
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "reference"), [("sin", np.sin), ("cos", np.cos), ("tan", np.tan)])
def test_huge_arguments_among_moderate_ones(name, reference, dtype):
    x = between(-10, 10, dtype, 1000)
    x[::37] = np.ldexp(x[::37], 40 if dtype is np.float32 else 300)
    error = ulps(apply(name, x), reference(x.astype(WIDE)))
    assert error.max() <= 2.5 + REFERENCE_ULP


def test_vocabulary_is_complete():
    assert [name for name in FUNCTIONS if name not in INFIX and not hasattr(scalar, name)] == []
    assert [name for name in scalar.__all__ if not hasattr(scalar, name)] == []


@pytest.mark.parametrize(
    ("operands", "result"),
    [
        ((np.float32,), np.float32),
        ((np.float64,), np.float64),
        ((np.int32,), np.float64),
        ((np.float32, np.int64), np.float32),
        ((np.float32, np.float64), np.float64),
    ],
)
def test_result_type(operands, result):
    function, pow = scalar.exp, scalar.pow

    @numba.njit
    def unary(x):
        return function(x)

    @numba.njit
    def binary(x, y):
        return pow(x, y)

    compiled = unary if len(operands) == 1 else binary
    compiled(*[kind(2) for kind in operands])
    assert compiled.nopython_signatures[0].return_type == numba.from_dtype(np.dtype(result))


VECTORISED = [name for name, *_ in UNARY] + ["erf", "erfc", "erfinv"]


@pytest.mark.parametrize("name", VECTORISED)
@pytest.mark.parametrize("dtype", FLOATS)
def test_loops_vectorise(name, dtype):
    x = np.full(3, 0.5, dtype)
    apply(name, x)
    array = numba.typeof(x)
    rows = numba.typeof(x[None])
    text = loop((name,), 1).inspect_llvm((rows, array))
    operation = (
        r"(@llvm\.fma\.v\d+f|fmul .*<\d+ x (float|double)>|fdiv .*<\d+ x (float|double)>|@llvm\.sqrt\.v)"
    )
    assert re.search(operation, text), f"no vector arithmetic in a loop over {name}"


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_kernels_vectorise_what_may_call_the_library(name, dtype, monkeypatch):
    """The pipeline of kernels, which is not Numba's, keeps the vector variants of `library_beyond`."""
    function, view, size = getattr(scalar, name), VIEWS[dtype], np.dtype(dtype).itemsize

    def kernel(args, lo, hi, task):
        n = hi - lo
        x = view(load_int64(args, 0) + size * lo, n)
        out = view(load_int64(args, 1) + size * lo, n)
        for i in range(n):
            out[i] = function(x[i])

    texts, finalize = [], compiler._KernelLibrary.finalize

    def recording(library):
        finalize(library)
        texts.append(str(library._final_module))

    monkeypatch.setattr(compiler._KernelLibrary, "finalize", recording)
    with global_compiler_lock:
        compiler._compile(kernel, compiler.FASTMATH, compiler.KERNEL)
    assert re.search(rf"call <\d+ x \w+> @nbdl_{name}_beyond_f\d+_v\d+", texts[0])
