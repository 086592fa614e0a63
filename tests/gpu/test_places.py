"""Reading at computed places on the GPU backend: indices, bags, windows, sparse maps and recurrences."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import assert_same, layouts, on_device
from gpu.test_rows import KINDS, random

from nbdl.backend import registry
from nbdl.backend.resampling import Taps
from nbdl.backend.windows import window_counts
from nbdl.ops.bags import EmbeddingBag, EmbeddingBagInput
from nbdl.ops.class_losses import CrossEntropyLoss, NllLoss
from nbdl.ops.quasi_newton import RememberPair, SlopeAndSize, TwoLoop
from nbdl.ops.resampling import Resample
from nbdl.ops.scanning import LinearScan
from nbdl.ops.scattering import Gather, Scatter
from nbdl.ops.selecting import Index
from nbdl.ops.unfolding import ColumnsOfWindows, WindowsOfColumns

pytestmark = pytest.mark.usefixtures("gpu")


def places(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Indices of an axis of ``count`` elements, some from its end."""
    return np.random.default_rng(seed).integers(-count, count, shape)


class TestIndices:
    @pytest.mark.parametrize("dtype", [*KINDS, "int64", "uint8", "bool"])
    def test_dtypes(self, dtype):
        x = random(9, 4, dtype=dtype) if dtype in KINDS else (np.arange(36) % 3).reshape(9, 4).astype(dtype)
        assert_same(Index.of((0,)), x, places(9, 5, 3))
        assert_same(Gather.of(0), x, places(9, 5, 2))

    @pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
    def test_axes(self, axes):
        indices = [places(3, *((6, 2) if k % 2 else (2,)), seed=k) for k in axes]
        for name, x in layouts((3, 4, 5), np.float32).items():
            assert_same(Index.of(axes), x, *indices, label=name)

    def test_gathering_along_axes(self):
        for name, x in layouts((3, 4, 5), np.float32).items():
            for axis in range(3):
                assert_same(Gather.of(axis), x, places(3, 3, 2, 4), label=f"{name} {axis}")

    def test_nothing_and_one(self):
        assert_same(Index.of((0,)), random(3, 4), np.zeros((0, 2), np.int64))
        assert_same(Gather.of(0), random(3), np.zeros(0, np.int64))
        assert_same(Index.of((1,)), random(3, 4), np.zeros((1,), np.int64))

    def test_complex_numbers(self):
        x = random(4, 3).astype(np.complex64) * 1j
        assert_same(Index.of((0,)), x, places(4, 5))
        assert_same(Gather.of(1), x, places(3, 4, 2))

    def test_a_place_that_does_not_exist(self):
        execute, index = registry.load("cupy").execute, on_device(np.array([3, 0, -4]))
        found = execute(Index.of((0,)), [on_device(np.ones(3)), index]).get()
        assert np.isnan(found).tolist() == [True, False, True]
        found = execute(Gather.of(0), [on_device(np.ones(3, np.int32)), index]).get()
        assert found.tolist() == [0, 1, 0]

    def test_an_output_that_is_the_operand(self):
        backend = registry.load("cupy")
        x = on_device(np.arange(6.0))
        backend.execute(Index.of((0,)), [x, on_device(np.arange(6)[::-1].copy())], out=x)
        assert x.get().tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("primitive", "shapes"),
    [
        (Gather.of(0), [(3, 4), (2, 5)]),
        (Gather.of(0), [(3, 4), (2,)]),
        (Scatter.of(0, "add"), [(3, 4), (2, 5), (2, 5)]),
        (LinearScan.of(0, False), [(3,), (4,)]),
        (NllLoss.of(-1, True), [(3, 4), (4,)]),
        (CrossEntropyLoss.of(-1, True), [(3, 4), (3, 1)]),
        (ColumnsOfWindows.of((4,), (2,), (1,), (0,), (1,), (3,)), [(1, 1, 5)]),
        (WindowsOfColumns.of((4,), (2,), (1,), (0,), (1,), (3,)), [(1, 2, 4)]),
        (EmbeddingBagInput.of(False, None, 3), [(2, 4), (3, 1)]),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_shapes_that_do_not_fit_are_errors(primitive, shapes):
    """A kernel would read beside its operands."""
    kinds = [
        np.int64 if k == 1 and primitive.name != "linear_scan" else np.float32 for k in range(len(shapes))
    ]
    operands = [on_device(np.zeros(shape, kind)) for shape, kind in zip(shapes, kinds, strict=True)]
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        registry.load("cupy").execute(primitive, operands)


class TestBags:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("mean", [False, True])
    @pytest.mark.parametrize("padding", [None, 2])
    def test_bags_of_one_length(self, padding, mean, dtype, order):
        table, indices = random(7, 5, dtype=dtype), places(7, 4, 6)
        assert_same(EmbeddingBag.of(mean, padding), table, indices, scale=8)
        assert_same(EmbeddingBag.of(mean, padding), table, indices.astype(np.int32), scale=8)
        g = random(4, 5, dtype=dtype, seed=1)
        assert_same(EmbeddingBagInput.of(mean, padding, 7), g, indices, scale=16)

    @pytest.mark.parametrize("starts", [[0, 2, 2, 9], [1, 3], [0], [0, 12], []], ids=str)
    @pytest.mark.parametrize("mean", [False, True])
    def test_bags_that_begin_somewhere(self, mean, starts):
        offsets, indices = np.array(starts, np.int64), places(7, 12)
        assert_same(EmbeddingBag.of(mean, 3), random(7, 5), indices, offsets, scale=4)
        g = random(len(starts), 5, seed=1)
        assert_same(EmbeddingBagInput.of(mean, 3, 7), g, indices, offsets, scale=4)

    def test_a_row_that_does_not_exist(self):
        execute, indices = registry.load("cupy").execute, on_device(np.array([[0, 1], [1, 9]]))
        y = execute(EmbeddingBag.of(False, None), [on_device(random(3, 2)), indices])
        assert np.isnan(y.get()).all(1).tolist() == [False, True]
        g = execute(EmbeddingBagInput.of(False, None, 3), [on_device(np.ones((2, 2))), indices])
        assert g.get().tolist() == [[1, 1], [2, 2], [0, 0]]


# size, kernel, stride, padding, dilation
WINDOWS = {
    "line": ((11,), (3,), (2,), (1,), (1,)),
    "plane": ((7, 6), (3, 2), (2, 2), (1, 1), (1, 1)),
    "dilated": ((9, 9), (2, 3), (1, 2), (1, 1), (3, 2)),
    "apart": ((8, 9), (2, 2), (4, 3), (0, 0), (1, 1)),
    "space": ((4, 5, 6), (2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1)),
}


@pytest.mark.parametrize("dtype", [*KINDS, "int32"])
@pytest.mark.parametrize("windows", WINDOWS)
def test_windows_and_columns(windows, dtype, order):
    size, kernel, stride, padding, dilation = WINDOWS[windows]
    counts = window_counts(size, kernel, stride, tuple((p, p) for p in padding), dilation)
    geometry = size, kernel, stride, padding, dilation, counts
    x = random(2, 3, *size, dtype=dtype if dtype in KINDS else "float32")
    x = x if dtype in KINDS else (9 * x).astype(dtype)
    columns = registry.load("numpy").execute(ColumnsOfWindows.of(*geometry), [x])
    assert_same(ColumnsOfWindows.of(*geometry), x)
    assert_same(WindowsOfColumns.of(*geometry), columns, scale=4)


@pytest.mark.parametrize("dtype", KINDS)
def test_sparse_maps(dtype):
    starts, weights = np.array([0, 2, 2, 5, 6]), np.array([0.5, -1, 2, 0.25, 1, 1])
    taps = Taps(starts, np.array([0, 3, 4, 1, 1, 2]), weights, 5)
    for axis, shape in ((0, (5, 3)), (1, (3, 5)), (1, (2, 5, 4))):
        x = random(*shape, dtype=dtype)
        assert_same(Resample.of(axis, taps), x, scale=4)
        assert_same(Resample.of(axis, taps), x.astype(np.float64).astype(x.dtype), scale=4)
    assert_same(Resample.of(0, taps), random(5, 0))


class TestRecurrences:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("reverse", [False, True])
    def test_dtypes(self, reverse, dtype, order):
        for axis, shape in ((1, (3, 40)), (0, (40, 3)), (1, (2, 19, 5))):
            a, b = random(*shape, dtype=dtype), random(*shape, dtype=dtype, seed=1)
            a = (a / 3).astype(a.dtype)
            assert_same(LinearScan.of(axis, reverse), a, b, scale=16)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (9000, 3), (2, 0), (3, 257)], ids=str)
    def test_lengths(self, shape):
        a, b = random(*shape, dtype="float64") / 3, random(*shape, dtype="float64", seed=1)
        assert_same(LinearScan.of(1, False), a, b)

    def test_factors_that_overflow_meet_zeros(self):
        a, b = np.full((1, 3000), 2.0, np.float32), np.zeros((1, 3000), np.float32)
        assert_same(LinearScan.of(1, False), a, b)

    def test_special_values(self):
        a = np.ones((3, 30), np.float32)
        b = a.copy()
        a[0, 7], b[1, 9], a[2, 11] = np.nan, np.inf, -np.inf
        assert_same(LinearScan.of(1, False), a, b)

    def test_complex_numbers(self):
        a = random(2, 9).astype(np.complex64) * 0.5j
        assert_same(LinearScan.of(1, False), a, a)


class TestQuasiNewton:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("oldest", "count", "negative"), [(0, 0, True), (0, 2, False), (2, 3, True)])
    def test_two_loops(self, oldest, count, negative, dtype):
        rows = [random(3, 17, dtype=dtype, seed=k) for k in range(2)]
        sizes = [np.abs(random(3, dtype=dtype, seed=k)) + 1 for k in (2, 3)]
        primitive = TwoLoop.of(oldest, count, negative)
        assert_same(primitive, random(17, dtype=dtype, seed=9), *rows, *sizes, scale=40)

    def test_a_pair_and_a_slope(self):
        vectors = [random(17, dtype="float64", seed=k) for k in range(4)]
        empty = [np.zeros(17), np.zeros(17), np.zeros(()), np.zeros(())]
        assert_same(RememberPair.of(), *empty, *vectors, scale=10)
        assert_same(SlopeAndSize.of(), *vectors[:2], scale=10)
        assert_same(SlopeAndSize.of(), np.zeros(0), np.zeros(0))
