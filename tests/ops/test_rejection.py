"""Gamma, Poisson, binomial and von Mises numbers, and how gamma numbers depend on their parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.ops.gamma import log_gamma_slope
from nbdl.ops.rejection import log_standard_gamma, standard_von_mises

N = 20_000
# Probability of a false alarm of a statistical test; seeds are fixed, so a passing test stays passing.
ALARM = 1e-3


def generator(seed: int = 0) -> nbdl.Generator:
    return nbdl.Generator().manual_seed(seed)


def full(value: float, size: Any = N, dtype: str = "float64") -> nbdl.Tensor:
    return nbdl.full((size,) if isinstance(size, int) else size, value, dtype=dtype)


CONTINUOUS = [
    *[(log_standard_gamma, a, stats.loggamma(a)) for a in (0.2, 0.999, 1.0, 1.7, 30.0, 1e5)],
    *[(standard_von_mises, k, stats.vonmises(k)) for k in (1e-6, 0.3, 4.0, 700.0)],
    (standard_von_mises, 1e12, stats.norm(scale=1e-6)),
]


@pytest.mark.parametrize(("draw", "parameter", "expected"), CONTINUOUS)
def test_continuous_numbers(draw: Any, parameter: float, expected: Any) -> None:
    sample = draw(full(parameter), generator=generator()).numpy()
    assert stats.kstest(sample, expected.cdf).pvalue > ALARM


def test_tiny_gamma_numbers() -> None:
    """x^a is uniform but for O(a), where x itself is below all floats."""
    sample = log_standard_gamma(full(1e-4), generator=generator()).numpy()
    assert sample.min() < -1e4
    assert stats.kstest(-1e-4 * sample, stats.expon().cdf).pvalue > ALARM


COUNTS = [
    *[(nbdl.poisson, (rate,), stats.poisson(rate)) for rate in (0.01, 1.3, 9.99, 10.0, 47.5, 2e4)],
    *[
        (nbdl.binomial, (n, p), stats.binom(n, p))
        for n, p in [(1, 0.3), (12, 0.5), (40, 0.02), (40, 0.98), (50, 0.4), (300, 0.9), (10**6, 0.3)]
    ],
]  # fmt: skip


@pytest.mark.parametrize(("draw", "parameters", "expected"), COUNTS)
def test_counts(draw: Any, parameters: tuple[float, ...], expected: Any) -> None:
    sample = draw(*map(full, parameters), generator=generator(1)).numpy()
    assert (sample == np.floor(sample)).all()
    edges = np.unique(expected.ppf(np.linspace(0, 1, 21)[1:-1]))
    probabilities = np.diff(expected.cdf(edges), prepend=0, append=1)
    observed = np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1)
    likely = N * probabilities > 5
    observed = [*observed[likely], observed[~likely].sum() + 1e-9]
    frequencies = [*(N * probabilities[likely]), N * probabilities[~likely].sum() + 1e-9]
    assert stats.chisquare(observed, frequencies).pvalue > ALARM


DRAWS = {
    "gamma": lambda x, g: log_standard_gamma(x, generator=g),
    "von Mises": lambda x, g: standard_von_mises(x, generator=g),
    "poisson": lambda x, g: nbdl.poisson(x, generator=g),
    "binomial": lambda x, g: nbdl.binomial((x * 10).floor(), x / (x + 1), generator=g),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_an_element_depends_on_its_place_alone(draw: Any, backend: str) -> None:
    parameters = nbdl.linspace(0.1, 25.0, 20_001, dtype="float64")
    whole = draw(parameters, generator()).numpy()
    for count in (0, 1, 7, 16_385):
        np.testing.assert_array_equal(draw(parameters[:count], generator()).numpy(), whole[:count])
    # The same place with another parameter left and right of it, in another shape, narrower
    other = parameters.clone()
    other[::2] = 3.0
    np.testing.assert_array_equal(draw(other, generator()).numpy()[1::2], whole[1::2])
    square = draw(parameters[:100].reshape(20, 5), generator())
    np.testing.assert_array_equal(square.numpy().ravel(), whole[:100])
    assert draw(parameters.float(), generator()).dtype == nbdl.float32
    assert (draw(parameters, generator(1)).numpy() != whole).any()


def test_backends_draw_the_same() -> None:
    parameters = nbdl.linspace(0.1, 25.0, 1000, dtype="float64")
    for draw in DRAWS.values():
        found = []
        for name in ("numpy", "numba"):
            with nbdl.use_backend(name):
                found.append(draw(parameters, generator(3)).numpy())
        np.testing.assert_allclose(*found, rtol=1e-13)  # logarithms may differ in the last place


def test_parameters_outside() -> None:
    wrong = nbdl.tensor([-1.0, 0.0, float("nan"), float("inf")], dtype="float64")
    for draw in (log_standard_gamma, standard_von_mises):
        assert bool(draw(wrong).isnan().all())
    assert nbdl.poisson(nbdl.zeros(3)).tolist() == [0, 0, 0]
    assert nbdl.binomial(nbdl.tensor([0.0, 5.0, 5.0]), nbdl.tensor([0.5, 0.0, 1.0])).tolist() == [0, 0, 5]


ERRORS = {
    "poisson: expected a floating tensor": lambda: nbdl.poisson(nbdl.tensor([1])),
    "poisson: expected all rates to be >= 0": lambda: nbdl.poisson(nbdl.tensor([-1.0])),
    "binomial: expected count and prob of one": lambda: nbdl.binomial(full(1.0), full(0.5, dtype="float32")),
    "binomial: expected count >= 0": lambda: nbdl.binomial(full(3.0), full(1.5)),
    "binomial: shapes .* cannot be broadcast": lambda: nbdl.binomial(full(3.0, 2), full(0.5, 3)),
}


@pytest.mark.parametrize(("message", "call"), ERRORS.items())
def test_errors(message: str, call: Any) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()


@pytest.fixture
def specification() -> Iterator[None]:
    """Without kernels to compile: those of formulas are tested with the formulas."""
    with nbdl.use_backend("numpy"):
        yield


# ----------------------------------------------------------------------------------- dependence on parameters
CONCENTRATIONS = (1e-6, 1e-3, 0.1, 0.7, 1.0, 2.3, 18.0, 400.0, 1e4)


def test_slope_against_the_inverse(backend: str) -> None:
    """By finite differences of SciPy's inverse of the distribution function, a fourth-order formula."""
    a = np.repeat((0.1, 0.7, 1.0, 2.3, 18.0, 400.0), 9)
    u = np.tile([1e-4, 0.02, 0.2, 0.4, 0.5, 0.7, 0.9, 0.99, 0.9999], 6)
    h = 1e-3 * a

    def log_inverse(a: np.ndarray) -> np.ndarray:
        return np.log(special.gammaincinv(a, u))

    near, far = log_inverse(a + h) - log_inverse(a - h), log_inverse(a + 2 * h) - log_inverse(a - 2 * h)
    slope = log_gamma_slope(nbdl.tensor(a), nbdl.tensor(log_inverse(a))).numpy()
    np.testing.assert_allclose(slope, (8 * near - far) / (12 * h), rtol=2e-9)


