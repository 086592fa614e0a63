"""Random numbers and dropout of the Numba backend: the stream is that of the NumPy backend, bit by bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.backend import registry
from nbdl.backend.numba import random as planners
from nbdl.backend.numba.launch import Plan, launch
from nbdl.kernels.cpu.random import CHUNK
from nbdl.nn import functional as F
from nbdl.ops.drawing import RandomBernoulli, RandomIntegers, RandomNormal, RandomUniform
from nbdl.ops.dropout import Dropout

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

SEEDS = [(0, 0), (1, 7), (-1, -1), (2**40 + 3, 2**33 + 5)]  # and numbers of draws; both are read as 64 bits
# Shorter than a block, whole and broken blocks and chunks, several axes
SHAPES = [(), (1,), (3,), (64,), (CHUNK - 1,), (CHUNK + 1,), (5, CHUNK), (3, 5, 7), (4, 0)]

pytestmark = pytest.mark.usefixtures("num_threads")


def word(value: int) -> np.ndarray:
    return np.array(value % 2**64, np.uint64).astype(np.int64)


def both(primitive: Any, *operands: np.ndarray) -> tuple[Any, Any]:
    """What a kernel gives, and what NumPy gives."""
    found = NUMBA.execute(primitive, operands)
    size = (found[0] if isinstance(found, tuple) else found).size
    assert isinstance(primitive.find_plan(*operands), Plan) == (size > 0)
    return found, SPECIFICATION.execute(primitive, operands)


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize(("seed", "draw"), SEEDS)
def test_uniform(seed, draw, dtype, shape):
    assert_equal(*both(RandomUniform.of(shape, dtype), word(seed), word(draw)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_normal(dtype, shape):
    for seed, draw in SEEDS:
        found, expected = both(RandomNormal.of(shape, dtype), word(seed), word(draw))
        assert found.dtype == expected.dtype
        # Logarithm, sine and cosine of the two backends differ by some units in the last place of the radius
        np.testing.assert_allclose(found, expected, rtol=0, atol=20 * np.finfo(dtype).eps, strict=True)


# Low and span; spans of all sizes, 0 being 2^64
RANGES = [
    (0, 1), (-5, 2), (0, 3), (7, 1000), (-(2**31), 2**32), (0, 2**32 + 1), (3, 2**53 + 1),
    (-(2**63), 2**63 - 25), (0, 2**63), (-(2**63), 2**63 + 1), (-(2**63), 2**64 - 1), (-(2**63), 0),
]  # fmt: skip


@pytest.mark.parametrize(("low", "span"), RANGES)
def test_integers(low, span):
    primitive = RandomIntegers.of((3 * CHUNK + 1,), np.dtype(np.int64))
    assert_equal(*both(primitive, word(9), word(2), word(low), word(span)))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint64", "float32", "float64"])
def test_integers_of_other_dtypes(dtype):
    primitive = RandomIntegers.of((1001,), np.dtype(dtype))
    assert_equal(*both(primitive, word(9), word(2), word(0), word(100)))


@pytest.mark.parametrize("span", [1, 2, 3, 5, 2**20 - 1, 2**32, 2**53 + 1, 2**62 + 3, 2**63 + 9, 2**64 - 1])
def test_remainders_around_multiples(span):
    from numba import njit

    from nbdl.kernels.cpu.random import _inverse, _remainder

    @njit(error_model="numpy")
    def remainders(x, divisor, out):
        inverse = _inverse(divisor)
        for i in range(x.size):
            out[i] = _remainder(x[i], divisor, inverse)

    quotients = {*range(4), 2**64 // span, *[2**k for k in range(64) if 2**k * span < 2**64]}
    values = {min(max(q * span + d, 0), 2**64 - 1) for q in quotients for d in (-2, -1, 0, 1, 2)}
    x = np.array(sorted(values), np.uint64)
    out = np.empty_like(x)
    remainders(x, np.uint64(span), out)
    assert out.tolist() == [value % span for value in x.tolist()]


PROBABILITIES = [0.0, 1.0, 0.5, 0.3, 2.0**-32, 1 - 2.0**-32, 1e-300]


@pytest.mark.parametrize("p_dtype", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
def test_bernoulli_with_one_probability(dtype, p_dtype):
    for shape in SHAPES:
        for p in PROBABILITIES:
            primitive = RandomBernoulli.of(shape, np.dtype(dtype))
            assert_equal(*both(primitive, word(3), word(4), np.array(p, p_dtype)))


def layouts(shape: tuple[int, ...], dtype: np.dtype) -> dict[str, np.ndarray]:
    """Arrays in [0, 1) of one shape with all kinds of strides."""
    full = np.random.default_rng(0).random([2 * n + 1 for n in shape]).astype(dtype)
    window = full[tuple(slice(n) for n in shape)]
    return {
        "C": np.ascontiguousarray(window),
        "F": np.asfortranarray(window),
        "channels last": np.moveaxis(np.ascontiguousarray(np.moveaxis(window, 1, -1)), -1, 1),
        "window": window,
        "stepped": full[tuple(slice(None, 2 * n, 2) for n in shape)],
        "reversed": window[::-1, ::-1],
        "repeated rows": np.broadcast_to(window[:1], shape),
        "repeated columns": np.broadcast_to(window[..., :1], shape),
    }


LAYOUTS = sorted(layouts((2, 2), SINGLE))
STRIDED_SHAPES = [(3, 1500), (70, 5, 13), (2, 3, 4, 5)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_bernoulli_with_many_probabilities(dtype, layout):
    for shape in STRIDED_SHAPES:
        p = layouts(shape, dtype)[layout]
        assert_equal(*both(RandomBernoulli.of(shape, dtype), word(3), word(4), p))


def test_bernoulli_broadcasts_probabilities():
    for p_shape in [(), (1,), (7,), (1, 7), (5, 1), (5, 7)]:
        p = np.random.default_rng(1).random(p_shape)
        assert_equal(*both(RandomBernoulli.of((5, 7), DOUBLE), word(3), word(4), p))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_dropout(dtype, layout):
    for shape in STRIDED_SHAPES:
        x = layouts(shape, dtype)[layout]
        x = np.where(x > 0.9, np.array(np.inf, dtype), x) if layout == "C" else x
        for p in (0.0, 0.5, 0.3, 0.999, 1.0):
            found, expected = both(Dropout.of(), word(6), word(-2), x, np.array(p))
            assert_equal(found[1], expected[1])
            assert_equal(found[0], expected[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dropout_of_contiguous_shapes(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(SINGLE)
    for found, expected in zip(*both(Dropout.of(), word(6), word(0), x, np.array(0.25)), strict=True):
        assert_equal(found, expected)


def test_dropout_keeps_the_layout():
    x = layouts((4, 3, 5, 6), SINGLE)["channels last"]
    y, kept = NUMBA.execute(Dropout.of(), (word(0), word(0), x, np.array(0.5)))
    assert y.strides == x.strides
    assert kept.flags.c_contiguous


def test_what_a_replay_changes_is_read_at_the_launch():
    """One plan, launched again after seed, number of the draw and probability changed in place."""
    seed, draw, p, x = word(0), word(0), np.array(0.1), np.ones(100, SINGLE)
    plan = planners.plan_dropout((seed, draw, x, p), None)
    y, kept = plan.allocate()
    for values in ((3, 1, 0.2), (3, 2, 0.2), (4, 2, 0.9)):
        seed[...], draw[...], p[...] = values
        launch(plan.block, seed, draw, x, p, y, kept)
        expected = SPECIFICATION.execute(Dropout.of(), (seed, draw, x, p))
        assert_equal(y, expected[0])
        assert_equal(kept, expected[1])


@pytest.mark.parametrize("draw", [nbdl.rand, nbdl.randn])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_generators_draw_alike_on_both_backends(draw, dtype):
    numbers = []
    for name in ("numpy", "numba"):
        with nbdl.use_backend(name):
            source = nbdl.Generator().manual_seed(5)
            numbers.append(np.stack([draw(33, dtype=dtype, generator=source).numpy() for _ in range(3)]))
    np.testing.assert_allclose(*numbers, rtol=0, atol=0 if draw is nbdl.rand else 1e-5)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_derivatives_of_dropout(p, backend):
    def drop(x: nbdl.Tensor) -> nbdl.Tensor:
        nbdl.manual_seed(0)
        return F.dropout(x, p) * x

    x = nbdl.tensor(np.random.default_rng(0).standard_normal((4, 5)), requires_grad=True)
    assert gradcheck(drop, [x], check_forward_ad=True)
    assert gradgradcheck(drop, [x])


def test_gradient_of_dropout_is_that_of_the_mask(backend):
    x = nbdl.tensor(layouts((3, 4, 5), SINGLE)["channels last"], requires_grad=True)
    y = F.dropout(x, 0.4)
    y.backward(nbdl.full((3, 4, 5), 2.0))
    scale = np.float32(1 / (1 - 0.4))
    expected = np.where(y.detach().numpy() != 0, np.float32(2) * scale, 0)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_dropout_saves_the_mask_only(backend):
    x = nbdl.ones(50, requires_grad=True)
    hidden = x * 2
    y = F.dropout(hidden, 0.5)
    y.mul_(3)
    hidden.mul_(3)  # neither is read by the gradient
    y.sum().backward()
    assert set(x.grad.numpy().tolist()) == {0.0, 12.0}


def test_dropout_in_place_and_fused_agree(backend):
    x = np.random.default_rng(0).standard_normal((7, 9))
    nbdl.manual_seed(1)
    fused = F.dropout(nbdl.tensor(x), 0.3)
    nbdl.manual_seed(1)
    np.testing.assert_array_equal(F.dropout(nbdl.tensor(x), 0.3, inplace=True).numpy(), fused.numpy())


def test_dropout_of_integers(backend):
    with pytest.raises(RuntimeError, match=r"dropout: the dtype of the input must be floating, got .*int64"):
        F.dropout(nbdl.arange(3), 0.5)


def test_normal_moments():
    nbdl.manual_seed(0)
    for dtype in ("float32", "float64"):
        x = nbdl.randn(200_001, dtype=dtype).numpy().astype(DOUBLE)
        for moment, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
            spread = math.sqrt(math.prod(range(2 * moment - 1, 0, -2)) / x.size)
            assert abs((x**moment).mean() - expected) < 5 * spread
