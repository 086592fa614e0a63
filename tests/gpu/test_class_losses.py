"""Losses over classes and gated units on the GPU backend: what NumPy gives, without waiting."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import standin
from gpu.samples import assert_same, layouts, on_device
from gpu.test_rows import KINDS, random

import nbdl
import nbdl.nn.functional as F
from nbdl.backend import registry
from nbdl.ops.class_losses import CrossEntropyLoss, CrossEntropyLossInput, NllLoss, NllLossInput
from nbdl.ops.gating import Glu, GluInput

pytestmark = pytest.mark.usefixtures("gpu")

SHAPES = [(6, 10), (3, 5, 4), (1, 1), (2, 300), (0, 4)]


def classes(shape: tuple[int, ...]) -> np.ndarray:
    target = np.random.default_rng(0).integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[:1] = -100
    return target


class TestClassLosses:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("mean", [True, False])
    def test_losses(self, mean, dtype):
        for shape in SHAPES:
            scores, target = random(*shape, dtype=dtype), classes(shape)
            assert_same(NllLoss.of(-100, mean), scores, target, scale=8, label=f"{shape}")
            assert_same(CrossEntropyLoss.of(-100, mean), scores, target.astype(np.int32), scale=8)

    @pytest.mark.parametrize("dtype", KINDS)
    def test_gradients(self, dtype):
        for shape in SHAPES:
            p, target = random(*shape, dtype=dtype), classes(shape)
            # On the device, where the loss is; the NumPy backend takes 0-d arrays as they are.
            g, share = (random(1, dtype=dtype, seed=k).reshape(()) for k in (1, 2))
            expected, got = [], []
            for backend, made in (("numpy", expected), ("cupy", got)):
                place = on_device_0d if backend == "cupy" else (lambda x: x)
                execute = registry.load(backend).execute
                put = on_device if backend == "cupy" else (lambda x: x)
                operands = put(p), put(target), place(g), place(share)
                made.append(execute(CrossEntropyLossInput.of(-100), operands))
                operands = place(g), put(target), place(share)
                made.append(execute(NllLossInput.of(-100, shape), operands))
            for a, b in zip(got, expected, strict=True):
                assert a.dtype == b.dtype
                tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 4e-2}[dtype]
                values = a.get().astype(np.float64), b.astype(np.float64)
                np.testing.assert_allclose(*values, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("count", [1023, 1025, 5000])
    def test_rows_of_several_blocks(self, count, order):
        scores, target = random(count, 3, dtype="float64"), np.arange(count) % 3
        target[::7] = 1000
        assert_same(NllLoss.of(1000, True), scores, target)
        assert_same(NllLoss.of(1000, False), scores, target)

    def test_layouts_and_special_values(self):
        for name, scores in layouts((3, 4, 5), np.float32).items():
            assert_same(NllLoss.of(-1, True), scores, np.full((3, 5), 2), label=name)
        scores = np.array([[np.nan, 1, np.inf], [-np.inf, 0, 3], [1, np.nan, 2]], np.float32)
        assert_same(NllLoss.of(-1, True), scores, np.array([2, 1, -1]))
        assert_same(NllLoss.of(-1, True), scores, np.array([2, 0, 1]))

    def test_nobody_counts(self):
        assert_same(NllLoss.of(1, True), random(3, 2), np.ones(3, np.int64))
        assert_same(CrossEntropyLoss.of(1, True), random(3, 2), np.ones(3, np.int64), scale=4)

    def test_a_class_that_does_not_exist_gives_nan(self):
        execute = registry.load("cupy").execute
        for primitive in (NllLoss.of(-100, True), CrossEntropyLoss.of(-100, True)):
            results = execute(primitive, (on_device(random(2, 3)), on_device(np.array([0, 3]))))
            assert np.isnan(results[-2].get())
        operands = on_device_0d(np.float32(1)), on_device(np.array([0, -1])), on_device_0d(np.float32(1))
        slopes = execute(NllLossInput.of(-100, (2, 3)), operands).get()
        assert np.isnan(slopes).all(1).tolist() == [False, True]

    def test_a_step_is_few_launches_and_nobody_waits(self, gpu):
        if gpu != "standin":
            pytest.skip("counts what the stand-in does")
        x, target = nbdl.randn(5, 3, requires_grad=True), nbdl.zeros(5, dtype=nbdl.int64)
        F.cross_entropy(x, target).backward()
        standin.counters.reset()
        F.cross_entropy(x, target).backward()
        counters = standin.counters
        assert counters.synchronisations == 0
        assert counters.launches <= 5  # rows, total, gradient; its start, and its sum


def on_device_0d(value: np.ndarray):
    return on_device(np.asarray(value).reshape(1)).reshape(())


class TestGatedUnits:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_values_and_gradients(self, axis, dtype):
        shape = [4, 6, 10]
        x = random(*shape, dtype=dtype)
        shape[axis] //= 2
        assert_same(Glu.of(axis), x, scale=4)
        assert_same(GluInput.of(axis), random(*shape, dtype=dtype, seed=1), x, scale=8)

    def test_layouts_and_special_values(self):
        special = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan, 100, -100], np.float32)
        x = np.stack(np.meshgrid(special, special)).reshape(2, -1)
        assert_same(Glu.of(0), x)
        for name, values in layouts((4, 6), np.float32).items():
            assert_same(Glu.of(1), values, label=name, scale=4)

    def test_an_output_that_is_given(self):
        backend, x = registry.load("cupy"), random(4, 6)
        out = backend.xp.zeros((6, 4), np.float32).T
        backend.execute(GluInput.of(1), [on_device(random(4, 3)), on_device(x)], out=out)
        expected = registry.load("numpy").execute(GluInput.of(1), [random(4, 3), x])
        np.testing.assert_allclose(out.get(), expected, rtol=1e-5)
