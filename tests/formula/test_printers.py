"""All printers mean the same: random expressions through NumPy and Numba code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nbdl
from nbdl.backend.numpy.elementwise import numpy_source
from nbdl.formula import FUNCTIONS, Formula, const, var
from nbdl.formula.expr import Expr
from nbdl.ops.pointwise import Pointwise

# Total functions, so that any composition has a value; polygamma and the like take literals.
UNARY = [
    "negative", "abs", "sign", "square", "relu", "exp", "expm1", "sin", "cos", "tanh", "atan", "asinh",
    "sqrt", "log1p", "erf", "expit", "floor", "ceil", "rint", "trunc", "softplus",
]  # fmt: skip
BINARY = [
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "fmax", "fmin", "atan2", "hypot",
    "copysign", "less", "greater_equal", "equal", "logical_or",
]  # fmt: skip


def expressions() -> st.SearchStrategy[Expr]:
    """Expressions of x0 and x1 with shared subexpressions."""
    leaves = st.sampled_from([var("x0"), var("x1"), const(2), const(-0.5), const(0.0)])

    def grown(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        return st.one_of(
            st.builds(lambda name, a: FUNCTIONS[name](a), st.sampled_from(UNARY), inner),
            st.builds(lambda name, a, b: FUNCTIONS[name](a, b), st.sampled_from(BINARY), inner, inner),
            st.builds(lambda a, b, c: FUNCTIONS["where"](a > b, b, c * b), inner, inner, inner),
        )

    return st.recursive(leaves, grown, max_leaves=8)


def operands(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 3.25, -2.75, np.inf, -np.inf, np.nan, 1e-3, 40.0]
    a, b = np.meshgrid(special, special)
    return a.astype(dtype), b.astype(dtype)


def run(backend: str, formula: Formula, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    with nbdl.use_backend(backend):
        return Pointwise.of(formula)(*map(nbdl.from_numpy, arrays)).numpy()


@pytest.mark.skipif("numba" not in nbdl.available_backends(), reason="numba is not installed")
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(root=expressions())
def test_numba_code_means_what_numpy_code_means(root):
    formula = Formula.of("random", (root,), 2)
    arrays = operands("float64")
    expected, found = run("numpy", formula, arrays), run("numba", formula, arrays)
    assert expected.dtype == found.dtype
    # Rounding may differ by an ulp in a function and grow; jumps (floor, comparisons) may then fall on the
    # other side.
    close = np.isclose(found.astype(float), expected.astype(float), rtol=1e-9, atol=1e-9, equal_nan=True)
    assert close.mean() > 0.95, f"{root}\n{found[~close]}\n{expected[~close]}"
    smooth = not any(
        function.name in ("floor", "ceil", "rint", "trunc") or function.kind in ("bool", "logic")
        for function in formula.functions
    )
    if smooth and "sign" not in {function.name for function in formula.functions}:
        assert close.all(), f"{root}\n{found[~close]}\n{expected[~close]}"


def test_numpy_code_can_be_read():
    formula = Formula("silu", lambda x: x / (1 + FUNCTIONS["exp"](-x)), 1)
    assert numpy_source(formula) == (
        "def formula(x0, dtype):\n"
        "    t0 = f.negative(x0)\n"
        "    t1 = f.exp(t0)\n"
        "    t2 = f.add(1, t1)\n"
        "    t3 = f.divide(x0, t2)\n"
        "    return (t3,)\n"
    )


def test_shared_subexpressions_are_computed_once():
    formula = Formula("f", lambda x: FUNCTIONS["exp"](x) * FUNCTIONS["exp"](x) + FUNCTIONS["exp"](x), 1)
    assert numpy_source(formula).count("f.exp") == 1


@pytest.mark.parametrize("name", ["f", "exp", "x0", "dtype", "for", "two words", "1st"])
def test_any_name_will_do(name, backend):
    assert Pointwise.of(Formula(name, lambda x: FUNCTIONS["exp"](x) * 0 + x, 1))(nbdl.ones(2)).tolist() == [
        1.0,
        1.0,
    ]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), -0.0, 1e-320, True])
def test_awkward_literals(value, backend):
    formula = Formula("f", lambda x: FUNCTIONS["where"](x > 0, const(value), x), 1)
    (found,) = Pointwise.of(formula)(nbdl.ones(1, dtype="float64")).numpy()
    np.testing.assert_array_equal(found, np.float64(value))
    assert np.signbit(found) == np.signbit(np.float64(value))


def test_constant_formulas_broadcast(backend):
    formula = Formula("seven", lambda x: 7, 1)
    assert Pointwise.of(formula)(nbdl.zeros(2, 3)).tolist() == [[7.0] * 3] * 2


def test_several_outputs(backend):
    formula = Formula("both", lambda x, y: (x + y, x > y, x * 2), 2)
    a, b, c = Pointwise.of(formula)(nbdl.tensor([1.0, 2.0]), nbdl.tensor([[1.5]]))
    assert (a.tolist(), b.tolist(), c.tolist()) == ([[2.5, 3.5]], [[False, True]], [[2.0, 4.0]])
