"""Normalisation, pooling and scattering on the GPU backend: what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import assert_same, layouts, on_device
from gpu.test_rows import KINDS, kind_of, random

import nbdl
from nbdl.backend import registry
from nbdl.backend.windows import window_counts
from nbdl.ops.attention import Attention, AttentionInput
from nbdl.ops.normalization import Normalize, NormalizeInput
from nbdl.ops.pooling import (
    AdaptiveMaxPool,
    AvgPool,
    AvgPoolInput,
    FractionalMaxPool,
    MaxPool,
    WindowGather,
    WindowPut,
    WindowScatter,
)
from nbdl.ops.scattering import Scatter
from nbdl.ops.selecting import IndexPut
from nbdl.ops.solving import LeastSquares

pytestmark = pytest.mark.usefixtures("gpu")


class TestNormalization:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("centred", [True, False])
    @pytest.mark.parametrize("affine", [0, 1, 2])
    def test_layer_norm(self, affine, centred, dtype):
        x = random(5, 12, dtype=dtype)
        vectors = [random(1, 12, dtype=dtype, seed=k) for k in range(affine)]
        assert_same(Normalize.of((1,), 1e-5, centred, affine > 0), x, *vectors, scale=6)

    @pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
    def test_axes_and_layouts(self, axes):
        vector = random(1, 4, 1)
        for name, x in layouts((3, 4, 5), np.float32).items():
            assert_same(Normalize.of(axes, 1e-3, True, True), x, vector, vector, scale=20, label=name)

    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("centred", [True, False])
    @pytest.mark.parametrize("has_weight", [True, False])
    def test_gradients(self, has_weight, centred, dtype):
        x, g = random(6, 4, 5, dtype=dtype), random(6, 4, 5, dtype=dtype, seed=1)
        weight = [random(1, 4, 1, dtype=dtype, seed=2)] if has_weight else []
        primitive = Normalize.of((0, 2), 1e-3, centred, False)
        _, *statistics = registry.load("numpy").execute(primitive, [x])
        backward = NormalizeInput.of((0, 2), 1e-3, centred, has_weight)
        assert_same(backward, g, x, *weight, *statistics, scale=20)


class TestScattering:
    @pytest.mark.parametrize("kind", ["add", "prod", "amax", "amin"])
    @pytest.mark.parametrize("dtype", [*KINDS, "int64", "int32", "uint8", "int8", "int16"])
    def test_kinds_and_dtypes(self, kind, dtype, order):
        shape = (4, 7)
        values = np.random.default_rng(0).integers(1, 4, (6, 7))
        x, source = (random(*size, dtype=dtype) if dtype in KINDS else part.astype(dtype)
                     for size, part in ((shape, values[:4]), ((6, 7), values)))  # fmt: skip
        index = np.random.default_rng(1).integers(-4, 4, (6, 5))
        assert_same(Scatter.of(0, kind), x, index, source, scale=4)

    def test_axes_and_layouts(self):
        index = np.random.default_rng(1).integers(0, 3, (3, 4, 5))
        for name, source in layouts((3, 4, 5), np.float32).items():
            for axis in range(3):
                assert_same(Scatter.of(axis, "add"), source, index, source, scale=4, label=f"{name} {axis}")

    def test_one_value(self):
        assert_same(
            Scatter.of(1, "prod"), random(3, 4), np.zeros((3, 2), np.int64), np.array(2.0, np.float32)
        )

    def test_nan_and_infinity(self):
        x, source = np.zeros(4, np.float32), np.array([np.nan, 1, np.inf, -np.inf, 0, 2], np.float32)
        for kind in ("add", "prod", "amax", "amin"):
            assert_same(Scatter.of(0, kind), x, np.array([0, 0, 1, 2, 2, 3]), source)

    @pytest.mark.parametrize("dtype", KINDS)
    def test_the_gradient_of_an_embedding(self, dtype, order):
        index = np.random.default_rng(0).integers(-9, 9, (5, 6))
        x, values = random(9, 4, dtype=dtype), random(5, 6, 4, dtype=dtype, seed=1)
        assert_same(IndexPut.of((0,), True), x, values, index, scale=8)

    @pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
    def test_added_along_axes(self, axes):
        x = random(3, 4, 5)
        indices = [np.random.default_rng(k).integers(-3, 3, (2, 6)[: 1 + k % 2 or 1]) for k in axes]
        indices = [index if index.ndim == 1 and len(index) in (1, 2) else index[:, :2] for index in indices]
        shape = np.empty(x.shape)[_key(axes, indices)].shape
        assert_same(IndexPut.of(axes, True), x, random(*shape), *indices, scale=4)
        assert_same(IndexPut.of(axes, True), x, random(1), *indices, scale=4)

    def test_an_index_that_does_not_exist_is_passed_over(self):
        out = registry.load("cupy").execute(
            Scatter.of(0, "add"), [on_device(x) for x in (np.zeros(3), np.array([5, 0, -7]), np.ones(3))]
        )
        assert out.get().tolist() == [1, 0, 0]

    def test_nothing(self):
        assert_same(Scatter.of(0, "add"), random(3), np.zeros(0, np.int64), random(0))

    @pytest.mark.parametrize("dtype", KINDS)
    def test_the_gradient_of_pooling(self, dtype):
        indices = np.random.default_rng(0).integers(0, 20, (2, 3, 2, 4))
        assert_same(WindowScatter.of((4, 5)), random(2, 3, 2, 4, dtype=dtype), indices, scale=3)


# size, kernel, stride, padding, dilation, ceil_mode
WINDOWS = {
    "line": ((11,), (3,), (2,), (1,), (1,), False),
    "plane": ((7, 6), (3, 2), (2, 2), (1, 1), (1, 1), False),
    "over the end": ((7, 6), (3, 3), (2, 3), (1, 0), (1, 1), True),
    "dilated": ((9, 9), (2, 3), (1, 2), (1, 1), (3, 2), False),
    "apart": ((8, 9), (2, 2), (4, 3), (0, 0), (1, 1), False),
    "space": ((4, 5, 6), (2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1), False),
}


class TestPooling:
    @pytest.mark.parametrize("dtype", [*KINDS, "int32"])
    @pytest.mark.parametrize("windows", WINDOWS)
    def test_maxima(self, windows, dtype, order):
        size, kernel, stride, padding, dilation, ceil_mode = WINDOWS[windows]
        pairs = tuple((p, p) for p in padding)
        counts = window_counts(size, kernel, stride, pairs, dilation, ceil_mode)
        x = (np.random.default_rng(0).standard_normal((2, 3, *size)) * 9).astype(
            dtype if dtype == "int32" else kind_of(dtype)
        )
        assert_same(MaxPool.of(kernel, stride, padding, dilation, counts), x)

    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("windows", [name for name in WINDOWS if name != "dilated"])
    @pytest.mark.parametrize(("include", "divisor"), [(True, None), (False, None), (True, 5)])
    def test_means_and_their_gradients(self, windows, dtype, include, divisor):
        size, kernel, stride, padding, dilation, ceil_mode = WINDOWS[windows]
        pairs = tuple((p, p) for p in padding)
        counts = window_counts(size, kernel, stride, pairs, dilation, ceil_mode)
        geometry = size, kernel, stride, padding, counts, include, divisor
        assert_same(AvgPool.of(*geometry), random(2, 3, *size, dtype=dtype), scale=4)
        assert_same(AvgPoolInput.of(*geometry), random(2, 3, *counts, dtype=dtype), scale=4)

    def test_layouts_and_special_values(self):
        x = np.array([np.nan, 1, -np.inf, -np.inf, -np.inf, -np.inf, np.inf, np.nan, 0, -0.0], np.float32)
        assert_same(MaxPool.of((2,), (2,), (0,), (1,), (5,)), x.reshape(1, 1, 10))
        for name, a in layouts((2, 3, 6), np.float32).items():
            assert_same(MaxPool.of((3,), (2,), (1,), (1,), (3,)), a, label=name)
            assert_same(AvgPool.of((6,), (3,), (2,), (1,), (3,), True, None), a, scale=4, label=name)

    @pytest.mark.parametrize("dtype", [*KINDS, "int32"])
    @pytest.mark.parametrize(
        ("size", "counts"), [((7,), (3,)), ((5, 7), (2, 7)), ((3, 4, 5), (2, 1, 3)), ((2,), (5,))]
    )
    def test_adaptive_maxima(self, size, counts, dtype, order):
        kind = dtype if dtype == "int32" else kind_of(dtype)
        x = (np.random.default_rng(0).standard_normal((2, 3, *size)) * 9).astype(kind)
        assert_same(AdaptiveMaxPool.of(counts), x)

    def test_adaptive_maxima_of_special_values(self):
        x = np.array([1, np.nan, np.nan, -np.inf, -np.inf, -np.inf, np.inf, 0, -0.0], np.float32)
        assert_same(AdaptiveMaxPool.of((3,)), x.reshape(1, 1, 9))

    @pytest.mark.parametrize("dtype", KINDS)
    def test_elements_of_windows(self, dtype):
        places = np.random.default_rng(0).integers(-20, 20, (2, 3, 2, 4))  # some from the end
        for x in layouts((2, 3, 4, 5), kind_of(dtype)).values():
            assert_same(WindowGather.of(), x, places)
        ones = [on_device(np.ones((1, 1, 3), kind_of(dtype))), on_device(np.array([[[0, 3, -4]]]))]
        assert registry.load("cupy").execute(WindowGather.of(), ones).get().tolist() == [[[1, 0, 0]]]

    @pytest.mark.parametrize("dtype", KINDS)
    def test_windows_at_random_places_and_what_was_in_them(self, dtype):
        x, u = (
            random(2, 3, 7, 8, dtype=dtype),
            np.random.default_rng(0).random((2, 3, 2)).astype(kind_of(dtype)),
        )
        assert_same(FractionalMaxPool.of((2, 3), (3, 4)), x, u)
        places = np.arange(24).reshape(2, 3, 4) * 2 % 13
        assert_same(WindowPut.of((3, 5)), random(2, 3, 4, dtype=dtype), places)

    def test_nothing(self):
        assert_same(MaxPool.of((2,), (2,), (0,), (1,), (2,)), np.zeros((0, 3, 4), np.float32))


class TestAttention:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("is_causal", [False, True])
    @pytest.mark.parametrize("mask", ["none", "bool", "numbers", "nothing seen"])
    def test_results_and_gradients(self, mask, is_causal, dtype):
        query, key, value = (random(2, 3, n, 4, dtype=dtype, seed=n) for n in (5, 7, 7))
        masks = {
            "none": [],
            "bool": [np.random.default_rng(0).random((3, 5, 7)) < 0.6],
            "numbers": [random(5, 7, dtype=dtype)],
            "nothing seen": [np.zeros((5, 7), bool)],
        }[mask]
        parameters = 0.5, is_causal, bool(masks)
        forward = Attention.of(*parameters)
        assert_same(forward, query, key, value, *masks, scale=6)
        y, log_sum = registry.load("numpy").execute(forward, [query, key, value, *masks])
        g = random(*y.shape, dtype=dtype, seed=3)
        backward = AttentionInput.of(*parameters)
        assert_same(backward, g, query, key, value, y, np.array(log_sum), *masks, scale=20)

    def test_dropout_is_that_of_the_cpu(self):
        found = []
        for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
            with nbdl.use_backend(backend):
                nbdl.manual_seed(1)
                q = nbdl.tensor(random(2, 5, 4), device=device, requires_grad=True)
                nbdl.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5).sum().backward()
                found.append(q.grad.cpu().numpy())
        np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


class TestLeastSquares:
    @pytest.mark.parametrize("driver", ["gels", "gelsy", "gelsd", "gelss"])
    @pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 5, 3)], ids=str)
    def test_drivers(self, shape, driver):
        a, b = random(*shape, dtype="float64"), random(*shape[:-1], 2, dtype="float64", seed=1)
        assert_same(LeastSquares.of(1e-10, driver), a, b, scale=100)


class TestMultinomial:
    @pytest.mark.parametrize("replacement", [True, False])
    def test_samples_are_those_of_the_cpu(self, replacement):
        drawn = []
        for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
            with nbdl.use_backend(backend):
                nbdl.manual_seed(2)
                weights = nbdl.tensor([[0.1, 0.9, 0.0, 2.0], [1.0, 1.0, 1.0, 0.5]], device=device)
                drawn.append(nbdl.multinomial(weights, 3, replacement=replacement).cpu().numpy())
        np.testing.assert_array_equal(*drawn)


def _key(axes, indices):
    key = [slice(None)] * (max(axes) + 1)
    for axis, index in zip(axes, indices, strict=True):
        key[axis] = index
    return tuple(key)
