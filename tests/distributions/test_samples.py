"""Samples: shapes, distribution, moments, gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distribution_cases import CASES
from scipy import stats

import nbdl
from nbdl import distributions
from nbdl.autograd import grad, gradcheck

N = 5_000
# Probability of a false alarm of a statistical test; seeds are fixed, so a passing test stays passing.
ALARM = 1e-4
ERRORS = 5  # standard errors that a mean may be off

# These draw gamma numbers by rejection, so that a sample jumps where its parameters are moved.
BY_REJECTION = ("Beta", "Chi2", "Dirichlet", "FisherSnedecor", "Gamma", "InverseGamma", "StudentT")


@pytest.fixture(autouse=True)
def specification() -> Iterator[None]:
    """Without kernels to compile; that the backends draw alike is a test of its own."""
    with nbdl.use_backend("numpy"):
        yield


def build(name: str, dtype: str = "float64", requires_grad: bool = False) -> tuple[Any, list[nbdl.Tensor]]:
    parameters = {
        key: nbdl.tensor(value, dtype=dtype, requires_grad=requires_grad)
        for key, value in CASES[name].parameters.items()
    }
    return CASES[name].make(distributions, parameters), list(parameters.values())


@pytest.mark.parametrize("name", CASES)
def test_shapes(name: str) -> None:
    nbdl.manual_seed(0)
    distribution, _ = build(name)
    shape = distribution.batch_shape + distribution.event_shape
    for sample_shape in ((), (5,), (2, 3)):
        sample = distribution.sample(sample_shape)
        assert sample.shape == sample_shape + shape
        assert not sample.requires_grad
        assert bool(distribution.support.check(sample).all())
        assert distribution.log_prob(sample).shape == sample_shape + distribution.batch_shape
    assert distribution.sample_n(2).shape == (2, *shape)
    single, _ = build(name, "float32")
    sample = single.sample((200,))
    assert sample.dtype == (nbdl.int64 if name.startswith("Categorical") else nbdl.float32)
    assert bool(single.log_prob(sample).isfinite().all())


@pytest.mark.parametrize("name", CASES)
def test_expand(name: str) -> None:
    distribution, _ = build(name)
    batch_shape = (4, 2, *distribution.batch_shape)
    for property_ in (
        "probs",
        "logits",
        "scale_tril",
    ):  # what was kept has the old shape
        if hasattr(type(distribution), property_):
            getattr(distribution, property_)
    expanded = distribution.expand(batch_shape)
    assert type(expanded) is type(distribution)
    assert expanded.batch_shape == batch_shape
    assert expanded.event_shape == distribution.event_shape
    nbdl.manual_seed(0)
    assert expanded.sample((3,)).shape == (3, *batch_shape, *distribution.event_shape)
    values = distribution.sample(())
    found = expanded.log_prob(values)
    assert found.shape == batch_shape
    np.testing.assert_allclose(found.numpy()[1, 1], distribution.log_prob(values).numpy(), rtol=1e-12)
    for key in distribution.arg_constraints:
        value = getattr(expanded, key)
        assert value.shape[: len(batch_shape)] == batch_shape
    again = expanded.expand((3, *batch_shape))
    assert again.batch_shape == (3, *batch_shape)


def test_backends_draw_the_same() -> None:
    for name in CASES:
        samples = []
        for backend in ("numpy", "numba"):
            with nbdl.use_backend(backend):
                nbdl.manual_seed(1)
                samples.append(build(name)[0].sample((3,)).numpy())
        np.testing.assert_allclose(*samples, rtol=1e-12, err_msg=name)


# ------------------------------------------------------------------------------------------- distributions
SCIPY: dict[str, Any] = {
    "Beta": lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
    "Cauchy": lambda loc, scale: stats.cauchy(loc, scale),
    "Chi2": lambda df: stats.chi2(df),
    "Exponential": lambda rate: stats.expon(scale=1 / rate),
    "FisherSnedecor": lambda df1, df2: stats.f(df1, df2),
    "Gamma": lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    "GeneralizedPareto": lambda loc, scale, concentration: stats.genpareto(concentration, loc, scale),
    "Gumbel": lambda loc, scale: stats.gumbel_r(loc, scale),
    "HalfCauchy": lambda scale: stats.halfcauchy(scale=scale),
    "HalfNormal": lambda scale: stats.halfnorm(scale=scale),
    "InverseGamma": lambda concentration, rate: stats.invgamma(concentration, scale=rate),
    "Laplace": lambda loc, scale: stats.laplace(loc, scale),
    "LogNormal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
    "Normal": lambda loc, scale: stats.norm(loc, scale),
    "Pareto": lambda scale, alpha: stats.pareto(alpha, scale=scale),
    "StudentT": lambda df, loc, scale: stats.t(df, loc, scale),
    "Uniform": lambda low, high: stats.uniform(low, high - low),
    "VonMises": lambda loc, concentration: stats.vonmises(concentration, loc),
    "Weibull": lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
}


@pytest.mark.parametrize("name", SCIPY)
def test_distribution_functions(name: str) -> None:
    nbdl.manual_seed(2)
    distribution, _ = build(name)
    samples = distribution.sample((N,)).numpy()
    for k in range(3):
        expected = SCIPY[name](*[value[k] for value in CASES[name].parameters.values()])
        column = samples[:, k]
        if name == "VonMises":  # SciPy's angles are in an interval about loc
            loc = CASES[name].parameters["loc"][k]
            column = loc + (column - loc + np.pi) % (2 * np.pi) - np.pi
        assert stats.kstest(column, expected.cdf).pvalue > ALARM
        density = distribution.log_prob(nbdl.tensor(samples[:20])).numpy()[:, k]
        np.testing.assert_allclose(density, expected.logpdf(column[:20]), rtol=1e-9, atol=1e-10)


COUNTS: dict[str, Any] = {
    "Bernoulli": lambda probs: stats.bernoulli(probs),
    "Binomial": lambda probs: stats.binom(6, probs),
    "Geometric": lambda probs: stats.geom(probs, loc=-1),
    "NegativeBinomial": lambda total_count, probs: stats.nbinom(total_count, 1 - probs),
    "Poisson": lambda rate: stats.poisson(rate),
}


@pytest.mark.parametrize("name", COUNTS)
def test_frequencies(name: str) -> None:
    nbdl.manual_seed(3)
    distribution, _ = build(name)
    samples = distribution.sample((N,)).numpy()
    for k in range(3):
        expected = COUNTS[name](*[value[k] for value in CASES[name].parameters.values()])
        values = np.arange(200)
        frequencies = N * expected.pmf(values)
        likely = frequencies > 5
        observed = np.bincount(samples[:, k].astype(int), minlength=200)
        rest = N - observed[likely].sum(), N - frequencies[likely].sum()
        table = [*observed[likely], rest[0] + 1], [*frequencies[likely], rest[1] + 1]
        assert stats.chisquare(*table).pvalue > ALARM


# Without moments, or with tails so heavy that a sample's deviate; and a variance that is another thing.
NO_MOMENTS = (
    "Categorical", "Cauchy", "FisherSnedecor", "GeneralizedPareto", "HalfCauchy", "InverseGamma",
    "LKJCholesky", "LogNormal", "LogisticNormal", "Pareto", "Relaxed", "StudentT", "TransformedDistribution",
    "VonMises",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(NO_MOMENTS)])
def test_moments(name: str) -> None:
    nbdl.manual_seed(4)
    distribution, _ = build(name)
    mean, variance = distribution.mean.numpy(), distribution.variance.numpy()
    samples = distribution.sample((N,)).numpy()
    finite = np.isfinite(mean) & np.isfinite(variance)
    deviations = samples.mean(0) - mean
    assert (np.abs(deviations) <= ERRORS * np.sqrt(variance / N) + 1e-12)[finite].all()
    squares = (samples - mean) ** 2
    errors = ERRORS * squares.std(0) / np.sqrt(N)
    assert (np.abs(squares.mean(0) - variance) <= errors + 1e-12)[finite].all()


# ------------------------------------------------------------------------------------------------ gradients
def smooth_samples() -> list[str]:
    """Those whose samples are smooth functions of the parameters for given random numbers."""
    names = []
    for name, case in CASES.items():
        distribution = case.make(distributions, {k: nbdl.tensor(v) for k, v in case.parameters.items()})
        if distribution.has_rsample and not name.startswith((*BY_REJECTION, "Wishart", "OneHot")):
            names.append(name)
    return names


@pytest.mark.parametrize("name", smooth_samples())
def test_gradients_of_smooth_samples(name: str) -> None:
    _, parameters = build(name, requires_grad=True)

    def sample(*values: nbdl.Tensor) -> nbdl.Tensor:
        nbdl.manual_seed(5)
        named = dict(zip(CASES[name].parameters, values, strict=True))
        for key in ("covariance_matrix", "precision_matrix"):
            if key in named:
                named[key] = (named[key] + named[key].mT) / 2
        distributions.Distribution.set_default_validate_args(False)
        try:
            return CASES[name].make(distributions, named).rsample((2,))
        finally:
            distributions.Distribution.set_default_validate_args(True)

    assert gradcheck(sample, tuple(parameters), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*BY_REJECTION, "Wishart", "Wishart, factor"])
def test_mean_gradients_of_samples(name: str) -> None:
    """Of the first two moments: the mean of the gradient is the gradient of the mean."""
    nbdl.manual_seed(6)
    distribution, parameters = build(name, requires_grad=True)
    mean = distribution.mean
    second = distribution.variance + mean.square()
    for moment, power in ((mean, 1), (second, 2)):
        finite = moment.isfinite() & distribution.variance.isfinite()
        if power == 2 and name in ("FisherSnedecor", "InverseGamma", "StudentT"):
            continue  # the variance of the square is infinite
        expected = grad(moment[finite].sum(), parameters, create_graph=True, allow_unused=True)
        rows = []
        for _ in range(20):
            average = distribution.rsample((250,)).pow(power).mean(0)[finite].sum()
            rows.append([g.numpy() for g in grad(average, parameters, retain_graph=True)])
        for column, wanted in zip(zip(*rows, strict=True), expected, strict=True):
            found, value = np.array(column), 0.0 if wanted is None else wanted.detach().numpy()
            errors = found.std(0) / np.sqrt(len(rows) - 1)
            assert (np.abs(found.mean(0) - value) <= 6 * errors + 1e-9).all()


@pytest.mark.parametrize("name", ["Gamma", "Chi2", "Exponential", "Normal", "Laplace", "Cauchy", "Uniform"])
def test_samples_keep_their_probability(name: str) -> None:
    """dF(x; parameters) = 0 along a sample x that moves with its parameters."""
    nbdl.manual_seed(7)
    distribution, parameters = build(name, requires_grad=True)
    sample = distribution.rsample((50,))
    for gradient in grad(distribution.cdf(sample).square().sum(), parameters):
        np.testing.assert_allclose(gradient.numpy(), 0, atol=1e-11)


def test_straight_through() -> None:
    logits = nbdl.tensor([[0.2, 1.0, -1.0]], dtype="float64", requires_grad=True)
    distribution = distributions.OneHotCategoricalStraightThrough(logits=logits)
    sample = distribution.rsample((4,))
    np.testing.assert_allclose(np.sort(sample.detach().numpy(), -1), [[[0, 0, 1]]] * 4, atol=1e-15)
    weights = nbdl.tensor([1.0, 2.0, 4.0], dtype="float64")
    (found,) = grad((sample * weights).sum(), logits, retain_graph=True)
    (expected,) = grad(4 * (distribution.probs * weights).sum(), logits)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)
