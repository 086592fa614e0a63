"""Kernels along an axis of the Numba backend against NumPy: reductions, scans, extrema, orders, search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba")

from nbdl.backend import registry
from nbdl.backend.numba import lines, reduction, sorting, threads
from nbdl.backend.numba.backend import PLANNERS
from nbdl.ops.extrema import ArgReduce
from nbdl.ops.reduction import IDENTITY, Reduce
from nbdl.ops.scanning import ArgScan, LinearScan, Scan
from nbdl.ops.searching import SearchSorted, Unique
from nbdl.ops.sorting import Argsort, ArgTopK

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")
SHAPES = [(1,), (37,), (3, 300), (70, 3), (3, 4, 20)]
FLOATS, INTEGERS = ["float32", "float64"], ["int64", "uint8", "bool"]


@pytest.fixture
def two_threads(monkeypatch):
    """Two tasks for however little work."""
    for module in (lines, reduction, sorting):
        monkeypatch.setattr(module, "tasks_for", lambda work, rows: max(1, min(2, rows)))
    NUMBA._forget_plans()
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)
    NUMBA._forget_plans()


def samples(shape, dtype, repeated=False):
    """Arrays of one shape with all kinds of strides; floats with special values too.

    `repeated`: of few different values.
    """
    generator = np.random.default_rng([*shape, repeated])
    whole = np.abs(generator.standard_normal([2 * n for n in shape]) * 3).astype(dtype)
    if repeated:
        whole = (whole.astype(np.float64) // 1).astype(dtype)
    plain = np.ascontiguousarray(whole[tuple(slice(n) for n in shape)])
    found = [
        plain,
        np.asfortranarray(plain),
        whole[tuple(slice(None, None, 2) for _ in shape)],
        plain[tuple(slice(None, None, -1) for _ in shape)],
        np.broadcast_to(plain[:1], shape),
    ]
    if plain.dtype.kind == "f":
        special = generator.choice(
            [1.0, 2.0, -0.0, 0.0, -np.inf, np.inf, np.nan], shape, p=[0.3, 0.3, *[0.08] * 5]
        )
        found += [special.astype(dtype), np.asfortranarray(special.astype(dtype))]
    return found


def assert_same(primitive, *operands, rtol=0.0):
    """By a kernel, on the first call, which plans, and on the second; into outputs of other strides too."""
    assert PLANNERS[primitive.name](operands, None, **primitive.params) is not None
    expected = SPECIFICATION.execute(primitive, operands)
    found = NUMBA.execute(primitive, operands)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(NUMBA.execute(primitive, operands), found)
    out = np.empty((*expected.shape, 2), expected.dtype)[..., 0]
    assert NUMBA.execute(primitive, operands, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=rtol)


def tolerance(dtype):
    """Sums of float32 are accumulated in float64 by kernels, in float32 by NumPy."""
    return {"float32": 1e-4, "float64": 1e-12}.get(dtype, 0.0)


KINDS = {"float32": ("prod", "max", "any"), "bool": ("prod", "any", "all")}  # else all of them


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for dtype in ("float32", "float64", "int64", "bool")
        for kind in KINDS.get(dtype, ("prod", "max", "min", "any", "all"))
    ],
)
def test_reductions(kind, dtype):
    """Sums and means are in `tests/test_backend_contract.py`."""
    for shape in ((37,), (70, 3), (3, 4, 20)):
        subsets = [
            axes for n in range(1, len(shape) + 1) for axes in itertools.combinations(range(len(shape)), n)
        ]
        for x, axes in itertools.product(samples(shape, dtype), subsets):
            if kind == "prod" and dtype == "float32":
                x = x[tuple(slice(4) for _ in shape)]  # float32 overflows sooner than float64
            assert_same(Reduce.of(IDENTITY, kind, axes, len(axes) % 2 == 0), x, rtol=tolerance(dtype))


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["sum", "prod"])
def test_scans(kind, reverse, dtype):
    for shape in SHAPES:
        for x, axis in itertools.product(samples(shape, dtype), range(len(shape))):
            if kind == "prod" and dtype[0] == "f":
                x = x[tuple(slice(20) for _ in shape)]
            assert_same(Scan.of(kind, axis, reverse), x, rtol=tolerance(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reverse", [False, True])
def test_scans_of_floats(reverse, dtype):
    for shape in SHAPES:
        for x, axis in itertools.product(samples(shape, dtype), range(len(shape))):
            assert_same(Scan.of("logsumexp", axis, reverse), x, rtol=1e-5 if dtype == "float32" else 1e-13)
            with np.errstate(invalid="ignore"):
                operands = np.cos(x), np.sin(x)[::-1]
            assert_same(LinearScan.of(axis, reverse), *operands, rtol=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", FLOATS)
def test_logsumexp_over_many_scales(dtype):
    generator = np.random.default_rng(0)
    x = (generator.standard_normal(2000) * generator.choice([1, 10, 100, 1000], 2000)).astype(dtype)
    for values in (
        x,
        np.sort(x),
        np.sort(x)[::-1].copy(),
        np.where(x > 900, np.inf, x),
        np.where(x < -9, -np.inf, x),
    ):
        values = values.astype(dtype)
        with np.errstate(invalid="ignore"):
            expected = np.logaddexp.accumulate(values.astype(np.float64))
        found = NUMBA.execute(Scan.of("logsumexp", 0), [values])
        np.testing.assert_allclose(found, expected, rtol=2e-6 if dtype == "float32" else 1e-14)


def test_a_long_sum_of_float32_is_accurate():
    x = np.random.default_rng(0).uniform(0, 1, 300_000).astype(np.float32)
    found = NUMBA.execute(Scan.of("sum", 0), [x])
    np.testing.assert_allclose(found, np.cumsum(x, dtype=np.float64), rtol=1e-7)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_places_of_extrema(kind, dtype):
    for shape in [*SHAPES, (1300,), (2, 1300)]:
        for x in samples(shape, dtype, repeated=True):
            for axis in range(len(shape)):
                assert_same(ArgScan.of(kind, axis), x)
                expected = SPECIFICATION.execute(ArgReduce.of(f"arg{kind}", axis, False), [x])
                for keepdims in (False, True):
                    found = NUMBA.execute(ArgReduce.of(f"arg{kind}", axis, keepdims), [x])
                    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
            whole = ArgReduce.of(f"arg{kind}", None, False)
            np.testing.assert_array_equal(NUMBA.execute(whole, [x]), SPECIFICATION.execute(whole, [x]))


# Lengths for every way to sort: insertion, ranks, short and long digits.
@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "int16", "uint64", "bool"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape", [(1,), (9,), (70, 3), (2, 200), (3000,), (3, 4, 20)], ids=str)
def test_orders_are_stable(shape, descending, dtype):
    for repeated in (False, True):
        for x, axis in itertools.product(samples(shape, dtype, repeated), range(len(shape))):
            signed = x - 2 if np.dtype(dtype).kind == "i" else x
            assert_same(Argsort.of(axis, descending), signed)


@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "uint8"])
@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("shape", [(1,), (9,), (3, 12), (70, 3), (2, 500)], ids=str)
def test_the_best_are_the_first_of_the_order(shape, largest, dtype):
    for x, axis in itertools.product(samples(shape, dtype, repeated=True), range(len(shape))):
        order = SPECIFICATION.execute(Argsort.of(axis, largest), [x])
        for k in {1, min(3, shape[axis]), (shape[axis] + 1) // 2, shape[axis]}:
            primitive = ArgTopK.of(k, axis, largest)
            assert PLANNERS["argtopk"]([x], None, **primitive.params) is not None
            np.testing.assert_array_equal(NUMBA.execute(primitive, [x]), np.take(order, range(k), axis))


@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "int32"])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 64, 100])
def test_search(n, right, dtype):
    generator = np.random.default_rng(n)
    rows = np.sort(samples((3, n), dtype, repeated=True)[-2], axis=-1)
    for size in (1, 5, 40):
        values = generator.choice(samples((200,), dtype, repeated=True)[-2], (3, size))
        assert_same(SearchSorted.of(right), rows, values)
        assert_same(SearchSorted.of(right), rows[:, ::1], np.asfortranarray(values))
    many = generator.choice(samples((200,), dtype, repeated=True)[-2], (3, 400))
    assert_same(SearchSorted.of(right), rows[1], many)
    assert_same(SearchSorted.of(right), np.repeat(rows[1], 2)[::2], many[0])


@pytest.mark.parametrize(
    "primitive",
    [
        Scan.of("sum", 0),
        Scan.of("sum", 1, True),
        ArgScan.of("max", 1),
        Reduce.of(IDENTITY, "max", (1,)),
        Argsort.of(1, False),
        Argsort.of(0, True),
        ArgTopK.of(3, 1, True),
    ],
    ids=str,
)
def test_two_threads(primitive, two_threads):
    for shape in ((301, 20), (3, 700), (1, 50)):
        assert_same(primitive, np.ascontiguousarray(samples(shape, "float64")[0]), rtol=1e-12)


def test_what_is_left_to_numpy():
    half, empty = np.ones((3, 4), np.float16), np.ones((3, 0))
    for primitive in (
        Argsort.of(1, False),
        Scan.of("sum", 1),
        ArgScan.of("max", 1),
        Reduce.of(IDENTITY, "max", (0,)),
    ):
        for x in (half, empty):
            assert PLANNERS[primitive.name]([x], None, **primitive.params) is None
            np.testing.assert_array_equal(
                NUMBA.execute(primitive, [x]), SPECIFICATION.execute(primitive, [x])
            )


WIDE = np.array([5, -(2**62), 2**62, 5])
SETS = {
    "repeated": np.array([[3, -1, 3], [7, -1, 3]]),
    "one": np.array(-4),
    "none": np.zeros(0, np.int64),
    "strided": np.arange(40)[::-3].reshape(2, 7),
    "wide": WIDE,
    "ends": np.array([2**63 - 1, 2**63 - 2, 2**63 - 1]),
    "beyond int64": np.array([2**63, 2**63 + 1, 2**63], np.uint64),
}


@pytest.mark.parametrize("x", [*SETS.values()], ids=[*SETS])
@pytest.mark.parametrize("kind", ["as is", "int8", "uint16", "float64"])
def test_sets(x, kind):
    if kind != "as is":
        x = np.asarray(x % 100, kind)
    for axis in (None, *range(x.ndim)):
        expected = SPECIFICATION.execute(Unique.of(axis), [x])
        for found, wanted in zip(NUMBA.execute(Unique.of(axis), [x]), expected, strict=True):
            assert type(found) is np.ndarray
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_array_equal(found, wanted)
