"""The elementary functions of the Numba backend at special values, and those that are exact."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from math_checks import FLOATS, WIDE, all_exponents, apply, apply_all, quiet, special_numbers, ulps


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
