"""Reductions, scans and searches on the GPU backend: what NumPy gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from gpu.samples import assert_same, layouts, on_device

from nbdl.backend import registry
from nbdl.backend.cupy import reduction
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.extrema import ArgReduce
from nbdl.ops.reduction import IDENTITY, Reduce
from nbdl.ops.scanning import Scan

pytestmark = pytest.mark.usefixtures("gpu")

KINDS = ["sum", "mean", "prod", "max", "min", "any", "all"]


def random(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), ()], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, axes):
    assert_same(Reduce.of(IDENTITY, kind, axes, False), random(5, 9))
    assert_same(Reduce.of(IDENTITY, kind, axes, True), random(5, 9))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (3, 1, 7)], ids=str)
def test_layouts_and_axes(shape):
    rank = len(shape)
    subsets = [axes for n in range(1, rank + 1) for axes in itertools.combinations(range(rank), n)]
    for (name, a), axes in itertools.product(layouts(shape, np.float32).items(), subsets):
        assert_same(Reduce.of(IDENTITY, "sum", axes, False), a, scale=10, label=f"{name} {axes}")


@pytest.mark.parametrize(
    "shape", [(1,), (31,), (257,), (20_000,), (3, 9000), (9000, 3), (700, 40), (40, 700)], ids=str
)
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_sizes_around_blocks_and_parts(kind, shape, order):
    x = random(*shape)
    for axes in [(0,), (len(shape) - 1,), tuple(range(len(shape)))]:
        assert_same(Reduce.of(IDENTITY, kind, axes, False), x, scale=30, label=str(axes))


def test_means_in_two_stages():
    assert_same(Reduce.of(IDENTITY, "mean", (0,), False), random(30_000), scale=10)
    assert_same(Reduce.of(IDENTITY, "mean", (1,), True), random(2, 30_000), scale=10)


def test_results_repeat():
    x = on_device(random(50_000))
    execute = registry.load("cupy").execute
    first = execute(Reduce.of(IDENTITY, "sum", (0,), False), [x]).get()
    assert all(execute(Reduce.of(IDENTITY, "sum", (0,), False), [x]).get() == first for _ in range(3))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
def test_fused_formulas(axes):
    weighted = Formula("weighted", lambda x, y, s: f.square(x - y) * s, 3)
    assert_same(
        Reduce.of(weighted, "sum", axes, False, 4), random(6, 11), random(6, 1), np.array(0.3), scale=10
    )
    assert_same(Reduce.of(weighted, "mean", axes, False, 4), random(6, 11), random(11), np.array(2), scale=10)
    assert_same(Reduce.of(formula_of("multiply"), "sum", axes, True), random(6, 11), random(6, 11), scale=10)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float64"])
def test_dtypes(dtype):
    x = (np.arange(24).reshape(4, 6) % 5 - (0 if dtype in ("bool", "uint8") else 2)).astype(dtype)
    for kind in ["sum", "prod", "max", "min", "any", "all"] + (["mean"] if dtype[0] == "f" else []):
        assert_same(Reduce.of(IDENTITY, kind, (1,), False), x, label=kind)


def test_bfloat16_is_accumulated_in_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    x = np.full((2, 1000), 1.0).astype(ml_dtypes.bfloat16)
    assert_same(Reduce.of(IDENTITY, "sum", (1,), False), x)


@pytest.mark.parametrize("kind", ["max", "min", "sum", "any", "all"])
def test_nan_wins(kind):
    x = random(4, 300)
    x[1, 150], x[2] = np.nan, np.inf
    x[3, :2] = np.inf, -np.inf
    assert_same(Reduce.of(IDENTITY, kind, (1,), False), x, scale=10)
    assert_same(Reduce.of(IDENTITY, kind, (0,), False), x, scale=10)


@pytest.mark.parametrize("kind", ["sum", "mean", "prod", "any", "all"])
def test_nothing_to_reduce(kind):
    assert_same(Reduce.of(IDENTITY, kind, (1,), False), np.zeros((3, 0), np.float32))
    assert_same(Reduce.of(IDENTITY, kind, (1,), False), np.zeros((0, 3), np.float32))


def test_the_maximum_of_nothing_is_an_error():
    x = on_device(np.zeros((3, 0), np.float32))
    with pytest.raises(IndexError, match="max: cannot reduce over an axis of size 0"):
        registry.load("cupy").execute(Reduce.of(IDENTITY, "max", (1,), False), [x])


@pytest.mark.parametrize("keepdims", [False, True])
def test_given_outputs(keepdims):
    x, backend = random(4, 6, 5), registry.load("cupy")
    out = backend.xp.asarray(np.zeros((8, 6)))[::2].T  # (6, 4), strided, of another dtype
    backend.execute(
        Reduce.of(IDENTITY, "sum", (2,), keepdims),
        [on_device(x.transpose(1, 0, 2))],
        out=out[..., None] if keepdims else out,
    )
    np.testing.assert_allclose(out.get(), x.sum(2).T, rtol=1e-5, atol=1e-6)


def test_64_bit_indices(monkeypatch):
    from nbdl.backend.cupy import launch

    registry.load("cupy")._plans.clear()
    monkeypatch.setattr(launch, "INDEX32_LIMIT", 1)
    assert_same(Reduce.of(IDENTITY, "sum", (1,), False), random(4, 6, 5))
    assert_same(Reduce.of(IDENTITY, "sum", (0, 1, 2), False), random(40, 60, 5), scale=100)
    registry.load("cupy")._plans.clear()


@pytest.mark.parametrize("kind", ["argmax", "argmin"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_places_of_extrema(kind, axis):
    x = np.array([[3.0, 1.0, 3.0], [np.nan, 5.0, np.nan], [0.0, 0.0, -1.0]], np.float32)
    assert_same(ArgReduce.of(kind, axis), x)
    assert_same(ArgReduce.of(kind, axis, True), x)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "logsumexp"])
def test_scans(kind, reverse, order):
    for shape, axis in [((700,), 0), ((3, 40), 1), ((40, 3), 0), ((2, 5, 3), 1)]:
        x = random(*shape) * 0.2 + 1
        assert_same(Scan.of(kind, axis, reverse), x, scale=100, label=f"{shape} {axis}")


def test_scans_of_other_operands():
    assert_same(Scan.of("sum", 0, False), np.arange(10, dtype=np.int32))
    assert_same(Scan.of("max", 0, False), np.array([1, np.nan, 3, -np.inf], np.float32))
    assert_same(Scan.of("sum", 1, False), random(4, 6).T.copy().T)
    assert_same(Scan.of("sum", 0, False), np.zeros((0, 3), np.float32))


def test_every_kind_has_a_neutral_element():
    assert set(KINDS) | {"logsumexp"} == set(reduction.COMBINE)
