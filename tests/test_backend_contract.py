"""NumPy is the specification: what the Numba backend overrides gives the same, with the same parameters."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

from nbdl.backend import registry
from nbdl.backend.numpy import NumpyBackend
from nbdl.formula import FUNCTIONS, Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.matmul import LINEAR, MatMul
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.reduction import IDENTITY, Reduce

planners = pytest.importorskip("nbdl.backend.numba.backend").PLANNERS

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")


@pytest.mark.parametrize("name", sorted(planners))
def test_a_planner_takes_the_parameters_of_the_method(name):
    method = inspect.signature(getattr(NumpyBackend, name)).parameters.values()
    planner = inspect.signature(planners[name]).parameters.values()
    static = {p.name for p in method if p.kind is p.KEYWORD_ONLY and p.name != "out"}
    assert {p.name for p in planner if p.kind is p.KEYWORD_ONLY} == static


@pytest.mark.parametrize("override", [registry.load("numba")], ids=["numba"])
def test_methods_have_the_signatures_of_the_specification(override):
    for name, method in inspect.getmembers(NumpyBackend, inspect.isfunction):
        assert inspect.signature(getattr(type(override), name)) == inspect.signature(method), name


def assert_same(primitive, *arrays, rtol=None):
    """Both backends agree in values, dtypes and shapes, on the first call (which plans) and on the second."""
    expected = SPECIFICATION.execute(primitive, arrays)
    for _ in range(2):
        got = NUMBA.execute(primitive, arrays)
        pairs = zip(got, expected, strict=True) if isinstance(expected, tuple) else [(got, expected)]
        for actual, wanted in pairs:
            assert actual.dtype == wanted.dtype
            assert actual.shape == wanted.shape
            tolerance = rtol or {"float32": 2e-6, "float64": 1e-14}.get(wanted.dtype.name, 0)
            np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)


def layouts(shape, dtype, seed=0):
    """Arrays of one shape with all kinds of strides."""
    data = np.abs(np.random.default_rng(seed).standard_normal([2 * n + 1 for n in shape]))
    full = np.asarray(data * 4).astype(dtype)
    window = full[(..., *[slice(n) for n in shape])]
    return {
        "C": np.ascontiguousarray(window),
        "F": np.asfortranarray(window),
        "window": window,
        "stepped": full[(..., *[slice(None, 2 * n, 2) for n in shape])],
        "reversed": window[(..., *[slice(None, None, -1) for _ in shape])],
        "broadcast": np.broadcast_to(np.ascontiguousarray(window[:1]), shape) if shape else window,
    }


FUSED = Formula(
    "fused", lambda x, y, s: (f.where(x > y, x * s + 1, f.tanh(y)), f.logical_and(x < y, x > 0)), 3
)
SHAPES = [(), (1,), (7,), (3, 5), (4, 1), (2, 3, 4), (3, 1, 17), (2, 2, 3, 5), (3, 0)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pointwise_over_layouts(shape, dtype):
    arrays = layouts(shape, dtype)
    multiply = Pointwise.of(formula_of("multiply"), 0)
    for a in arrays.values():
        assert_same(multiply, a, arrays["C"])
        assert_same(multiply, arrays["window"], a)
    if np.dtype(dtype).kind == "f":
        for a in arrays.values():
            assert_same(Pointwise.of(FUSED, 4), a, arrays["C"], np.array(2.5))


@pytest.mark.parametrize("b", [(4, 3), (1, 3), (4, 1), (3,), (1,), ()], ids=str)
@pytest.mark.parametrize("a", [(4, 3), (1, 3), (4, 1), (3,), (1,), ()], ids=str)
def test_pointwise_broadcasts(a, b):
    x, y = (np.random.default_rng(k).standard_normal(shape) for k, shape in enumerate((a, b)))
    assert_same(Pointwise.of(formula_of("subtract"), 0), x, y)
    assert_same(Pointwise.of(FUSED, 4), x, y, np.array(0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize(
    "shape", [(5,), (3, 5), (2, 3, 4), (3, 1, 7), (2, 3, 2, 5), (300, 20), (20, 300), (301, 7)], ids=str
)
def test_reductions_over_layouts(shape, kind, dtype):
    if kind == "mean" and dtype == "int32":
        pytest.skip("means are of floats")
    arrays = layouts(shape, dtype)
    rank = len(shape)
    subsets = [axes for n in range(1, rank + 1) for axes in itertools.combinations(range(rank), n)]
    for (name, a), axes in itertools.product(arrays.items(), subsets):
        keepdims = len(name) % 2 == 0
        # NumPy sums float32 in float32, in pairs; the kernels in float64
        assert_same(
            Reduce.of(IDENTITY, kind, axes, keepdims), a, rtol={"float32": 1e-4, "float64": 1e-12}.get(dtype)
        )
        fused = Reduce.of(formula_of("multiply"), kind, axes, keepdims)
        assert_same(fused, a, arrays["C"], rtol={"float32": 1e-4, "float64": 1e-12}.get(dtype))


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 1)], ids=str)
def test_matmul_transposes(transpose_a, transpose_b, batch):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((*batch, 5, 7) if transpose_a else (*batch, 7, 5))
    b = rng.standard_normal((9, 5) if transpose_b else (5, 9))
    assert_same(MatMul.of(transpose_a, transpose_b), a, b, rtol=1e-13)
    assert_same(LINEAR, a, rng.standard_normal((3, a.shape[-1])), rng.standard_normal(3), rtol=1e-13)


SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    1e-40,
    -1e-40,
    1e30,
    -1e30,
    88.0,
    -88.0,
    3.0,
]
PAIRED = {name for name, function in FUNCTIONS.items() if function.arity == 2}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(n for n, g in FUNCTIONS.items() if g.arity <= 2 and g.kind != "bits"))
def test_functions_at_special_values(name, dtype):
    if name in ("polygamma", "sinc_slope"):
        pytest.skip("an operand is an order, not a number")
    values = np.array(SPECIAL * 3, dtype)
    operands = (
        (values,) if name not in PAIRED else (np.repeat(values, len(values)), np.tile(values, len(values)))
    )
    assert_same(Pointwise.of(formula_of(name), 0), *operands, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_scalars_beside_arrays_keep_their_precision():
    # 1 - 0.999^t in float32 would lose four digits
    formula = Formula("corrected", lambda v, t: v / (1 - f.pow(0.999, t)), 2)
    v, t = np.full(5, 0.001, np.float32), np.array(1.0)
    for backend in (SPECIFICATION, NUMBA):
        np.testing.assert_allclose(backend.execute(Pointwise.of(formula, 2), [v, t]), 1.0, rtol=2e-7)


@pytest.mark.parametrize("backend", [SPECIFICATION, NUMBA], ids=["numpy", "numba"])
class TestOut:
    def test_an_operand_may_be_overwritten(self, backend):
        update = Pointwise.of(Formula("update", lambda p, g, m: (p - m, 0.9 * m + g), 3), 0)
        p, g, m = (np.full((3, 4), v) for v in (1.0, 2.0, 3.0))
        result = backend.execute(update, [p, g, m], out=(p, m))
        assert result[0] is p
        np.testing.assert_allclose(p, -2.0)
        np.testing.assert_allclose(m, 4.7)

    def test_operands_that_overlap_the_output_are_read_first(self, backend):
        x = np.arange(8.0)
        backend.execute(Pointwise.of(formula_of("add"), 0), [x[1:], x[:-1]], out=x[1:])
        np.testing.assert_array_equal(x, [0, 1, 3, 5, 7, 9, 11, 13])

    def test_output_with_other_strides_and_dtype(self, backend):
        x = np.arange(6.0).reshape(2, 3)
        out = np.zeros((3, 2), np.float32).T
        backend.execute(Pointwise.of(formula_of("exp"), 0), [x], out=out)
        np.testing.assert_allclose(out, np.exp(x), rtol=1e-6)


class TestBlocks:
    """Long formulas on large arrays are evaluated block by block."""

    FORMULA = Formula("long", lambda x, y, s: (f.tanh(x * s + y) * f.exp(-x) + s, x < y), 3)

    @pytest.mark.parametrize("shape", [(100_003,), (3, 50_001), (1, 70_000, 1)], ids=str)
    def test_blocks_equal_the_whole(self, shape):
        x, y = layouts(shape, "float32")["C"], layouts(shape, "float32", 1)["C"]
        primitive = Pointwise.of(self.FORMULA, 4)
        blocked = SPECIFICATION.execute(primitive, [x, y, np.array(0.5)])
        pieces = [
            SPECIFICATION.execute(
                primitive, [x.reshape(-1)[k : k + 999], y.reshape(-1)[k : k + 999], np.array(0.5)]
            )
            for k in range(0, x.size, 999)
        ]
        for whole, parts in zip(blocked, zip(*pieces, strict=True), strict=True):
            assert whole.shape == shape
            np.testing.assert_allclose(whole.reshape(-1), np.concatenate(parts), rtol=1e-6)

    def test_operands_that_overlap_the_output_are_read_first(self):
        memory = np.arange(100_001.0)
        expected = np.tanh(memory[:-1] * 0.5 + memory[1:]) * np.exp(-memory[:-1]) + 0.5
        out = (memory[1:], np.empty(100_000, bool))
        SPECIFICATION.execute(
            Pointwise.of(self.FORMULA, 4), [memory[:-1], memory[1:], np.array(0.5)], out=out
        )
        np.testing.assert_allclose(memory[1:], expected, rtol=1e-12)
