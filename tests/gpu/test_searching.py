"""Places on the GPU backend: of extrema, of values among boundaries, and values that replace others."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import SPECIAL, assert_same, layouts, on_device
from gpu.test_rows import KINDS, kind_of, random

from nbdl.backend import registry
from nbdl.ops.extrema import ArgReduce
from nbdl.ops.scanning import ArgScan
from nbdl.ops.scattering import IndexPut, Scatter
from nbdl.ops.searching import SearchSorted

pytestmark = pytest.mark.usefixtures("gpu")

EXTREMA = ["argmax", "argmin"]
RUNNING = ["max", "min"]
ALL_KINDS = [*KINDS, "bool", "uint8", "int8", "int64"]


def few(*shape: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Numbers of which many are equal."""
    whole = np.random.default_rng(seed).integers(0, 5, shape)
    return whole.astype(kind_of(dtype))


class TestExtrema:
    @pytest.mark.parametrize("dtype", ALL_KINDS)
    def test_dtypes(self, dtype):
        x = few(7, 11, dtype=dtype)
        for kind in EXTREMA:
            assert_same(ArgReduce.of(kind, 1), x)
            assert_same(ArgReduce.of(kind, 0, True), x)
            assert_same(ArgReduce.of(kind, None), x)
        for kind in RUNNING:
            assert_same(ArgScan.of(kind, 1), x)
            assert_same(ArgScan.of(kind, 0), x)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 300), (300, 3), (2, 33, 5)], ids=str)
    def test_sizes_around_blocks(self, shape, order):
        x = few(*shape, dtype="float32")
        for axis in range(len(shape)):
            assert_same(ArgReduce.of("argmax", axis), x)
            assert_same(ArgScan.of("min", axis), x)

    def test_rows_of_several_blocks(self, order):
        """Parts of a row are searched by several blocks, and the first of equal ones is found."""
        x = np.zeros(40000, np.float32)
        x[[17, 8400, 39999]] = 2
        for kind in EXTREMA:
            assert_same(ArgReduce.of(kind, None), x.reshape(4, 10000), label=kind)
            assert_same(ArgReduce.of(kind, 1, True), x.reshape(2, 20000), label=kind)
        x[[39, 9000]] = np.nan
        assert_same(ArgReduce.of("argmin", None, True), x)
        assert_same(ArgReduce.of("argmax", 0), x.reshape(8000, 5))

    def test_special_values(self):
        rows = np.array(
            [SPECIAL, SPECIAL[::-1], [-np.inf] * 19, [np.nan] * 19, [0.0, -0.0] * 9 + [0]], np.float32
        )
        for axis in (0, 1):
            for kind in EXTREMA:
                assert_same(ArgReduce.of(kind, axis), rows)
            for kind in RUNNING:
                assert_same(ArgScan.of(kind, axis), rows)
        wide = np.array([2**53, 2**53 + 1, -(2**63), 2**63 - 1, 2**63 - 1])
        assert_same(ArgReduce.of("argmax", 0), wide)
        assert_same(ArgScan.of("max", 0), wide)

    def test_layouts_and_nothing(self):
        for name, x in layouts((3, 4, 5), np.float32).items():
            for axis in (0, 1, 2, None):
                assert_same(ArgReduce.of("argmin", axis), x, label=name)
            assert_same(ArgScan.of("max", 1), x, label=name)
        assert_same(ArgReduce.of("argmax", 1), np.zeros((0, 3), np.float32))
        assert_same(ArgScan.of("max", 1), np.zeros((3, 0), np.float32))
        backend = registry.load("cupy")
        with pytest.raises(IndexError, match=r"argmax: expected a non-empty axis"):
            backend.execute(ArgReduce.of("argmax", 1), [on_device(np.zeros((3, 0)))])
        number = on_device(np.array([2.0])).reshape(())
        assert backend.execute(ArgReduce.of("argmax", None), [number]).get() == 0
        assert backend.execute(ArgScan.of("max", 0), [number]).get() == 0


class TestSearchSorted:
    @pytest.mark.parametrize("right", [False, True])
    @pytest.mark.parametrize("dtype", [*KINDS, "int64", "uint8"])
    def test_dtypes(self, dtype, right):
        boundaries, values = np.sort(few(9, dtype=dtype)), few(4, 70, dtype=dtype, seed=1)
        assert_same(SearchSorted.of(right), boundaries, values)
        assert_same(SearchSorted.of(right), np.sort(few(4, 9, dtype=dtype), axis=1), values)

    @pytest.mark.parametrize("right", [False, True])
    def test_special_values(self, right):
        boundaries = np.sort(np.array([*SPECIAL, np.nan], np.float32))
        assert_same(SearchSorted.of(right), boundaries, np.array(SPECIAL, np.float32))
        assert_same(SearchSorted.of(right), np.arange(5), np.array([0.5, 4.0, -1.0, np.nan]))
        for shapes in (((0,), (3,)), ((2,), (0,)), ((2, 3, 4), (2, 3, 5)), ((3, 0), (3, 2))):
            sorted_, wanted = (random(*shape, seed=k) for k, shape in enumerate(shapes))
            assert_same(SearchSorted.of(right), np.sort(sorted_, axis=-1), wanted)


class TestReplacing:
    """Of several values for a place the last one stays."""

    @pytest.mark.parametrize("dtype", ALL_KINDS)
    def test_dtypes(self, dtype, order):
        x, values = few(6, 5, dtype=dtype), few(40, 5, dtype=dtype, seed=1)
        rows = np.random.default_rng(2).integers(-6, 6, 40)
        assert_same(IndexPut.of((0,), False), x, values, rows)
        index = np.random.default_rng(3).integers(-6, 6, (30, 5))
        assert_same(Scatter.of(0, "set"), x, index, few(30, 5, dtype=dtype, seed=4))
        assert_same(Scatter.of(1, "set"), x, index[:6, :1] % 5, x[:, :1])

    @pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
    def test_axes_and_layouts(self, axes):
        generator = np.random.default_rng(0)
        indices = [generator.integers(-3, 3, (7, 2) if k % 2 else (2,)) for k in axes]
        for name, x in layouts((3, 4, 5), np.float32).items():
            shape = x[tuple([indices[axes.index(k)] if k in axes else slice(None) for k in range(3)])].shape
            assert_same(IndexPut.of(axes, False), x, random(*shape), *indices, label=name)
            assert_same(IndexPut.of(axes, False), x, random(1), *indices, label=name)

    def test_scattered_along_axes(self):
        generator = np.random.default_rng(0)
        for name, x in layouts((3, 4, 5), np.float32).items():
            for axis in range(3):
                index = generator.integers(-3, 3, (3, 3, 4))
                assert_same(Scatter.of(axis, "set"), x, index, random(3, 4, 4), label=f"{name} {axis}")

    def test_what_does_not_exist_and_what_shares_memory(self):
        backend = registry.load("cupy")
        x = on_device(np.arange(6.0))
        wanted = on_device(np.array([9, 0, -7, 1]))
        backend.execute(IndexPut.of((0,), False), [x, x[2:], wanted], out=x)
        assert x.get().tolist() == [3, 5, 2, 3, 4, 5]
        nothing = on_device(np.zeros(0, np.int64))
        assert (
            backend.execute(IndexPut.of((0,), False), [x, x[:1], nothing]).get().tolist() == x.get().tolist()
        )
