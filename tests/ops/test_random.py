"""Philox, generators and distributions."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import nbdl
from nbdl.backend.numpy.random import philox4x32

N = 100_000
# Probability of a false alarm of a statistical test; seeds are fixed, so a passing test stays passing.
ALARM = 1e-3


def generator(seed: int = 0) -> nbdl.Generator:
    return nbdl.Generator().manual_seed(seed)


# From the file kat_vectors of Random123 1.14 (Salmon et al. 2011), philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    words = [np.array([word], np.uint64) for word in counter]
    assert tuple(int(word[0]) for word in philox4x32(tuple(words), key)) == expected


def word(seed: int, draw: int, position: int) -> int:
    """One word of the stream, straight from its definition."""
    block = position // 4
    counter = [block & 0xFFFFFFFF, block >> 32, draw & 0xFFFFFFFF, draw >> 32]
    words = philox4x32(tuple(np.array([c], np.uint64) for c in counter), (seed & 0xFFFFFFFF, seed >> 32))
    return int(words[position % 4][0])


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3, 2**64 - 1])
@pytest.mark.parametrize("draw", [0, 1, 7])
def test_the_stream_is_what_is_documented(seed: int, draw: int, backend: str) -> None:
    source = generator(seed)
    for _ in range(draw):
        nbdl.rand(1, generator=source)
    state = source.get_state()

    def again() -> nbdl.Generator:
        source.set_state(state)
        return source

    words = [word(seed, draw, k) for k in range(16)]
    assert nbdl.rand(5, generator=again()).tolist() == [(w >> 8) * 2.0**-24 for w in words[:5]]
    wide = [((a >> 5) * 2**26 + (b >> 6)) * 2.0**-53 for a, b in zip(words[::2], words[1::2], strict=True)]
    assert nbdl.rand(5, dtype="float64", generator=again()).tolist() == wide[:5]
    whole = [(b << 32 | a) % 1000 - 7 for a, b in zip(words[::2], words[1::2], strict=True)]
    assert nbdl.randint(-7, 993, (5,), generator=again()).tolist() == whole[:5]
    assert nbdl.bernoulli(nbdl.full((5,), 0.25), generator=again()).tolist() == [w < 2**30 for w in words[:5]]
    normal = nbdl.randn(3, dtype="float64", generator=again()).tolist()
    radius, angle = math.sqrt(-2 * math.log(wide[0] + 2.0**-54)), 2 * math.pi * wide[1]
    assert normal[:2] == pytest.approx([radius * math.cos(angle), radius * math.sin(angle)], rel=1e-13)
    single = nbdl.randn(3, generator=again()).tolist()
    radius, angle = math.sqrt(-2 * math.log((words[0] + 0.5) * 2.0**-32)), 2 * math.pi * words[1] * 2.0**-32
    assert single[:2] == pytest.approx(
        [radius * math.cos(angle), radius * math.sin(angle)], rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("draw", [nbdl.rand, nbdl.randn])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shorter_draw_is_a_prefix(draw: Callable[..., Any], dtype: str) -> None:
    whole = draw(70_001, dtype=dtype, generator=generator()).numpy()
    for count in (0, 1, 2, 3, 5, 65_536):
        np.testing.assert_array_equal(draw(count, dtype=dtype, generator=generator()).numpy(), whole[:count])
    np.testing.assert_array_equal(draw(7, 11, dtype=dtype, generator=generator()).numpy().ravel(), whole[:77])


def test_seeds() -> None:
    source = generator(5)
    first, second = nbdl.rand(100, generator=source), nbdl.rand(100, generator=source)
    assert (first != second).any()
    assert nbdl.equal(first, nbdl.rand(100, generator=generator(5)))
    assert (first != nbdl.rand(100, generator=generator(6))).any()
    assert source.initial_seed() == 5
    assert generator(-1).initial_seed() == 2**64 - 1
    assert source.seed() == source.initial_seed() != 5
    assert nbdl.Generator().initial_seed() != nbdl.Generator().initial_seed()


def test_states() -> None:
    source = generator(3)
    nbdl.rand(4, generator=source)
    state = source.get_state()
    assert state.dtype == np.uint8
    expected = nbdl.rand(4, generator=source)
    source.set_state(state)
    for other in (source, copy.deepcopy(nbdl.Generator()), pickle.loads(pickle.dumps(nbdl.Generator()))):
        other.set_state(state)
        assert nbdl.equal(nbdl.rand(4, generator=other), expected)
    assert "seed=3 draws=2" in repr(source)


def test_the_default_generator() -> None:
    returned = nbdl.manual_seed(11)
    expected = nbdl.rand(3)
    assert returned.initial_seed() == nbdl.initial_seed() == 11
    nbdl.manual_seed(11)
    state = nbdl.get_rng_state()
    assert nbdl.equal(nbdl.rand(3), expected)
    nbdl.set_rng_state(state)
    with nbdl.random.fork_rng():
        nbdl.rand(3)
    assert nbdl.equal(nbdl.rand(3), expected)
    assert nbdl.seed() == nbdl.initial_seed()


def test_threads_draw_different_numbers() -> None:
    source, rows = generator(), []
    workers = [
        threading.Thread(
            target=lambda: rows.extend(nbdl.rand(2, generator=source).tolist() for _ in range(20))
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({tuple(row) for row in rows}) == 80


DISTRIBUTIONS: dict[str, tuple[Callable[[], Any], Any]] = {
    "rand": (lambda: nbdl.rand(N, generator=generator()), stats.uniform),
    "rand, float64": (lambda: nbdl.rand(N, dtype="float64", generator=generator(1)), stats.uniform),
    "randn": (lambda: nbdl.randn(N, generator=generator(2)), stats.norm),
    "randn, float64": (lambda: nbdl.randn(N, dtype="float64", generator=generator(3)), stats.norm),
    "normal": (lambda: nbdl.normal(2.0, 3.0, (N,), generator=generator(4)), stats.norm(2, 3)),
    "uniform_": (lambda: nbdl.empty(N).uniform_(-1, 3, generator=generator(5)), stats.uniform(-1, 4)),
    "normal_": (lambda: nbdl.empty(N).normal_(1, 0.5, generator=generator(6)), stats.norm(1, 0.5)),
    "exponential_": (
        lambda: nbdl.empty(N, dtype="float64").exponential_(2, generator=generator(7)),
        stats.expon(scale=0.5),
    ),
    "cauchy_": (
        lambda: nbdl.empty(N, dtype="float64").cauchy_(1, 2, generator=generator(8)),
        stats.cauchy(1, 2),
    ),
    "log_normal_": (
        lambda: nbdl.empty(N).log_normal_(0.1, 0.5, generator=generator(9)),
        stats.lognorm(0.5, scale=math.exp(0.1)),
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_continuous_distributions(name: str) -> None:
    draw, distribution = DISTRIBUTIONS[name]
    sample = draw().numpy()
    assert stats.kstest(sample, distribution.cdf).pvalue > ALARM
    neighbours = np.corrcoef(distribution.cdf(sample[:-1]), distribution.cdf(sample[1:]))[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(N)


COUNTS: dict[str, tuple[Callable[[], Any], list[float]]] = {
    "randint": (lambda: nbdl.randint(0, 5, (N,), generator=generator()), [0.2] * 5),
    "randint, uint8": (lambda: nbdl.randint(2, (N,), dtype="uint8", generator=generator(1)), [0.5] * 2),
    "random_": (lambda: nbdl.empty(N, dtype="int64").random_(3, generator=generator(2)), [1 / 3] * 3),
    "bernoulli": (lambda: nbdl.bernoulli(nbdl.full((N,), 0.3), generator=generator(3)), [0.7, 0.3]),
    "bernoulli_": (lambda: nbdl.empty(N).bernoulli_(0.9, generator=generator(4)), [0.1, 0.9]),
    "geometric_": (
        lambda: nbdl.empty(N).geometric_(0.5, generator=generator(5)).clamp(max=4) - 1,
        [0.5, 0.25, 0.125, 0.125],
    ),
    "multinomial": (
        lambda: nbdl.tensor([1.0, 0.0, 3.0]).multinomial(N, True, generator=generator(6)),
        [0.25, 0.0, 0.75],
    ),
    "multinomial, first": (
        lambda: nbdl.tensor([[1.0, 2.0, 5.0]]).repeat(N, 1).multinomial(2, generator=generator(7))[:, 0],
        [0.125, 0.25, 0.625],
    ),
    "randperm": (
        lambda: nbdl.stack(
            [nbdl.randperm(3, generator=source) for source in [generator(8)] for _ in range(2000)]
        )[:, 0],
        [1 / 3] * 3,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_discrete_distributions(name: str) -> None:
    draw, expected = COUNTS[name]
    sample = draw().numpy().astype(int)
    assert sample.min() >= 0
    found = np.bincount(sample, minlength=len(expected))
    assert len(found) == len(expected)
    possible = np.array(expected) > 0
    assert not found[~possible].any()
    assert stats.chisquare(found[possible], np.array(expected)[possible] * len(sample)).pvalue > ALARM


def test_dtypes_shapes_and_gradients() -> None:
    for dtype in ("float16", "float32", "float64"):
        sample = nbdl.rand(2000, dtype=dtype, generator=generator())
        assert sample.dtype == dtype
        assert 0 <= sample.min().item() < 0.01
        assert 0.99 < sample.max().item() < 1
    assert nbdl.rand((2, 3), requires_grad=True).requires_grad
    assert nbdl.randn(()).shape == ()
    x = nbdl.zeros(2, 3, dtype="float64", requires_grad=True)
    assert nbdl.rand_like(x).dtype == np.float64
    assert nbdl.randn_like(x, dtype="float32").dtype == np.float32
    assert not nbdl.normal(x, 1.0).requires_grad
    assert nbdl.randint_like(x, 2, 3).tolist() == [[2.0] * 3] * 2
    assert nbdl.randint(low=3, high=4, size=(1,)).tolist() == [3]
    assert nbdl.empty(3, dtype="int8").random_().min().item() >= 0
    assert nbdl.normal(nbdl.zeros(2, 1), nbdl.ones(3)).shape == (2, 3)
    assert nbdl.bernoulli(nbdl.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_permutations_and_samples_without_replacement() -> None:
    assert sorted(nbdl.randperm(1000, generator=generator()).tolist()) == list(range(1000))
    assert nbdl.randperm(0).shape == (0,)
    assert nbdl.randperm(3, dtype="int32").dtype == np.int32
    rows = nbdl.ones(50, 6).multinomial(6, generator=generator())
    assert (rows.sort(1).values == nbdl.arange(6)).all()


def test_filling_cuts_off_the_history() -> None:
    x = nbdl.ones(3, requires_grad=True)
    y = x * 2
    y.uniform_(generator=generator())
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.normal_()


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "rand, size": (lambda: nbdl.rand(-1), RuntimeError, r"rand: .* negative dimension -1"),
    "rand, float size": (lambda: nbdl.rand(1.5), TypeError, "rand: sizes must be integers"),
    "rand, dtype": (
        lambda: nbdl.rand(2, dtype="int64"),
        RuntimeError,
        "rand: expected a floating dtype, got int64",
    ),
    "generator": (
        lambda: nbdl.rand(2, generator=3),
        TypeError,
        "rand: generator must be a nbdl.Generator, got int",
    ),
    "seed": (lambda: nbdl.manual_seed(1.5), TypeError, "manual_seed: seed must be an integer, got float"),
    "seed, large": (lambda: nbdl.manual_seed(2**64), RuntimeError, "manual_seed: seed must be in"),
    "state": (lambda: generator().set_state(nbdl.zeros(16)), TypeError, "set_state: expected a uint8 tensor"),
    "state, size": (
        lambda: generator().set_state(nbdl.zeros(8, dtype="uint8")),
        RuntimeError,
        "set_state: expected 16 bytes",
    ),
    "randint": (lambda: nbdl.randint(3, 3, (2,)), RuntimeError, "randint: expects low .* low=3 >= high=3"),
    "randint, size": (lambda: nbdl.randint(3), TypeError, "randint: missing argument size"),
    "randperm": (lambda: nbdl.randperm(-1), RuntimeError, "randperm: n must be non-negative, got -1"),
    "normal": (
        lambda: nbdl.normal(0.0, -1.0, (2,)),
        RuntimeError,
        "normal: expects all elements of std >= 0",
    ),
    "normal, size": (lambda: nbdl.normal(0.0, 1.0), TypeError, "normal: missing argument size"),
    "bernoulli": (
        lambda: nbdl.bernoulli(nbdl.tensor([2.0])),
        RuntimeError,
        "bernoulli: expected all probabilities",
    ),
    "bernoulli, p": (
        lambda: nbdl.zeros(2).bernoulli_(1.5),
        RuntimeError,
        "bernoulli: expects p .* got p=1.5",
    ),
    "multinomial": (
        lambda: nbdl.tensor([1.0, -1.0]).multinomial(1),
        RuntimeError,
        "multinomial: .* element < 0",
    ),
    "multinomial, zeros": (
        lambda: nbdl.zeros(2).multinomial(1),
        RuntimeError,
        "multinomial: invalid distribution",
    ),
    "multinomial, many": (
        lambda: nbdl.ones(2).multinomial(3),
        RuntimeError,
        "multinomial: cannot sample 3 of 2",
    ),
    "uniform_": (lambda: nbdl.zeros(2).uniform_(2, 1), RuntimeError, "uniform_: .* from=2 > to=1"),
    "exponential_": (
        lambda: nbdl.zeros(2).exponential_(0),
        RuntimeError,
        "exponential_: expects lambda > 0.0",
    ),
    "geometric_": (lambda: nbdl.zeros(2).geometric_(1), RuntimeError, "geometric_: expects p"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function()
