"""What all distributions share: checks of arguments, subclasses, vmap, programs; and extreme parameters."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from distribution_cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammainc

import nbdl
from nbdl import distributions as d
from nbdl.distributions import constraints
from nbdl.distributions.utils import broadcast_all, lazy_property

ones, zeros, tensor = nbdl.ones, nbdl.zeros, nbdl.tensor

ERRORS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "parameter": (
        ValueError,
        r"Expected parameter scale \(Tensor of shape \(2,\)\) of distribution "
        r"Normal\(loc: nbdl.Size\(\[2\]\), scale: nbdl.Size\(\[2\]\)\) to satisfy the constraint "
        r"GreaterThan\(lower_bound=0.0\), but found invalid values:\ntensor\(\[-1.,  1.\]\)",
        lambda: d.Normal(zeros(2), tensor([-1.0, 1.0])),
    ),
    "bounds": (ValueError, "parameter low .* constraint LessThan", lambda: d.Uniform(1.0, 0.0)),
    "covariance": (
        ValueError,
        "parameter covariance_matrix .* PositiveDefinite",
        lambda: d.MultivariateNormal(zeros(2), tensor([[1.0, 2.0], [2.0, 1.0]])),
    ),
    "type of parameter": (ValueError, "must all be numbers or tensors, got str", lambda: d.Normal("a", 1.0)),
    "value": (
        ValueError,
        r"Expected value argument \(Tensor of shape \(1,\)\) to be within the support "
        r"\(GreaterThanEq\(lower_bound=0.0\)\) of the distribution Exponential\(rate: 1.0\), but found "
        r"invalid values:\ntensor\(\[-1.\]\)",
        lambda: d.Exponential(1.0).log_prob(tensor([-1.0])),
    ),
    "no tensor": (ValueError, "to log_prob must be a Tensor", lambda: d.Normal(0.0, 1.0).log_prob(1.0)),
    "batch": (
        ValueError,
        r"not broadcastable with batch_shape\+event_shape: nbdl.Size\(\[3\]\) vs nbdl.Size\(\[2\]\)",
        lambda: d.Normal(zeros(2), 1.0).log_prob(zeros(3)),
    ),
    "event": (
        ValueError,
        "right-most size of value must match event_shape",
        lambda: d.Dirichlet(ones(3)).log_prob(tensor([0.5, 0.5])),
    ),
    "NaN": (ValueError, "within the support", lambda: d.Normal(0.0, 1.0).cdf(tensor(float("nan")))),
    "both": (ValueError, "Either `probs` or `logits`", lambda: d.Bernoulli(0.5, 0.5)),
    "none": (ValueError, "Either `probs` or `logits`", lambda: d.Categorical()),
    "scalar probabilities": (ValueError, "`probs` parameter must be", lambda: d.Categorical(tensor(1.0))),
    "negative probabilities": (ValueError, "Simplex", lambda: d.Categorical(tensor([0.5, -1.0]))),
    "category": (ValueError, "IntegerInterval", lambda: d.Categorical(ones(2)).log_prob(tensor(2))),
    "fraction": (ValueError, "within the support", lambda: d.Poisson(2.0).log_prob(tensor(1.5))),
    "geometric": (ValueError, "probs .* to be positive but found", lambda: d.Geometric(tensor([0.0, 0.5]))),
    "counts": (
        NotImplementedError,
        "inhomogeneous total_count",
        lambda: d.Multinomial(tensor([1, 2]), ones(2)),
    ),
    "supports": (
        NotImplementedError,
        "Inhomogeneous total count",
        lambda: d.Binomial(tensor([1, 2]), 0.5).enumerate_support(),
    ),
    "no support": (NotImplementedError, "", lambda: d.Normal(0.0, 1.0).enumerate_support()),
    "no derivative": (NotImplementedError, "", lambda: d.Bernoulli(0.5).rsample()),
    "no mode": (NotImplementedError, "not implement mode", lambda: d.LogisticNormal(zeros(2), ones(2)).mode),
    "concentration": (ValueError, "at least one-dimensional", lambda: d.Dirichlet(tensor(1.0))),
    "loc": (ValueError, "loc must be at least", lambda: d.MultivariateNormal(tensor(1.0), nbdl.eye(2))),
    "matrix": (ValueError, "at least two-dimensional", lambda: d.MultivariateNormal(zeros(2), ones(2))),
    "matrices": (ValueError, "Exactly one of", lambda: d.MultivariateNormal(zeros(2))),
    "low rank loc": (
        ValueError,
        "loc must be",
        lambda: d.LowRankMultivariateNormal(tensor(1.0), ones(2, 1), ones(2)),
    ),
    "factor": (
        ValueError,
        "cov_factor must be a batch of matrices with shape 2 x m",
        lambda: d.LowRankMultivariateNormal(zeros(2), ones(3, 1), ones(2)),
    ),
    "flat factor": (
        ValueError,
        "cov_factor must be at least two",
        lambda: d.LowRankMultivariateNormal(zeros(2), ones(2), ones(2)),
    ),
    "diagonal": (
        ValueError,
        "cov_diag must be",
        lambda: d.LowRankMultivariateNormal(zeros(2), ones(2, 1), ones(3)),
    ),
    "degrees": (ValueError, "to be greater than ndim - 1 = 1", lambda: d.Wishart(1.0, nbdl.eye(2))),
    "Wishart matrix": (ValueError, "scale_tril must be", lambda: d.Wishart(3.0, scale_tril=ones(2))),
    "fractional dimension": (TypeError, "as an integer", lambda: d.LKJCholesky(3.5)),
    "dimension": (ValueError, "Found dim=1", lambda: d.LKJCholesky(1)),
    "grouped axes": (ValueError, "actual 1 vs 0", lambda: d.Independent(d.Normal(0.0, 1.0), 1)),
    "grouped support": (
        NotImplementedError,
        "cartesian product",
        lambda: d.Independent(d.Bernoulli(ones(2) / 2), 1).enumerate_support(),
    ),
    "mixture": (
        ValueError,
        "instance of Categorical",
        lambda: d.MixtureSameFamily(d.Normal(0.0, 1.0), d.Normal(0.0, 1.0)),
    ),
    "component": (
        ValueError,
        "instance of Distribution",
        lambda: d.MixtureSameFamily(d.Categorical(ones(2)), 3),
    ),
    "components": (
        ValueError,
        r"\(3\) does not equal",
        lambda: d.MixtureSameFamily(d.Categorical(ones(3)), d.Normal(zeros(2), 1.0)),
    ),
    "mixtures": (
        ValueError,
        "is not compatible",
        lambda: d.MixtureSameFamily(d.Categorical(ones(2, 3)), d.Normal(zeros(4, 3), 1.0)),
    ),
    "transforms": (
        ValueError,
        "must be a Transform or a list",
        lambda: d.TransformedDistribution(d.Normal(0.0, 1.0), 3),
    ),
    "base": (
        ValueError,
        "with size at least 1",
        lambda: d.TransformedDistribution(d.Normal(0.0, 1.0), d.StickBreakingTransform()),
    ),
    "default": (ValueError, "expected True or False", lambda: d.Distribution.set_default_validate_args(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    error, message, call = ERRORS[name]
    with pytest.raises(error, match=message or None):
        call()


def test_checks_can_be_left_out() -> None:
    normal = d.Normal(0.0, -1.0, validate_args=False)
    assert bool(normal.log_prob(tensor(0.0)).isnan())
    assert d.Exponential(1.0, validate_args=False).expand((2,)).log_prob(tensor(-1.0)).tolist() == [1, 1]
    d.Distribution.set_default_validate_args(False)
    try:
        assert d.Uniform(0.0, 1.0).log_prob(tensor([2.0, 1.0])).tolist() == [-np.inf, -np.inf]
        with pytest.raises(ValueError, match="within the support"):
            d.Uniform(0.0, 1.0, validate_args=True).log_prob(tensor(2.0))
    finally:
        d.Distribution.set_default_validate_args(True)


REPRS = {
    "Normal(loc: 0.0, scale: 1.0)": lambda: d.Normal(0.0, 1.0),
    "Categorical(probs: nbdl.Size([2]))": lambda: d.Categorical(ones(2)),
    "Uniform(low: 0.0, high: 1.0)": lambda: d.Uniform(0.0, 1.0),
    "Independent(Normal(loc: nbdl.Size([2]), scale: nbdl.Size([2])), 1)": lambda: d.Independent(
        d.Normal(zeros(2), 1.0), 1
    ),
    "MixtureSameFamily(\n  Categorical(logits: nbdl.Size([2])),\n  Normal(loc: nbdl.Size([2]), scale: "
    "nbdl.Size([2])))": lambda: d.MixtureSameFamily(d.Categorical(logits=ones(2)), d.Normal(zeros(2), 1.0)),
}


@pytest.mark.parametrize("expected", REPRS)
def test_reprs(expected: str) -> None:
    assert repr(REPRS[expected]()) == expected


def test_broadcast_parameters() -> None:
    a, b, c = broadcast_all(1, tensor([1.0, 2.0], dtype="float64"), ones(3, 1, dtype="float64"))
    assert a.shape == b.shape == c.shape == (3, 2)
    assert a.dtype == nbdl.float64
    assert broadcast_all(3)[0].dtype == nbdl.get_default_dtype()
    normal = d.Normal(zeros(3, 1), ones(2))
    assert normal.batch_shape == (3, 2)
    with pytest.raises(RuntimeError, match="broadcast"):
        d.Normal(zeros(3), ones(2))


def test_subclasses() -> None:
    """A distribution of a user: with attributes of its own it expands; PyTorch's idiom works as well."""

    class Shifted(d.Normal):
        def __init__(self, shift: float):
            super().__init__(shift, 1.0)
            self.shift = shift

    expanded = Shifted(2.0).expand((3,))
    assert isinstance(expanded, Shifted) and expanded.shift == 2.0 and expanded.loc.shape == (3,)

    class Own(d.Distribution):
        arg_constraints: ClassVar = {"rate": constraints.positive}

        def __init__(self, rate: nbdl.Tensor, validate_args: bool | None = None):
            self.rate = rate
            super().__init__(rate.shape, validate_args=validate_args)

        def expand(self, batch_shape: Any, _instance: Any = None) -> Own:
            new = self._get_checked_instance(Own, _instance)
            new.rate = self.rate.expand(batch_shape)
            super(Own, new).__init__(batch_shape, validate_args=False)
            new._validate_args = self._validate_args
            return new

        @lazy_property
        def doubled(self) -> nbdl.Tensor:
            return 2 * self.rate

    own = Own(ones(2))
    assert own.doubled is own.doubled
    assert own.expand((3, 2)).doubled.shape == (3, 2)
    own._validate_sample(zeros(2))  # without a support, there is nothing to check
    for call in (own.sample, own.entropy, lambda: own.mean, lambda: own.variance, lambda: own.stddev):
        with pytest.raises(NotImplementedError):
            call()

    class Inherits(Own):
        def __init__(self) -> None:
            super().__init__(ones(2))

    with pytest.raises(NotImplementedError, match="must also define a custom"):
        Inherits().expand((3, 2))
    with pytest.raises(ValueError, match="parameter rate"):
        Own(-ones(2))


