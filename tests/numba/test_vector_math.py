"""The elementary functions of the Numba backend, inside a loop that is compiled with fast-math on."""

from __future__ import annotations

import functools
import re
import warnings

import numba
import numpy as np
import pytest
import scipy.special
from numba.core.compiler_lock import global_compiler_lock

from nbdl.backend.numba import compiler
from nbdl.formula.functions import FUNCTIONS
from nbdl.formula.printers import INFIX
from nbdl.kernels.cpu import math as scalar
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64

FAST_MATH = {"nsz", "arcp", "contract", "reassoc"}
FLOATS = (np.float32, np.float64)
VIEWS = {np.float32: float32_at, np.float64: float64_at}
WIDE = np.longdouble  # 64 bits of fraction on x86; elsewhere at least a float64, which costs an ulp or so
REFERENCE_ULP = 0.0 if np.finfo(WIDE).nmant > 60 else 1.5


@functools.cache
def loop(names: tuple[str, ...], arity: int):
    """A compiled ``loop(out, x0, x1, ...)`` that stores function k of every element in ``out[k]``."""
    operands = [f"x{k}" for k in range(arity)]
    lines = [f"def loop(out, {', '.join(operands)}):", " for i in range(x0.size):"]
    lines += [
        f"  out[{k}, i] = {name}({', '.join(f'{x}[i]' for x in operands)})" for k, name in enumerate(names)
    ]
    namespace = {name: getattr(scalar, name) for name in names}
    exec("\n".join(lines), namespace)
    return numba.njit(error_model="numpy", fastmath=FAST_MATH)(namespace["loop"])


def apply_all(names: tuple[str, ...], *operands: np.ndarray, dtype=None) -> np.ndarray:
    """One row a function; truth values become numbers of ``dtype``, which is that of the first operand."""
    operands = tuple(np.ascontiguousarray(x) for x in operands)
    out = np.empty((len(names), operands[0].size), dtype or operands[0].dtype)
    loop(names, len(operands))(out, *operands)
    return out


def apply(name: str, *operands: np.ndarray, dtype=None) -> np.ndarray:
    return apply_all((name,), *operands, dtype=dtype)[0]


def quiet(function, *operands):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*operands)


@np.errstate(all="ignore")
def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distances in units of the last place of ``got``'s dtype; infinite where only one is NaN."""
    rounded = want.astype(got.dtype)
    spacing = np.spacing(np.minimum(np.abs(rounded), np.finfo(got.dtype).max)).astype(WIDE)
    distance = np.abs(got.astype(WIDE) - want) / spacing
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    distance[same & ~np.isfinite(distance)] = 0
    distance[np.isnan(distance)] = np.inf
    return distance


def all_exponents(dtype, count: int = 40_000) -> np.ndarray:
    """Random bit patterns (every exponent, both signs, subnormals, NaN) and the special numbers."""
    bits = np.random.default_rng(0).integers(0, 256, count * np.dtype(dtype).itemsize, dtype=np.uint8)
    numbers = np.concatenate([bits.view(dtype), special_numbers(dtype)])
    numbers[np.isnan(numbers)] = np.nan  # quiet ones only
    return numbers


def special_numbers(dtype) -> np.ndarray:
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.0, info.max, np.inf]
    return np.array([np.nan, *positive, *(-np.array(positive))], dtype)


def between(low, high, dtype, count=30_000, seed=1):
    return np.random.default_rng(seed).uniform(low, high, count).astype(dtype)


# ----------------------------------------------------------------------------------------------------------
# -- accuracy
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


# ------------------------------------------------------------------------------------------------------
# special values
def same(got: np.ndarray, want: np.ndarray, *, signed_zeros: bool = True) -> np.ndarray:
    equal = (got == want) | (np.isnan(got) & np.isnan(want)) if got.dtype.kind == "f" else got == want
    if signed_zeros and got.dtype.kind == "f":
        equal &= (np.signbit(got) == np.signbit(want)) | np.isnan(got)
    return equal


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "reference"), [("pow", np.power), ("atan2", np.arctan2), ("hypot", np.hypot)]
)
def test_special_operands(name, reference, dtype):
    x, y = (a.ravel() for a in np.meshgrid(special_numbers(dtype), special_numbers(dtype)))
    got, want = apply(name, x, y), quiet(reference, x, y)
    close = quiet(lambda: np.abs(got - want) <= 4 * np.finfo(dtype).eps * np.abs(want))
    close &= np.signbit(got) == np.signbit(want)
    wrong = ~(same(got, want) | close)
    assert not wrong.any(), list(zip(x[wrong], y[wrong], got[wrong], want[wrong], strict=True))[:5]


def test_tail_of_erfc():
    x = np.array([0.45, 0.47, 0.5, 0.75, 1.0, 1.7, 2.5, 3.3, 4.5, 6.0, 10.0, 15.3, 17.33, 20.0, 26.5, 27.2])
    want = np.array(
        [
            0.5245182802130763,
            0.5062549491139179,
            0.4795001221869535,
            0.28884436634648486,
            0.15729920705028513,
            0.01620954140922544,
            0.0004069520174449589,
            3.0577097964381654e-06,
            1.9661604415428876e-10,
            2.1519736712498913e-17,
            2.088487583762545e-45,
            7.9765601254207e-104,
            1.2042660089086974e-132,
            5.395865611607901e-176,
            2.2109076642637343e-307,
            1e-323,
        ]
    )  # mpmath
    assert ulps(apply("erfc", x), want.astype(WIDE)).max() <= 4


