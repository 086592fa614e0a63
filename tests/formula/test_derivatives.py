"""Symbolic derivatives of the whole vocabulary against finite differences, and what they reuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
from nbdl import formula as f
from nbdl.formula import FUNCTIONS, Formula, const, var
from nbdl.formula.derivative import partial
from nbdl.ops.pointwise import Pointwise

# Where each function is smooth; the default suits the rest.
DEFAULT = (-1.7, 1.7)
POSITIVE = (0.4, 2.2)
DOMAIN = {
    "log": POSITIVE, "log2": POSITIVE, "log10": POSITIVE, "log1p": POSITIVE, "sqrt": POSITIVE,
    "rsqrt": POSITIVE, "cbrt": POSITIVE, "reciprocal": POSITIVE, "lgamma": POSITIVE, "digamma": POSITIVE,
    "pow": POSITIVE, "float_power": POSITIVE, "divide": POSITIVE,
    "asin": (-0.8, 0.8), "acos": (-0.8, 0.8), "atanh": (-0.8, 0.8), "erfinv": (-0.8, 0.8),
    "acosh": (1.2, 3.0), "logit": (0.1, 0.9), "polygamma": (1.0, 4.0), "xlogy": POSITIVE, "xlog1py": POSITIVE,
    "fmod": (0.6, 2.4), "remainder": (0.6, 2.4), "floor_divide": (0.6, 2.4),
}  # fmt: skip
# Operands that are literals.
LITERALS = {("polygamma", 0): 1, ("sinc_slope", 1): 1}
# Truth values and bits have no derivative, nextafter has none by convention; the others are composed below.
SMOOTH = [
    name
    for name, function in FUNCTIONS.items()
    if function.kind in ("same", "float") and name not in ("clip", "nan_to_num", "where", "nextafter")
]


def points(name, count):
    """Random operands, an irrational distance from kinks and ties."""
    low, high = DOMAIN.get(name, DEFAULT)
    generator = np.random.default_rng(sum(map(ord, name)))
    return [generator.uniform(low, high, 40) for _ in range(count)]


def compute(root, operands):
    formula = Formula.of("test", (root,), len(operands))
    with nbdl.use_backend("numpy"):
        return Pointwise.of(formula)(*map(nbdl.from_numpy, operands)).numpy().astype(np.float64)


def applied(name):
    function = FUNCTIONS[name]
    args, free = [], []
    for k in range(function.arity):
        if (name, k) in LITERALS:
            args.append(const(LITERALS[name, k]))
        else:
            args.append(var(f"x{len(free)}"))
            free.append(args[-1])
    return function(*args), free


def difference(root, operands, k):
    """Central differences with one Richardson step."""

    def central(h):
        above, below = list(operands), list(operands)
        above[k], below[k] = operands[k] + h, operands[k] - h
        return (compute(root, above) - compute(root, below)) / (2 * h)

    return (4 * central(1e-4) - central(2e-4)) / 3


def is_near_a_jump(root, operands, k):
    values = [compute(root, [op + h * (j == k) for j, op in enumerate(operands)]) for h in (-3e-4, 0, 3e-4)]
    return np.abs(values[2] - values[0]) > 1e-2 * (1 + np.abs(values[1]))


@pytest.mark.parametrize("name", SMOOTH)
def test_first_and_second_derivatives(name):
    root, free = applied(name)
    operands = points(name, len(free))
    for k, x in enumerate(free):
        first = partial(root, x)
        slope = np.zeros(40) if first is None else compute(first, operands)
        jump = is_near_a_jump(root, operands, k)
        assert jump.mean() < 0.2
        np.testing.assert_allclose(slope[~jump], difference(root, operands, k)[~jump], rtol=1e-7, atol=1e-7)
        for j, z in enumerate(free if first is not None else ()):
            second = partial(first, z)
            curvature = np.zeros(40) if second is None else compute(second, operands)
            jump = is_near_a_jump(first, operands, j)
            assert jump.mean() < 0.2
            np.testing.assert_allclose(
                curvature[~jump], difference(first, operands, j)[~jump], rtol=1e-6, atol=1e-6
            )


x, y, z = (var(f"x{k}") for k in range(3))

COMPOSED = [
    x / (1 + f.exp(-x)),
    f.where(x > 0.3, f.sin(x) * y, x * x),
    f.tanh(x * y) + f.exp(-f.square(x)) / (2 + f.cos(y)),
    f.clip(x, -0.5, 0.7) * y,
    f.nan_to_num(x, 0.0, 1.0, -1.0) * x,
    f.maximum(x, y) * f.minimum(x, 2 * y),
    f.where(x > y, x, y) - f.logaddexp(x, y),
]


@pytest.mark.parametrize("root", COMPOSED, ids=repr)
def test_compositions_to_third_order(root):
    operands = points(repr(root), 2)
    for order in range(3):
        slope = partial(root, x)
        found = np.zeros(40) if slope is None else compute(slope, operands)
        np.testing.assert_allclose(
            found, difference(root, operands, 0), rtol=1e-6, atol=1e-6, err_msg=f"order {order + 1}"
        )
        if slope is None:
            return
        root = slope


# ----------------------------------------------------------------------------------- the output is used again
@pytest.mark.parametrize(
    ("name", "reads_input"),
    [("exp", False), ("tanh", False), ("expit", False), ("sqrt", False), ("reciprocal", False),
     ("exp2", False), ("expm1", False),
     ("tan", False), ("erfinv", False), ("rsqrt", True), ("sin", True), ("log", True)],
)  # fmt: skip
def test_derivatives_contain_the_output(name, reads_input):
    rule = Formula(name, FUNCTIONS[name], 1).vjp(1)
    assert rule.saves_output == (name not in ("sin", "log"))
    assert bool(rule.saved_inputs) == reads_input


def test_outputs_are_found_inside_compositions():
    rule = Formula("affine_tanh", lambda x, w, b: f.tanh(w * x + b), 3).vjp(0b111)
    assert rule.saves_output
    assert rule.saved_inputs == {0, 1}
    (term,) = [rule.terms[2]]
    assert sorted(source.kind for source in term.sources) == ["g", "y"]


def test_linear_rules_save_nothing():
    rule = Formula("f", lambda x, y: 3 * x - y, 2).vjp(0b11)
    assert not rule.saved_inputs
    assert not rule.saves_output


def test_only_what_is_needed_is_computed():
    formula = Formula("product", lambda x, y: x * y, 2)
    assert formula.vjp(0b01).terms[1] is None
    assert formula.vjp(0b01).saved_inputs == {1}
    assert formula.vjp(0b10).saved_inputs == {0}


def test_a_slope_of_zero_is_none():
    assert partial(f.floor(x) + y, x) is None
    assert Formula("f", lambda x: f.sign(x), 1).vjp(1).terms == (None,)


def test_several_outputs():
    formula = Formula("f", lambda a, b: (a * b, f.sin(a)), 2)
    assert formula.vjp(0b11, given=0b10).terms[1] is None
    both = formula.vjp(0b11, given=0b11)
    assert {source.kind for source in both.terms[0].sources} == {"g", "x"}
    tangents = formula.jvp(0b10).terms
    assert tangents[1] is None


# ------------------------------------------------------------------ infinities stay in the branch they are in
@pytest.mark.parametrize(
    ("root", "at", "slope"),
    [
        (f.where(x > 0, f.sqrt(x), 0), 0.0, 0.0),
        (f.where(x > 0, f.log(x), x), 0.0, 1.0),
        (f.where(x > 0, x, f.exp(-x)), 800.0, 1.0),
        (f.relu(x) * math.inf, -1.0, 0.0),
        (f.abs(x), 0.0, 0.0),
        (x**2, 0.0, 0.0),
        (x**3, 0.0, 0.0),
        (f.xlogy(x, 0.0), 0.0, 0.0),
        (f.sinc(x), 0.0, 0.0),
        (f.softplus(x), 1000.0, 1.0),
        (f.softplus(x), -1000.0, 0.0),
        (f.tanh(x), 1000.0, 0.0),
        (f.logaddexp(x, x), 1000.0, 1.0),
    ],
    ids=repr,
)
def test_slopes_at_the_edge(root, at, slope):
    first = partial(root, x)
    assert compute(first, [np.array([at])]).item() == pytest.approx(slope, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "operands", "slopes"),
    [
        ("maximum", (1.0, 1.0), (0.5, 0.5)),
        ("minimum", (1.0, 1.0), (0.5, 0.5)),
        ("pow", (0.0, 0.0), (0.0, 0.0)),
        ("pow", (0.0, 2.0), (0.0, 0.0)),
        ("pow", (0.0, 1.0), (1.0, 0.0)),
        ("relu", (0.0,), (0.0,)),
        ("abs", (-0.0,), (0.0,)),
        ("clip", (1.0, 1.0, 2.0), (1.0, 0.0, 0.0)),
        ("clip", (2.0, 1.0, 2.0), (1.0, 0.0, 0.0)),
        ("clip", (5.0, 3.0, 2.0), (0.0, 0.0, 1.0)),
    ],
)
def test_slopes_at_kinks_are_pytorchs(name, operands, slopes):
    free = [var(f"x{k}") for k in range(len(operands))]
    root = FUNCTIONS[name](*free)
    at = [np.array([value]) for value in operands]
    found = [0.0 if (p := partial(root, v)) is None else compute(p, at).item() for v in free]
    assert tuple(found) == slopes