@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_slope_against_many_digits(a: float) -> None:
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    y = log_standard_gamma(full(a, 500), generator=generator()).numpy()
    y = np.append(np.quantile(y, [0, 0.3, 0.6, 1]), np.log([1.45, 1.55]) if a < 20 else [])
    with mpmath.workdps(50):
        expected = [float(_slope(mpmath, mpmath.mpf(a), mpmath.mpf(float(value)))) for value in y]
    found = log_gamma_slope(full(a, len(y)), nbdl.tensor(y)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12 if a > 1e3 else 1e-13)


def test_slope_in_the_tails() -> None:
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    places = [
        (1e-3, 30.0),
        (0.5, 1.01),
        (0.5, 50.0),
        (0.5, 1e3),
        (1.2, 1e-30),
        (5.0, 1.2),
        (100.0, 5.0),
        (1e3, 2e3),
    ]
    a, x = np.array(places).T
    with mpmath.workdps(60):
        expected = [float(_slope(mpmath, mpmath.mpf(p), mpmath.log(mpmath.mpf(q)))) for p, q in places]
    found = log_gamma_slope(nbdl.tensor(a), nbdl.tensor(np.log(x)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def _slope(mp: Any, a: Any, y: Any) -> Any:
    x, h = mp.exp(y), a * mp.mpf(10) ** -16

    def below(a: Any) -> Any:
        if x < a + 1:
            return mp.gammainc(a, 0, x, regularized=True)
        return -mp.gammainc(a, x, mp.inf, regularized=True)

    density = mp.exp(a * y - x) / mp.gamma(a)
    return -(below(a + h) - below(a - h)) / (2 * h) / density


def test_gradients_of_samples(specification: None) -> None:
    """The slope's own derivatives: of samples to second order."""
    a = nbdl.tensor([0.3, 1.1, 2.0, 7.0, 60.0], dtype="float64", requires_grad=True)

    def slope(a: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        return log_gamma_slope(a, y)

    y = log_standard_gamma(a.detach(), generator=generator()).requires_grad_()
    assert gradcheck(slope, (a, y))
    assert gradgradcheck(slope, (a, y))
    sample = log_standard_gamma(a, generator=generator())
    (first,) = nbdl.autograd.grad(sample.sum(), a, create_graph=True)
    np.testing.assert_allclose(first.tolist(), slope(a, y).tolist(), rtol=1e-13)
    (second,) = nbdl.autograd.grad(first.sum(), a)
    partials = nbdl.autograd.grad(slope(a, y).sum(), (a, y))
    np.testing.assert_allclose(second.tolist(), (partials[0] + partials[1] * first).tolist(), rtol=1e-12)


def test_forward_mode_and_vmap() -> None:
    a = nbdl.tensor([0.5, 3.0], dtype="float64")

    def draw(a: nbdl.Tensor) -> nbdl.Tensor:
        return log_standard_gamma(a, generator=generator())

    value, tangent = nbdl.func.jvp(draw, (a,), (nbdl.ones_like(a),))
    np.testing.assert_allclose(tangent.tolist(), log_gamma_slope(a, value).tolist(), rtol=1e-13)
    rows = nbdl.func.vmap(log_standard_gamma, randomness="different")(full(2.0, (3, 400)))
    assert rows.shape == (3, 400)
    assert len(set(rows.numpy().ravel())) == 1200
    same = nbdl.func.vmap(log_standard_gamma, randomness="same")(full(2.0, (3, 4)))
    assert nbdl.equal(same[0], same[2])


def test_incomplete_gamma_by_its_first_argument(backend: str) -> None:
    a = nbdl.tensor([0.4, 2.0, 9.0, 30.0], dtype="float64", requires_grad=True)
    x = nbdl.tensor([0.2, 3.0, 8.0, 31.0], dtype="float64", requires_grad=True)
    for function in (nbdl.igamma, nbdl.igammac):
        assert gradcheck(function, (a, x))
        if backend == "numpy":
            assert gradgradcheck(function, (a, x))
    edge = nbdl.tensor([0.0, float("inf")], dtype="float64")
    b = nbdl.tensor([2.0, 2.0], dtype="float64", requires_grad=True)
    assert nbdl.autograd.grad(nbdl.igamma(b, edge).sum(), b)[0].tolist() == [0, 0]
