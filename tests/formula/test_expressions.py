"""Expressions: one object per value, and simplifications that are exact for every float."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest

import nbdl
from nbdl import formula as f
from nbdl.formula import Formula, const, var
from nbdl.formula.expr import is_const, substitute, topological, variables
from nbdl.ops.pointwise import Pointwise

x, y = var("x0"), var("x1")
AWKWARD = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1e308, -1e308]


def value(definition, *operands):
    """A formula on scalars."""
    formula = Formula("test", definition, len(operands))
    with nbdl.use_backend("numpy"):
        return Pointwise.of(formula)(*[nbdl.tensor(operand, dtype="float64") for operand in operands]).numpy()


# ----------------------------------------------------------------------------------------------- hash-consing
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (x + y, y + x),
        (x * y, y * x),
        (f.exp(x) - y, f.exp(x) - y),
        (const(1.5), const(1.5)),
        (const(math.nan), const(math.nan)),
        (f.logical_and(x, y), f.logical_and(y, x)),
        (x**2, f.square(x)),
        (x**-1, f.reciprocal(x)),
        (f.negative(-x), x),
        (x * 1, x),
        (1 * x, x),
        (x / 1, x),
        (x * -1, -x),
        (x + (-y), x - y),
        (x - (-y), x + y),
        (2 * (3 * x), 6 * x),
        (f.where(True, x, y), x),
        (f.where(x, y, y), y),
        (const(2) + 3, const(5)),
        (f.exp(const(0.0)), const(1.0)),
    ],
)
def test_equal_expressions_are_one_object(a, b):
    assert a is b


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (const(0.0), const(-0.0)),
        (const(1), const(1.0)),
        (const(True), const(1)),
        (x - y, y - x),
        (x / y, y / x),
        (f.maximum(x, y), f.maximum(y, x)),
    ],
)
def test_different_expressions_are_different(a, b):
    assert a is not b


@pytest.mark.parametrize("expression", [x - x, 0 * x, x * 0, x / x, x + 0, 0 + x, x - 0, 0 - x, x**0])
def test_what_is_not_exact_for_every_float_is_not_folded(expression):
    assert variables([expression]) == [x]


def test_expressions_are_freed():
    gc.collect()
    from nbdl.formula.expr import _interned

    before = len(_interned)
    made = f.exp(var("unheard_of")) + 12345.678
    assert len(_interned) > before
    del made
    assert len(_interned) == before


UNARY = [
    lambda a: a - a, lambda a: 0 * a, lambda a: a + 0.0, lambda a: a + -0.0, lambda a: a - 0.0,
    lambda a: 0.0 - a, lambda a: -(0 - a),
    lambda a: a * 1, lambda a: a * -1, lambda a: a / 1, lambda a: a / -1.0, lambda a: a**2, lambda a: a**-1,
    lambda a: a**0, lambda a: 2 * (3 * a), lambda a: (a * 1e300) * 1e-300, lambda a: -a + 0.0,
    lambda a: 1 / (1 / a), lambda a: a**1,
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(UNARY)))
def test_simplified_code_equals_plain_arithmetic(k):
    """Traced and simplified, against Python doing the same on NumPy scalars, signs of zeros included."""
    with np.errstate(all="ignore"):
        for a in AWKWARD:
            expected, found = np.asarray(UNARY[k](np.float64(a))), value(UNARY[k], a)
            np.testing.assert_array_equal(found, expected)
            if not np.isnan(expected):
                assert np.signbit(found) == np.signbit(expected), (a, found, expected)


BINARY = [
    lambda a, b: a + (-b), lambda a, b: -b + a, lambda a, b: a - (-b), lambda a, b: -(a - b), lambda a,
    b: (-a) - b,
    lambda a, b: a * (2 * b), lambda a, b: -a * -b,
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(BINARY)))
def test_simplified_binary_code_equals_plain_arithmetic(k):
    with np.errstate(all="ignore"):
        for a, b in itertools.product(AWKWARD, repeat=2):
            expected, found = np.asarray(BINARY[k](np.float64(a), np.float64(b))), value(BINARY[k], a, b)
            np.testing.assert_array_equal(found, expected)
            if not np.isnan(expected):
                assert np.signbit(found) == np.signbit(expected), (a, b, found, expected)


# -------------------------------------------------------------------------------------------------- traversal
def test_topological_order_is_iterative():
    node = x
    for k in range(20_000):
        node = node * y + k
    order = topological([node])
    position = {node: k for k, node in enumerate(order)}
    assert all(position[arg] < position[node] for node in order for arg in node.args)


def test_substitute_replaces_and_simplifies():
    (result,) = substitute([f.exp(x) * y + f.exp(x)], {f.exp(x): const(1)})
    assert result is y + 1


def test_is_const():
    assert is_const(const(0.0), 0)
    assert not is_const(const(-0.0), 0)
    assert not is_const(x, 0)


# ----------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Formula("f", lambda a: a if a > 0 else -a, 1), "use where"),
        (lambda: Formula("f", lambda a: 0 < a < 1, 1), "use where"),
        (lambda: f.exp(x, y), "exp takes 1 operands in a formula, got 2"),
        (lambda: x + "y", "expected an expression or a Python number, got str"),
        (lambda: x * [1], "got list"),
    ],
)
def test_errors(build, message):
    with pytest.raises(TypeError, match=message):
        build()


def test_unknown_function():
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        f.frobnicate(x)


def test_numpy_scalars_are_numbers():
    assert x * np.float64(2) is x * 2.0


def test_text():
    assert repr(x / (1 + f.exp(-x))) == "x0 / (1 + exp(-x0))"
    assert repr(x - (y - x)) == "x0 - (x1 - x0)"
    assert repr((x + y) / (x - y)) == "(x0 + x1) / (x0 - x1)"
    assert repr(-(x + y)) == "-(x0 + x1)"
    assert repr(f.where(x > 0, y, 0)) == "where(x0 > 0, x1, 0)"
