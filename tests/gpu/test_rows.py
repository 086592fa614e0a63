"""Softmax, cross-entropy and random numbers on the GPU backend: what NumPy gives, without waiting."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import standin
from gpu.samples import SPECIAL, assert_same, layouts, on_device

import nbdl
from nbdl.backend import registry
from nbdl.formula import dtypes
from nbdl.ops.drawing import RandomBernoulli, RandomIntegers, RandomNormal, RandomUniform
from nbdl.ops.dropout import Dropout
from nbdl.ops.softmax import (
    CrossEntropy,
    CrossEntropyInput,
    LogSoftmax,
    LogSoftmaxInput,
    Softmax,
    SoftmaxInput,
)

pytestmark = pytest.mark.usefixtures("gpu")

FORWARD = [Softmax, LogSoftmax]
BACKWARD = [SoftmaxInput, LogSoftmaxInput]
KINDS = ["float32", "float64", "float16", "bfloat16"]


def kind_of(name: str) -> np.dtype:
    if name != "bfloat16":
        return np.dtype(name)
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    return dtypes.bfloat16()


def random(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(kind_of(dtype))


class TestSoftmax:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("primitive", FORWARD)
    def test_dtypes(self, primitive, dtype):
        assert_same(primitive.of(1), random(7, 11, dtype=dtype), scale=3)

    @pytest.mark.parametrize("primitive", BACKWARD)
    def test_gradients(self, primitive):
        for dtype in KINDS:
            y, g = random(7, 11, dtype=dtype), random(7, 11, dtype=dtype, seed=1)
            assert_same(primitive.of(1), y, g, scale=12, label=dtype)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 10), (2, 257), (70, 3), (2, 1000)], ids=str)
    @pytest.mark.parametrize("axis", [0, 1])
    def test_sizes_around_blocks(self, shape, axis, order):
        x, g = random(*shape), random(*shape, seed=1)
        assert_same(Softmax.of(axis), x, scale=2)
        assert_same(LogSoftmaxInput.of(axis), x, g, scale=30)

    def test_layouts_and_axes(self):
        for name, x in layouts((3, 4, 5), np.float32).items():
            for axis in range(3):
                assert_same(LogSoftmax.of(axis), x, scale=2, label=f"{name} {axis}")

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4)], ids=str)
    def test_nothing(self, shape):
        x = np.zeros(shape, np.float32)
        for axis in range(len(shape)):
            if x.shape[axis]:
                assert_same(Softmax.of(axis), x)

    def test_special_values(self):
        rows = [SPECIAL, [-np.inf] * 19, [-np.inf] * 18 + [1], [1e30] * 19, [np.inf] + [0] * 18, [-1e4] * 19]
        x = np.array(rows, np.float32)
        for primitive in FORWARD:
            assert_same(primitive.of(1), x)
            assert_same(primitive.of(0), x.T.copy())


class TestCrossEntropy:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("shape", [(6, 10), (3, 5, 4), (1, 1), (2, 300)], ids=str)
    def test_losses_and_gradients(self, shape, dtype):
        logits = random(*shape, dtype=dtype)
        target = np.random.default_rng(0).integers(0, shape[1], (shape[0], *shape[2:]))
        target.flat[0] = -100
        g = random(*target.shape, dtype=dtype, seed=2)
        assert_same(CrossEntropy.of(-100), logits, target, scale=3)
        assert_same(CrossEntropyInput.of(-100), logits, target.astype(np.int32), g, scale=3)

    def test_a_class_that_does_not_exist_gives_nan(self):
        execute = registry.load("cupy").execute
        operands = on_device(random(2, 3)), on_device(np.array([3, 1]))
        losses, p = execute(CrossEntropy.of(-100), operands)
        assert np.isnan(losses.get()).tolist() == [True, False]
        gradient = execute(CrossEntropyInput.of(-100), (p, operands[1], losses)).get()
        assert np.isnan(gradient).all(1).tolist() == [True, False]

    def test_nobody_waits(self, gpu):
        if gpu != "standin":
            pytest.skip("counts what the stand-in does")
        x, target = nbdl.randn(5, 3, requires_grad=True), nbdl.zeros(5, dtype=nbdl.int64)
        standin.counters.reset()
        nbdl.nn.functional.cross_entropy(nbdl.nn.functional.dropout(x), target).backward()
        assert standin.counters.synchronisations == 0


def drawn(primitive, *operands):
    """Seed and number of a draw, with bits in all words, and what the primitive takes besides."""
    seed, draw = np.array(0x0123456789ABCDEF), np.array(-5)
    return assert_same(primitive, seed, draw, *operands)


class TestRandom:
    @pytest.fixture(autouse=True)
    def _on_the_device(self, monkeypatch):
        """Seeds are arrays of the device; the NumPy backend takes the same ones from the host."""
        execute = registry.load("cupy").execute

        def with_seeds(primitive, arrays, out=None):
            places = [on_device(x.reshape(1)).reshape(()) for x in arrays[:2]]
            return execute(primitive, [*places, *arrays[2:]], out)

        monkeypatch.setattr(registry.load("cupy"), "execute", with_seeds, raising=False)

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 1023, 1026])
    @pytest.mark.parametrize("dtype", KINDS)
    def test_uniform_numbers(self, count, dtype):
        drawn(RandomUniform.of((count,), kind_of(dtype)))

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 1027])
    @pytest.mark.parametrize("dtype", KINDS)
    def test_normal_numbers(self, count, dtype):
        drawn(RandomNormal.of((count,), kind_of(dtype)))

    @pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
    def test_integers(self, dtype):
        for low, span in ((0, 10), (-5, 7), (-(1 << 63), 0), (3, 1)):
            if dtype == "int64" or low in (0, 3):
                drawn(RandomIntegers.of((3, 5), np.dtype(dtype)), np.array(low), np.array(span))

    @pytest.mark.parametrize("dtype", ["bool", "float32", "float16"])
    def test_bernoulli(self, dtype):
        p = np.linspace(0, 1, 5).astype(np.float32)
        drawn(RandomBernoulli.of((3, 5), np.dtype(dtype)), np.array(0.3))
        drawn(RandomBernoulli.of((3, 5), np.dtype(dtype)), p)

    @pytest.mark.parametrize("dtype", KINDS)
    def test_dropout(self, dtype, order):
        for x in (random(3, 7, dtype=dtype), random(4, 4, dtype=dtype).T):
            drawn(Dropout.of(), x, np.array(0.4))


class TestStreams:
    """Numbers are those of the CPU backends, bit by bit, but for the rounding of logarithms and cosines."""

    @staticmethod
    def streams(draw, sizes):
        """What the three backends draw one after the other, and their generators' states then."""
        found = []
        for backend, device in (("numpy", "cpu"), ("numba", "cpu"), ("cupy", "cuda")):
            with nbdl.use_backend(backend):
                generator = nbdl.Generator(device).manual_seed((1 << 40) + 7)
                made = [draw(size, device, generator).cpu() for size in sizes]
                found.append([*made, generator.get_state().cpu()])
        return found

    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("name", ["uniform", "bernoulli", "integers", "dropout", "normal"])
    def test_sizes_and_dtypes(self, name, dtype):
        kind = getattr(nbdl, dtype)
        kind_of(dtype)
        draws = {
            "uniform": lambda n, d, g: nbdl.rand(n, dtype=kind, device=d, generator=g),
            "bernoulli": lambda n, d, g: nbdl.full((n,), 0.3, dtype=kind, device=d).bernoulli(generator=g),
            "integers": lambda n, d, g: nbdl.randint(-9, 9, (n,), dtype=kind, device=d, generator=g),
            "normal": lambda n, d, g: nbdl.randn(n, dtype=kind, device=d, generator=g),
        }

        def dropped(n, device, generator):
            nbdl.manual_seed(n)
            return nbdl.nn.functional.dropout(nbdl.ones(n, dtype=kind, device=device) * 3, 0.3)

        numpy, *others = self.streams(draws.get(name, dropped), [1, 2, 3, 5, 1024, 1027])
        for other in others:
            for a, b in zip(other, numpy, strict=True):
                if name == "normal" and a.dtype == kind:
                    tolerance = {"float64": 1e-14, "float32": 2e-6}.get(dtype, 1e-2)
                    x, y = a.double().numpy(), b.double().numpy()
                    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
                else:
                    assert a.numpy().tobytes() == b.numpy().tobytes()


def test_generators_agree():
    wanted = []
    for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
        with nbdl.use_backend(backend):
            nbdl.manual_seed(3)
            made = [make(5, device=device) for make in (nbdl.rand, nbdl.randn, nbdl.randperm)]
            made.append(nbdl.nn.functional.dropout(nbdl.ones(9, device=device)))
            wanted.append([x.cpu().numpy() for x in made])
    for a, b in zip(*wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