@pytest.mark.parametrize("name", CASES)
def test_copies(name: str) -> None:
    case = CASES[name]
    with nbdl.use_backend("numpy"):
        distribution = case.make(d, {key: tensor(value) for key, value in case.parameters.items()})
        expected = distribution.log_prob(tensor(case.values)).numpy()
        for other in (copy.deepcopy(distribution), pickle.loads(pickle.dumps(distribution))):
            np.testing.assert_array_equal(other.log_prob(tensor(case.values)).numpy(), expected)


# ----------------------------------------------------------------------------------------- vmap and programs
def test_vmap() -> None:
    loc, x = nbdl.randn(4, 3), nbdl.randn(4, 3)
    rows = nbdl.func.vmap(lambda loc, x: d.Normal(loc, 1.0).log_prob(x))(loc, x)
    np.testing.assert_allclose(rows.numpy(), d.Normal(loc, 1.0).log_prob(x).numpy(), rtol=1e-6)

    def draw(a: nbdl.Tensor) -> nbdl.Tensor:
        return d.Dirichlet(a).rsample((5,))

    samples = nbdl.func.vmap(draw, randomness="different")(ones(4, 3))
    assert samples.shape == (4, 5, 3)
    np.testing.assert_allclose(samples.sum(-1).numpy(), 1, rtol=1e-6)
    assert len({tuple(row) for row in samples.numpy().reshape(20, 3)}) == 20


