"""Divergences: against PyTorch, by quadrature, and which rule is taken."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distribution_cases import CASES

import nbdl
from nbdl import distributions
from nbdl.distributions import Distribution, Gamma, Normal, kl_divergence, register_kl
from nbdl.distributions import kl as registry

# Two distributions of each class that PyTorch has rules for, the second narrower or elsewhere.
OTHERS: dict[str, dict[str, Any]] = {
    "Bernoulli": {"probs": [0.3, 0.9, 0.5]},
    "Beta": {"concentration1": [2.0, 0.5, 1.0], "concentration0": [1.0, 2.5, 3.0]},
    "Binomial": {"probs": [0.3, 0.9, 0.5]},
    "Categorical": {"probs": [[0.5, 0.3, 0.2], [0.1, 0.4, 0.5]]},
    "Cauchy": {"loc": [0.0, 1.0, -1.0], "scale": [1.0, 2.0, 0.3]},
    "ContinuousBernoulli": {"probs": [0.3, 0.9, 0.5]},
    "Dirichlet": {"concentration": [[2.0, 0.5, 1.0], [1.0, 2.5, 3.0]]},
    "Exponential": {"rate": [1.0, 0.3, 2.0]},
    "Gamma": {"concentration": [2.0, 0.5, 3.0], "rate": [1.0, 0.3, 2.0]},
    "Geometric": {"probs": [0.3, 0.9, 0.5]},
    "Gumbel": {"loc": [0.0, 1.0, -1.0], "scale": [1.0, 2.0, 3.0]},
    "HalfNormal": {"scale": [1.0, 0.3, 2.0]},
    "Independent": {"loc": [[0.0, 1.0, -1.0], [2.0, 1.0, 0.0]], "scale": [1.0, 0.3, 2.0]},
    "Laplace": {"loc": [0.0, 1.0, -1.0], "scale": [1.0, 2.0, 0.3]},
    "LogNormal": {"loc": [0.0, 1.0, -1.0], "scale": [1.0, 2.0, 0.3]},
    "LowRankMultivariateNormal": {
        "loc": [0.0, 1.0, -1.0],
        "cov_factor": [[1.0, 0.0], [0.5, 2.0], [-1.0, 0.3]],
        "cov_diag": [1.0, 0.5, 2.0],
    },
    "MultivariateNormal": {"loc": [0.0, 1.0, -1.0], "covariance_matrix": np.diag([1.0, 3.0, 2.0]) + 0.2},
    "MultivariateNormal, factor": {"loc": [0.0, 1.0, -1.0], "scale_tril": np.tril(np.eye(3) + 0.2)},
    "Normal": {"loc": [0.0, 1.0, -1.0], "scale": [1.0, 2.0, 0.3]},
    "OneHotCategorical": {"probs": [[0.5, 0.3, 0.2], [0.1, 0.4, 0.5]]},
    "Pareto": {"scale": [0.4, 2.0, 0.3], "alpha": [2.5, 1.0, 2.0]},
    "Poisson": {"rate": [1.0, 0.3, 2.0]},
    "Uniform": {"low": [-2.0, 0.1, 0.5], "high": [3.0, 0.9, 4.0]},
    "Wishart": {"df": 6.0, "covariance_matrix": np.diag([1.0, 3.0, 2.0]) + 0.2},
}


def made(module: Any, tensor: Any, name: str, second: bool) -> tuple[Any, list[Any]]:
    given = OTHERS[name] if second else CASES[name].parameters
    parameters = {key: tensor(np.asarray(value, np.float64)) for key, value in given.items()}
    for parameter in parameters.values():
        parameter.requires_grad_()
    return CASES[name].make(module, parameters), list(parameters.values())


def pairs() -> Iterator[tuple[str, str]]:
    classes = {name: type(made(distributions, nbdl.tensor, name, True)[0]) for name in OTHERS}
    for p, q in itertools.product(OTHERS, OTHERS):
        rule = registry._find_rule(classes[p], classes[q])
        general = {
            registry._RULES[c, c]
            for c in (distributions.ExponentialFamily, distributions.TransformedDistribution)
        }
        if rule is not None and (p == q != "Wishart" or rule not in general):
            yield p, q


@pytest.mark.torch
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("p", "q"), list(pairs()))
def test_against_torch(p: str, q: str, second: bool) -> None:
    """Values, and gradients by the parameters of both."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with nbdl.use_backend("numpy"):
        (mine_p, a), (mine_q, b) = [
            made(distributions, nbdl.tensor, n, s) for n, s in ((p, second), (q, True))
        ]
        found = kl_divergence(mine_p, mine_q)
        theirs = [made(torch.distributions, torch.tensor, n, s) for n, s in ((p, second), (q, True))]
        expected = torch.distributions.kl_divergence(theirs[0][0], theirs[1][0])
        assert found.shape == tuple(expected.shape)
        tolerance = 1e-7
        np.testing.assert_allclose(
            found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance
        )
        finite = found.detach().numpy() < np.inf
        if not found.requires_grad or not finite.any():
            return
        ours = nbdl.autograd.grad(found[nbdl.tensor(finite)].sum(), [*a, *b], allow_unused=True)
        twins = [*theirs[0][1], *theirs[1][1]]
        wanted = torch.autograd.grad(expected[torch.tensor(finite)].sum(), twins, allow_unused=True)
        for x, y in zip(ours, wanted, strict=True):
            x, y = [0.0 if g is None else np.nan_to_num(g.numpy()) for g in (x, y)]
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Densities also outside of the support."""
    Distribution.set_default_validate_args(False)
    yield
    Distribution.set_default_validate_args(True)


NUMBERS = ("Beta", "Cauchy", "ContinuousBernoulli", "Exponential", "Gamma", "Gumbel", "Laplace", "Normal",
           "Pareto", "Uniform")  # fmt: skip


@pytest.mark.parametrize(("p", "q"), [(p, q) for p, q in pairs() if p in NUMBERS and q in NUMBERS])
def test_against_samples(p: str, q: str, unchecked: None) -> None:
    """The mean of log p - log q over samples of p, infinite where q has no density."""
    nbdl.manual_seed(0)
    with nbdl.use_backend("numpy"), nbdl.no_grad():
        left, right = [made(distributions, nbdl.tensor, name, True)[0] for name in (p, q)]
        sample = left.sample((20_000,))
        inside = right.support.check(sample).numpy().all(0)
        found = kl_divergence(left, right).numpy()
        assert np.isposinf(found[~inside]).all()
        with np.errstate(invalid="ignore"):
            terms = left.log_prob(sample).numpy() - right.log_prob(sample).numpy()
            errors = terms.std(0) / np.sqrt(len(terms))
            deviations = np.abs(terms.mean(0) - found)
        finite = inside & np.isfinite(found)
        heavy = p in ("Pareto", "Cauchy")  # of which the square of a term has no mean
        bound = 0.1 * np.abs(found) + 0.05 if heavy else 5 * errors + 1e-9
        assert (deviations <= bound)[finite].all()
        assert finite.any() or not inside.any() or p == "Pareto"


def test_the_nearest_rule_is_taken() -> None:
    class Shifted(Normal):
        pass

    class Twice(Shifted):
        pass

    @register_kl(Shifted, Normal)
    def left(p: Any, q: Any) -> nbdl.Tensor:
        return nbdl.tensor(1.0)

    @register_kl(Normal, Shifted)
    def right(p: Any, q: Any) -> nbdl.Tensor:
        return nbdl.tensor(2.0)

    try:
        assert kl_divergence(Twice(0.0, 1.0), Normal(0.0, 1.0)) == 1
        assert kl_divergence(Normal(0.0, 1.0), Twice(0.0, 1.0)) == 2
        with pytest.warns(RuntimeWarning, match=r"Ambiguous kl_divergence\(Twice, Shifted\)"):
            assert kl_divergence(Twice(0.0, 1.0), Shifted(0.0, 1.0)) == 1
        assert kl_divergence(Normal(0.0, 1.0), Normal(0.0, 1.0)) == 0
    finally:
        for classes in ((Shifted, Normal), (Normal, Shifted)):
            del registry._RULES[classes]
        registry._find_rule.cache_clear()


@pytest.mark.parametrize(
    "name", ["Bernoulli", "Beta", "Dirichlet", "Exponential", "Gamma", "Normal", "Wishart"]
)
def test_exponential_families(name: str) -> None:
    """Entropy and divergence by the log normalizer are those of the closed forms."""
    with nbdl.use_backend("numpy"):
        (p, _), (q, _) = (
            made(distributions, nbdl.tensor, name, False),
            made(distributions, nbdl.tensor, name, True),
        )
        general = distributions.ExponentialFamily
        if name not in ("Beta", "Dirichlet"):  # their natural parameters are shifted by 1, as PyTorch's are
            np.testing.assert_allclose(
                general.entropy(p).detach().numpy(), p.entropy().detach().numpy(), rtol=1e-10
            )
        bregman = registry._RULES[general, general](p, q)
        if name == "Wishart":  # the second one by samples: no closed form is known to PyTorch either
            x = p.sample((4000,))
            expected, errors = mean_and_error(p.log_prob(x) - q.log_prob(x))
            assert (np.abs(bregman.detach().numpy() - expected) < 5 * errors).all()
        else:
            np.testing.assert_allclose(
                bregman.detach().numpy(), kl_divergence(p, q).detach().numpy(), rtol=1e-9
            )


def mean_and_error(x: nbdl.Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = x.detach().numpy()
    return values.mean(0), values.std(0) / np.sqrt(len(values))


def test_errors() -> None:
    with pytest.raises(NotImplementedError, match=r"No KL\(p \|\| q\) is implemented for p type Gamma"):
        kl_divergence(Gamma(1.0, 1.0), distributions.Categorical(nbdl.ones(2)))
    for p, q in ((Distribution, int), (int, Distribution)):
        with pytest.raises(TypeError, match="to be a Distribution subclass but got <class 'int'>"):
            register_kl(p, q)
    normal, wide = Normal(nbdl.zeros(2, 3), 1.0), distributions.Independent
    with pytest.raises(NotImplementedError, match="different reinterpreted_batch_ndims"):
        kl_divergence(wide(normal, 1), wide(normal, 2))
    with pytest.raises(NotImplementedError, match="different transforms"):
        kl_divergence(distributions.LogNormal(0.0, 1.0), distributions.HalfCauchy(1.0))
    with pytest.raises(NotImplementedError, match="different exponential families"):
        kl_divergence(distributions.Poisson(1.0), Gamma(1.0, 1.0))
    with pytest.raises(NotImplementedError, match="between Binomials"):
        kl_divergence(distributions.Binomial(2, 0.5), distributions.Binomial(3, 0.5))
    make = distributions.MultivariateNormal
    with pytest.raises(ValueError, match="different event shapes"):
        kl_divergence(make(nbdl.zeros(2), nbdl.eye(2)), make(nbdl.zeros(3), nbdl.eye(3)))