def test_special_values_of_the_gamma_family():
    x = np.array([np.nan, np.inf, 0.0, -0.0, 1.0, -1.0, -2.0])
    np.testing.assert_allclose(apply("digamma", x), quiet(scipy.special.digamma, x), rtol=1e-15)
    np.testing.assert_array_equal(apply("lgamma", x), quiet(scipy.special.gammaln, x))
    np.testing.assert_array_equal(apply("erfinv", x), quiet(scipy.special.erfinv, x))
    np.testing.assert_array_equal(
        apply("trigamma", np.array([0.0, -1.0, np.inf, np.nan])), [np.inf, np.inf, 0, np.nan]
    )


def test_polygamma_on_both_sides_of_zero():
    n = np.array([1, 2, 3, 2, 1, 5], np.float64)
    x = np.array([0.5, 0.5, 2.25, -1.5, -0.25, 30.0])
    want = [  # mpmath.psi(n, x)
        4.934802200544679,
        -16.82879664423432,
        0.32454400918839604,
        -0.2362040516417274,
        18.541879647671607,
        1.0726994936161623e-06,
    ]
    np.testing.assert_allclose(apply("polygamma", n, x), want, rtol=1e-13)


def test_sinc_slope_is_the_derivative():
    x = np.array([-2.5, -1e-3, 0.0, 0.25, 1.0, 3.75])
    h = 1e-5
    for order in range(4):
        n = np.full_like(x, order)
        slope = (apply("sinc_slope", x + h, n) - apply("sinc_slope", x - h, n)) / (2 * h)
        np.testing.assert_allclose(apply("sinc_slope", x, n + 1), slope, rtol=1e-6, atol=1e-5)


FLOAT_EXACT = [
    ("reciprocal", np.reciprocal), ("sqrt", np.sqrt), ("fabs", np.fabs), ("negative", np.negative),
    ("square", np.square),
    ("abs", np.abs), ("sign", np.sign), ("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc),
    ("rint", np.rint),
    ("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite), ("signbit", np.signbit),
    ("logical_not", np.logical_not), ("deg2rad", np.deg2rad),
]  # fmt: skip
FLOAT_PAIRS = [
    ("copysign", np.copysign), ("heaviside", np.heaviside), ("nextafter", np.nextafter), ("fmod", np.fmod),
    ("remainder", np.remainder), ("floor_divide", np.floor_divide), ("logical_and", np.logical_and),
    ("logical_or", np.logical_or), ("logical_xor", np.logical_xor),
]  # fmt: skip
EXTREMA = [("maximum", np.maximum), ("minimum", np.minimum), ("fmax", np.fmax), ("fmin", np.fmin)]
INTEGER_PAIRS = [
    ("remainder", np.remainder), ("fmod", np.fmod), ("floor_divide", np.floor_divide),
    ("left_shift", np.left_shift),
    ("right_shift", np.right_shift), ("bitwise_and", np.bitwise_and), ("bitwise_or", np.bitwise_or),
    ("bitwise_xor", np.bitwise_xor), ("maximum", np.maximum), ("minimum", np.minimum),
]  # fmt: skip


def check_exactly(table, *operands: np.ndarray, signed_zeros: bool = True):
    rows = apply_all(tuple(name for name, _ in table), *operands)
    for (name, function), got in zip(table, rows, strict=True):
        wrong = ~same(got, quiet(function, *operands).astype(got.dtype), signed_zeros=signed_zeros)
        assert not wrong.any(), (name, [x[wrong][:5] for x in operands], got[wrong][:5])


@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_float_functions(dtype):
    check_exactly(FLOAT_EXACT, all_exponents(dtype, 500))
    x, y = (a.ravel() for a in np.meshgrid(special_numbers(dtype), special_numbers(dtype)))
    check_exactly(FLOAT_PAIRS, x, y)
    check_exactly(EXTREMA, x, y, signed_zeros=False)


def test_choices_and_replacements():
    x = special_numbers(np.float32)
    high = np.full_like(x, 2)
    np.testing.assert_array_equal(apply("clip", x, -high, high), np.clip(x, -2, 2))
    np.testing.assert_array_equal(apply("relu", x), np.maximum(x, 0))
    np.testing.assert_array_equal(apply("where", x > 1, x, high, dtype=x.dtype), np.where(x > 1, x, high))
    np.testing.assert_array_equal(
        apply("nan_to_num", x, 0 * high, high, -high), np.nan_to_num(x, nan=0.0, posinf=2.0, neginf=-2.0)
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint32])
def test_integers_wrap_and_survive_division_by_zero(dtype):
    info = np.iinfo(dtype)
    numbers = np.array([info.min, info.min + 1, 0, 1, 2, 3, 7, info.max - 1, info.max], dtype)
    if info.min < 0:
        numbers = np.concatenate([numbers, np.array([-1, -2, -7], dtype)])
    unary = [("square", np.square), ("abs", np.abs), ("bitwise_not", np.invert), ("sign", np.sign)]
    check_exactly(unary, numbers)
    x, y = (a.ravel() for a in np.meshgrid(numbers, numbers))
    check_exactly(INTEGER_PAIRS, x, y)
    small = np.abs(y) % 9
    np.testing.assert_array_equal(apply("pow", x, small.astype(dtype)), np.power(x, small.astype(dtype)))


def test_negative_integer_powers_truncate():
    x = np.array([2, 1, -1, -1, 0, -3])
    np.testing.assert_array_equal(apply("pow", x, np.array([-1, -5, -2, -3, -1, -2])), [0, 1, 1, -1, 0, 0])


# ---------------------------------------------------------------------------------------------------------
# compilation
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