@pytest.mark.parametrize(
    "make",
    [
        lambda a: d.Gamma(a, 2.0).rsample((3,)),
        lambda a: d.Normal(a, 2.0).rsample((3,)),
        lambda a: d.Categorical(a).sample((3,)).to(a),
        lambda a: d.Bernoulli(a / 4).sample((3,)),
        lambda a: d.Poisson(a).sample((3,)),
        lambda a: d.MixtureSameFamily(d.Categorical(a), d.Normal(a, 1.0)).log_prob(a.sum()),
    ],
    ids=["gamma", "normal", "categorical", "bernoulli", "poisson", "mixture"],
)
def test_programs(make: Callable[[nbdl.Tensor], nbdl.Tensor]) -> None:
    """A recorded program draws the numbers that its function draws, anew at each call."""
    parameters = tensor([0.5, 2.0, 3.0])
    program = nbdl.compile(make)
    nbdl.manual_seed(3)
    expected = [make(parameters).numpy() for _ in range(3)]
    nbdl.manual_seed(3)
    for value in expected:
        np.testing.assert_allclose(program(parameters).numpy(), value, rtol=1e-5)


@pytest.fixture
def specification() -> Iterator[None]:
    """Without kernels to compile: those of formulas are tested with the formulas."""
    with nbdl.use_backend("numpy"):
        yield


