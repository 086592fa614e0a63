"""Pointwise formulas on the GPU backend: what NumPy gives, for all functions, dtypes, shapes and strides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gpu.samples import SPECIAL, assert_close, assert_same, layouts, on_device

from nbdl.backend import registry
from nbdl.backend.cupy import launch, placing
from nbdl.formula import FUNCTIONS, Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.copying import Cast
from nbdl.ops.pointwise import Pointwise

pytestmark = pytest.mark.usefixtures("gpu")

# An operand of these is an order: a small integer in the formula itself.
ORDERS = {
    "polygamma": lambda g, x: (g(0, x), g(1, x), g(3, x)),
    "sinc_slope": lambda g, x: (g(x, 1), g(x, 2), g(x, 5)),
}
# SciPy and the C library differ there: digamma at 0 and -inf, gammaln(-inf), polygamma below 0.
POSITIVE_ONLY = {"polygamma", "digamma", "lgamma"}
INTEGER_FUNCTIONS = [
    "abs", "negative", "sign", "square", "relu", "floor", "add", "subtract", "multiply", "pow", "fmod",
    "remainder", "floor_divide", "maximum", "minimum", "fmax", "fmin", "clip", "isnan", "isinf", "isfinite",
    "less", "equal", "logical_and", "logical_xor", "logical_not", "bitwise_and", "bitwise_or",
    "bitwise_xor", "bitwise_not", "left_shift", "right_shift",
]  # fmt: skip
FUSED = Formula(
    "fused", lambda x, y, s: (f.where(x > y, x * s + 1, f.tanh(y)), f.logical_and(x < y, x > 0)), 3
)


def together(names: list[str], arity: int) -> Formula:
    """One formula with the results of many functions, so that they are one kernel."""
    return Formula(
        "together", lambda *x: tuple(FUNCTIONS[name](*x[: FUNCTIONS[name].arity]) for name in names), arity
    )


def names_of(arity: int) -> list[str]:
    return sorted(
        name
        for name, function in FUNCTIONS.items()
        if function.arity == arity and function.kind != "bits" and name not in ORDERS
    )


def compare(names: list[str], operands: list[np.ndarray], scale: float = 1.0) -> None:
    primitive = Pointwise.of(together(names, len(operands)), 0)
    expected = registry.load("numpy").execute(primitive, operands)
    got = registry.load("cupy").execute(primitive, [on_device(x) for x in operands])
    for name, a, b in zip(names, *([x] if len(names) == 1 else x for x in (got, expected)), strict=True):
        assert_close(a, b, name, scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestFunctions:
    def test_unary(self, dtype):
        names = [name for name in names_of(1) if name not in POSITIVE_ONLY]
        values = np.concatenate([SPECIAL, np.linspace(-3, 3, 45)]).astype(dtype)
        compare(names, [values], scale=4)

    def test_gamma(self, dtype):
        compare(["lgamma", "digamma"], [np.linspace(0.05, 30, 60).astype(dtype)], scale=10)

    def test_digamma_of_negative_numbers(self, dtype):
        compare(["digamma"], [np.array([-0.5, -1.25, -7.7, -1.0, -2.0, np.nan, np.inf], dtype)], scale=10)

    def test_binary(self, dtype):
        values = np.array(SPECIAL, dtype)
        pairs = [np.repeat(values, len(values)), np.tile(values, len(values))]
        compare(names_of(2), pairs, scale=10)

    def test_choice_and_clip(self, dtype):
        random = np.random.default_rng(0)
        x, low, high = (random.choice(np.array(SPECIAL, dtype), 60) for _ in range(3))
        compare(["where", "clip"], [x, low, high])

    def test_replacing_what_is_not_finite(self, dtype):
        formula = Formula("finite", lambda x: f.nan_to_num(x, 1.5, 2.5, -3.5), 1)
        assert_same(Pointwise.of(formula, 0), np.array(SPECIAL, dtype))

    @pytest.mark.parametrize("name", sorted(ORDERS))
    def test_orders(self, name, dtype):
        formula = Formula(name, lambda x: ORDERS[name](FUNCTIONS[name], x), 1)
        x = np.linspace(0.1 if name == "polygamma" else -4, 9, 50).astype(dtype)
        assert_same(Pointwise.of(formula, 0), x, scale=100)


def test_every_function_is_compared():
    compared = {name for arity in (1, 2, 3, 4) for name in names_of(arity)}
    assert compared | set(ORDERS) | {name for name, g in FUNCTIONS.items() if g.kind == "bits"} == set(
        FUNCTIONS
    )
    assert {name for name in compared if FUNCTIONS[name].arity > 2} == {"where", "clip", "nan_to_num"}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_integers(dtype):
    info = np.iinfo(dtype)
    values = [0, 1, 2, 3, 7, 8, info.max, info.max - 1, info.min, *([-1, -2, -5] if info.min else [])]
    a, b = (x.ravel() for x in np.meshgrid(np.array(values, dtype), np.array(values, dtype)))
    names = [name for name in INTEGER_FUNCTIONS if name != "clip"]
    compare(names, [a, b])
    compare(["clip"], [a, b, b[::-1].copy()])


def test_truth_values():
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    names = ["logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"]
    names += ["maximum", "minimum", "equal", "less"]
    compare(names, [a, b])
    compare(["logical_not", "bitwise_not"], [a])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_computes_in_float32(dtype):
    dtype = (
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes").bfloat16
        if dtype == "bfloat16"
        else dtype
    )
    with np.errstate(over="ignore"):
        x = np.concatenate([np.linspace(-8, 8, 41), SPECIAL]).astype(dtype)
    assert_same(Pointwise.of(FUSED, 4), x, x[::-1].copy(), np.array(0.75))


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (3, 1, 17)], ids=str)
def test_layouts(shape):
    arrays = layouts(shape, np.float32)
    for name, a in arrays.items():
        assert_same(Pointwise.of(FUSED, 4), a, arrays["C"], np.array(2.5), label=name)
        assert_same(Pointwise.of(formula_of("subtract"), 0), arrays["window"], a, label=name)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8"])
def test_layouts_of_other_dtypes(dtype):
    arrays = layouts((3, 5), dtype)
    for name, a in arrays.items():
        assert_same(Pointwise.of(formula_of("multiply"), 0), a, arrays["C"], label=name)


@pytest.mark.parametrize("b", [(4, 3), (1, 3), (4, 1), (3,), (1,)], ids=str)
@pytest.mark.parametrize("a", [(4, 3), (1, 3), (4, 1), (2, 1, 1)], ids=str)
def test_broadcasting(a, b):
    x, y = (
        np.random.default_rng(k).standard_normal(shape).astype(np.float32) for k, shape in enumerate((a, b))
    )
    assert_same(Pointwise.of(FUSED, 4), x, y, np.array(0.5))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 255, 256, 1023, 1025, 5000])
def test_sizes_around_the_block(n, order):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    assert_same(Pointwise.of(formula_of("add"), 0), x, x)


@pytest.mark.parametrize("rows", [1, 2, 255, 300])
def test_rows_around_the_block(rows, order):
    random = np.random.default_rng(rows)
    x, y = (random.standard_normal(shape).astype(np.float32) for shape in ((rows, 12), (12,)))
    assert_same(Pointwise.of(formula_of("add"), 0), x, y)


@pytest.mark.parametrize("limit", [1, 100])
def test_a_grid_smaller_than_the_work(limit, monkeypatch):
    from nbdl.backend.cupy import pointwise

    registry.load("cupy")._plans.clear()
    monkeypatch.setattr(pointwise, "MAX_BLOCKS", limit)
    monkeypatch.setattr(pointwise, "MAX_BLOCKS_Y", limit)
    x = np.random.default_rng(0).standard_normal((700, 8)).astype(np.float32)
    assert_same(Pointwise.of(formula_of("add"), 0), x, x)
    assert_same(Pointwise.of(formula_of("add"), 0), x, x[:1, :].copy())
    registry.load("cupy")._plans.clear()


def test_64_bit_indices(monkeypatch):
    registry.load("cupy")._plans.clear()
    monkeypatch.setattr(launch, "INDEX32_LIMIT", 1)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    assert_same(Pointwise.of(formula_of("add"), 0), x, x)
    assert_same(
        Pointwise.of(formula_of("add"), 0),
        x.transpose(1, 0, 2),
        np.ascontiguousarray(x[0].T).T.reshape(3, 1, 4),
    )
    registry.load("cupy")._plans.clear()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)], ids=str)
def test_nothing(shape):
    assert_same(Pointwise.of(formula_of("add"), 0), np.zeros(shape, np.float32), np.zeros(shape, np.float32))


class TestScalars:
    def test_zero_dimensional_arrays_on_the_device(self):
        x = registry.load("cupy").xp.asarray(np.array(2.0, np.float32))
        assert_close(
            registry.load("cupy").execute(Pointwise.of(formula_of("exp"), 0), [x]),
            np.exp(np.array(2.0, np.float32)),
        )

    @pytest.mark.parametrize("where", ["host", "device"])
    def test_they_keep_their_precision_beside_arrays(self, where):
        # 1 - 0.999^t in float32 would lose four digits.
        corrected = Pointwise.of(Formula("corrected", lambda v, t: v / (1 - f.pow(0.999, t)), 2), 2)
        t = np.array(1.0)
        backend = registry.load("cupy")
        v = backend.xp.asarray(np.full(5, 0.001, np.float32))
        got = backend.execute(corrected, [v, t if where == "host" else backend.xp.asarray(t)])
        np.testing.assert_allclose(got.get(), 1.0, rtol=2e-7)

    @pytest.mark.parametrize("value", [2, True, 1.5, math.inf, math.nan])
    def test_python_numbers(self, value):
        x = np.arange(6.0, dtype=np.float32)
        formula = Formula("mixed", lambda x, s: (x * (s + 1), f.where(s, x, -x), x + f.exp(s + 0)), 2)
        assert_same(Pointwise.of(formula, 2), x, np.array(value))

    def test_an_integer_beside_integers(self):
        x = np.arange(5)
        assert_same(Pointwise.of(formula_of("floor_divide"), 2), x, np.array(2))
        assert_same(Pointwise.of(formula_of("divide"), 2), x, np.array(2))


class TestOut:
    def test_an_operand_may_be_overwritten(self):
        backend = registry.load("cupy")
        update = Pointwise.of(Formula("update", lambda p, g, m: (p - m, 0.9 * m + g), 3), 0)
        p, g, m = (backend.xp.asarray(np.full((3, 4), v, np.float32)) for v in (1.0, 2.0, 3.0))
        result = backend.execute(update, [p, g, m], out=(p, m))
        assert result[0] is p
        np.testing.assert_allclose(p.get(), -2.0)
        np.testing.assert_allclose(m.get(), 4.7, rtol=1e-6)

    def test_operands_that_overlap_the_output_are_read_first(self):
        backend = registry.load("cupy")
        x = backend.xp.asarray(np.arange(8.0))
        backend.execute(Pointwise.of(formula_of("add"), 0), [x[1:], x[:-1]], out=x[1:])
        np.testing.assert_array_equal(x.get(), [0, 1, 3, 5, 7, 9, 11, 13])

    def test_output_with_other_strides_and_dtype(self):
        backend = registry.load("cupy")
        x = np.arange(6.0).reshape(2, 3)
        out = backend.xp.asarray(np.zeros((3, 2), np.float32)).T
        backend.execute(Pointwise.of(formula_of("exp"), 0), [on_device(x)], out=out)
        np.testing.assert_allclose(out.get(), np.exp(x), rtol=1e-6)

    def test_results_lie_in_memory_as_the_operands(self):
        backend = registry.load("cupy")
        x = backend.xp.asarray(np.zeros((3, 4), np.float32)).T
        assert backend.execute(Pointwise.of(formula_of("exp"), 0), [x]).strides == x.strides


def test_arrays_that_run_backwards_overlap_as_others_do():
    x = on_device(np.arange(6.0))
    assert placing.overlap(x[::-1], x[:2])
    assert placing.overlap(x[:2], x[::-1])
    assert not placing.overlap(x[3:][::-1], x[:3])


@pytest.mark.parametrize(
    ("dims", "steps", "expected"),
    [
        ((1 << 14, 1 << 14), (1 << 14, 1), np.int32),
        ((1 << 16, 1 << 15), (1 << 15, 1), np.int64),
        ((1 << 16, 1 << 15), (0, 0), np.int64),  # the count alone
        ((2, 3), (1 << 31, 1), np.int64),
        ((3,), (-(1 << 30),), np.int64),
    ],
)
def test_indices_have_room_for_all_offsets_and_counts(dims, steps, expected):
    assert launch.index_type(dims, [(1,) * len(dims), steps]) is expected


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("float32", "float64"), ("float64", "float32"), ("float32", "int64"), ("int64", "float32"),
        ("uint8", "int32"), ("float32", "bool"), ("bool", "float32"), ("float32", "float16"),
        ("float16", "float32"), ("int32", "uint8"), ("float64", "float16"),
    ],
)  # fmt: skip
def test_casts(source, target):
    random = np.random.default_rng(0)
    x = (
        random.standard_normal((5, 7)) * 3 if source[0] == "f" else random.integers(0, 2, (5, 7)) * 77
    ).astype(source)
    assert_same(Cast.of(np.dtype(target)), x)


def test_a_cast_of_doubles_to_halves_rounds_once():
    """By way of float32 these would come to lie between two halves, and be rounded to the wrong one."""
    x = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-25]) + 2.0**-60 * np.array([2.0**20, -(2.0**20), 1])
    found = registry.load("cupy").execute(Cast.of(np.dtype("float16")), [on_device(x)])
    np.testing.assert_array_equal(found.get(), x.astype(np.float16))
    assert (x.astype(np.float32).astype(np.float16) != x.astype(np.float16)).all()


def test_errors_name_the_operation():
    backend = registry.load("cupy")
    x, y = (backend.xp.asarray(np.zeros(shape, np.float32)) for shape in ((3, 4), (3, 5)))
    with pytest.raises(RuntimeError, match=r"add: shapes \(3, 4\) and \(3, 5\) cannot be broadcast"):
        backend.execute(Pointwise.of(formula_of("add"), 0), [x, y])