# ---------------------------------------------------------------------------------------- extreme parameters
def test_tiny_concentrations(specification: None) -> None:
    """Gamma numbers that underflow still give the probabilities of their logarithms."""
    nbdl.manual_seed(0)
    for dtype in ("float32", "float64"):
        a = tensor([1e-4, 1e-4, 2e-4], dtype=dtype, requires_grad=True)
        sample = d.Dirichlet(a).rsample((4000,))
        assert bool(constraints.simplex.check(sample.detach()).all())
        shares = (sample.detach() > 0.5).to("float64").mean(0).numpy()
        np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.04)
        (gradient,) = nbdl.autograd.grad(sample.square().sum(), a)
        assert bool(gradient.isfinite().all())
        for distribution in (
            d.Gamma(a, 1.0),
            d.Beta(a, a),
            d.StudentT(a + 0.5),
            d.FisherSnedecor(a + 0.5, 1.0),
        ):
            x = distribution.rsample((500,))
            assert bool(distribution.support.check(x.detach()).all())
            assert bool(distribution.log_prob(x.detach()).isfinite().all())


def test_tails() -> None:
    x = tensor([-40.0, -10.0, 10.0], dtype="float64")
    normal = d.Normal(tensor(0.0, dtype="float64"), 1.0)
    np.testing.assert_allclose(normal.cdf(x).numpy()[:2], [3.65589354e-350, 7.61985302e-24], rtol=1e-8)
    von_mises = d.VonMises(tensor(0.0, dtype="float64"), 1e8)
    np.testing.assert_allclose(von_mises.log_prob(tensor([0.0, 1e-4], dtype="float64")).numpy(),
                               np.log(1e4 / np.sqrt(2 * np.pi)) - np.array([0, 0.5]), rtol=1e-7)  # fmt: skip
    assert von_mises.variance.item() == pytest.approx(5e-9, rel=1e-6)
    gamma = d.Gamma(tensor([1e-3, 1e3], dtype="float64"), 1.0)
    expected = gammainc([1e-3, 1e3], [1e-3, 1e3])
    np.testing.assert_allclose(gamma.cdf(gamma.mean).numpy(), expected, rtol=1e-12)


def test_derivative_of_generalised_pareto_at_zero() -> None:
    """The exponential limit has a slope by the concentration, z^2 / 2 - z, and is continuous."""
    k = tensor([0.0, 1e-9, -1e-9, 2e-4], dtype="float64", requires_grad=True)
    z = tensor(1.7, dtype="float64")
    with nbdl.use_backend("numpy"):
        log_prob = d.GeneralizedPareto(0.0, tensor(1.0, dtype="float64"), k).log_prob(z)
        np.testing.assert_allclose(log_prob.detach().numpy()[:3], -1.7, rtol=1e-8)
        (slope,) = nbdl.autograd.grad(log_prob.sum(), k)
        np.testing.assert_allclose(slope.numpy()[:3], 1.7**2 / 2 - 1.7, rtol=1e-8)
        np.testing.assert_allclose(slope.numpy()[3], 1.7**2 / 2 - 1.7, rtol=1e-2)


@settings(max_examples=20)
@given(st.floats(0.05, 50.0), st.floats(0.01, 0.99))
def test_quantiles(scale: float, p: float) -> None:
    """icdf is the inverse of cdf."""
    s, q = tensor(scale, dtype="float64"), tensor(p, dtype="float64")
    with nbdl.use_backend("numpy"):
        for distribution in (
            d.Cauchy(0.3, s), d.ContinuousBernoulli(logits=s / 10), d.Exponential(s), d.Gumbel(0.3, s),
            d.GeneralizedPareto(0.1, s, 0.3), d.HalfCauchy(s), d.HalfNormal(s), d.Kumaraswamy(s, 2.0),
            d.Laplace(0.3, s), d.LogNormal(0.3, s / 20), d.Normal(0.3, s), d.Pareto(s, 2.0),
            d.Uniform(-s, s), d.Weibull(s, 2.0),
        ):  # fmt: skip
            found = distribution.cdf(distribution.icdf(q)).item()
            assert found == pytest.approx(p, rel=1e-9), distribution
