"""Distributions with parameters and values, for nbdl and PyTorch alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A distribution.

    Attributes:
        make: from a module of distributions and tensors of the parameters to the distribution.
        parameters: arrays by name.
        values: events.
        tolerance: of PyTorch's values where they are not right to float64's precision.
        is_fixed: whether events have no derivative, or one along a surface only, where it is not unique.
    """

    make: Callable[..., Any]
    parameters: dict[str, np.ndarray]
    values: np.ndarray
    tolerance: float = 1e-11
    is_fixed: bool = False


def array(*values: Any) -> np.ndarray:
    return np.array(values, np.float64)


def _case(
    name: str, values: Any, tolerance: float = 1e-11, is_fixed: bool = False, **parameters: Any
) -> Case:
    arrays = {key: np.array(value, np.float64) for key, value in parameters.items()}
    return Case(lambda d, p: getattr(d, name)(**p), arrays, np.array(values, np.float64), tolerance, is_fixed)


def _spd(*shape: int, seed: int = 0) -> np.ndarray:
    a = np.random.default_rng(seed).standard_normal((*shape, shape[-1]))
    return a @ a.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])


_rng = np.random.default_rng(7)
LOC, SCALE = array(-1.0, 0.2, 3.0), array(0.5, 1.0, 2.5)
REALS = _rng.standard_normal((4, 3)) * 2
POSITIVES = np.exp(_rng.standard_normal((4, 3)))
UNITS = _rng.uniform(0.05, 0.95, (4, 3))
PROBS = array(0.1, 0.45, 0.8)
LOGITS = array(-2.0, 0.1, 1.5)
ROWS = array([0.2, 0.5, 0.3], [0.6, 0.1, 0.3])
SIMPLEX = _rng.dirichlet([1.0, 2.0, 3.0], (4, 2))
INDICES = array([0, 2], [1, 1], [2, 0])
COUNTS = array([0, 1, 2], [3, 5, 4], [1, 0, 0])
VECTORS = _rng.standard_normal((4, 2, 3))
CORRELATIONS = np.linalg.cholesky(array([[1, 0.3, 0.1], [0.3, 1, -0.4], [0.1, -0.4, 1]]))
LOW_RANK = {"loc": VECTORS[1], "cov_factor": _rng.standard_normal((3, 2)), "cov_diag": POSITIVES[0]}
DIGAMMA = 1e-8  # the digits that PyTorch's digamma has

CASES: dict[str, Case] = {
    "Bernoulli": _case("Bernoulli", COUNTS % 2, probs=PROBS, is_fixed=True),
    "Bernoulli, logits": _case("Bernoulli", COUNTS % 2, logits=LOGITS, is_fixed=True),
    "Beta": _case("Beta", UNITS, DIGAMMA, concentration1=[0.4, 1.0, 5.0], concentration0=[2.0, 3.0, 0.7]),
    "Binomial": Case(lambda d, p: d.Binomial(6, **p), {"probs": PROBS}, COUNTS, DIGAMMA, is_fixed=True),
    "Binomial, logits": Case(
        lambda d, p: d.Binomial(6, **p), {"logits": LOGITS}, COUNTS, DIGAMMA, is_fixed=True
    ),
    "Categorical": _case("Categorical", INDICES, probs=ROWS, is_fixed=True),
    "Categorical, logits": _case("Categorical", INDICES, logits=VECTORS[0], is_fixed=True),
    "Cauchy": _case("Cauchy", REALS, loc=LOC, scale=SCALE),
    "Chi2": _case("Chi2", POSITIVES, DIGAMMA, df=[0.7, 2.0, 9.0]),
    "ContinuousBernoulli": _case("ContinuousBernoulli", UNITS, 1e-9, probs=[0.1, 0.4999, 0.8]),
    "ContinuousBernoulli, logits": _case("ContinuousBernoulli", UNITS, 1e-9, logits=[-2.0, 0.001, 1.5]),
    "Dirichlet": _case("Dirichlet", SIMPLEX, DIGAMMA, concentration=[[0.4, 1.0, 5.0], [2.0, 3.0, 0.7]]),
    "Exponential": _case("Exponential", POSITIVES, rate=SCALE),
    "FisherSnedecor": _case("FisherSnedecor", POSITIVES, DIGAMMA, df1=[0.8, 3.0, 5.0], df2=[1.5, 3.0, 7.0]),
    "Gamma": _case("Gamma", POSITIVES, DIGAMMA, concentration=[0.4, 1.0, 7.0], rate=SCALE),
    "GeneralizedPareto": _case(
        "GeneralizedPareto", LOC + POSITIVES / 4, 1e-9, loc=LOC, scale=SCALE, concentration=[-0.1, 0.2, 0.7]
    ),
    "Geometric": _case("Geometric", COUNTS, probs=PROBS, is_fixed=True),
    "Geometric, logits": _case("Geometric", COUNTS, logits=LOGITS, is_fixed=True),
    "Gumbel": _case("Gumbel", REALS, loc=LOC, scale=SCALE),
    "HalfCauchy": _case("HalfCauchy", POSITIVES, scale=SCALE),
    "HalfNormal": _case("HalfNormal", POSITIVES, scale=SCALE),
    "Independent": Case(
        lambda d, p: d.Independent(d.Normal(**p), 1), {"loc": VECTORS[0], "scale": SCALE}, VECTORS
    ),
    "InverseGamma": _case("InverseGamma", POSITIVES, DIGAMMA, concentration=[0.4, 1.5, 7.0], rate=SCALE),
    "Kumaraswamy": _case(
        "Kumaraswamy", UNITS, DIGAMMA, concentration1=[0.4, 1.0, 5.0], concentration0=[2.0, 3.0, 0.7]
    ),
    "LKJCholesky": Case(
        lambda d, p: d.LKJCholesky(3, **p), {"concentration": array(0.5, 2.0)}, CORRELATIONS, DIGAMMA
    ),
    "Laplace": _case("Laplace", REALS, loc=LOC, scale=SCALE),
    "LogNormal": _case("LogNormal", POSITIVES, loc=LOC, scale=SCALE),
    "LogisticNormal": _case("LogisticNormal", SIMPLEX, is_fixed=True, loc=VECTORS[0, :, :2], scale=SCALE[:2]),
    "LowRankMultivariateNormal": _case("LowRankMultivariateNormal", VECTORS, **LOW_RANK),
    "MixtureSameFamily": Case(
        lambda d, p: d.MixtureSameFamily(d.Categorical(p["probs"]), d.Normal(p["loc"], p["scale"])),
        {"probs": ROWS, "loc": VECTORS[0], "scale": SCALE},
        VECTORS[:, :, 0],
    ),
    "MixtureSameFamily of vectors": Case(
        lambda d, p: d.MixtureSameFamily(
            d.Categorical(logits=p["logits"]), d.Independent(d.Laplace(p["loc"], p["scale"]), 1)
        ),
        {"logits": LOGITS[:2], "loc": VECTORS[0], "scale": SCALE},
        VECTORS[:, 0],
    ),
    "Multinomial": Case(
        lambda d, p: d.Multinomial(6, **p), {"probs": ROWS}, array([[1, 2, 3], [6, 0, 0]]), DIGAMMA, True
    ),
    "Multinomial, logits": Case(
        lambda d, p: d.Multinomial(6, **p),
        {"logits": VECTORS[0]},
        array([[1, 2, 3], [6, 0, 0]]),
        DIGAMMA,
        True,
    ),
    "MultivariateNormal": _case(
        "MultivariateNormal", VECTORS, 1e-10, loc=VECTORS[1], covariance_matrix=_spd(3)
    ),
    "MultivariateNormal, precision": _case(
        "MultivariateNormal", VECTORS, 1e-10, loc=VECTORS[1], precision_matrix=_spd(2, 3)
    ),
    "MultivariateNormal, factor": Case(  # above the diagonal there is no derivative
        lambda d, p: d.MultivariateNormal(p["loc"], scale_tril=p["scale_tril"].tril()),
        {"loc": VECTORS[1, 0], "scale_tril": np.linalg.cholesky(_spd(2, 3))},
        VECTORS,
        1e-10,
    ),
    "NegativeBinomial": _case(
        "NegativeBinomial", COUNTS, DIGAMMA, total_count=[1.0, 2.5, 7.0], probs=PROBS, is_fixed=True
    ),
    "NegativeBinomial, logits": _case(
        "NegativeBinomial", COUNTS, DIGAMMA, total_count=[1.0, 2.5, 7.0], logits=LOGITS, is_fixed=True
    ),
    "Normal": _case("Normal", REALS, loc=LOC, scale=SCALE),
    "OneHotCategorical": _case("OneHotCategorical", np.eye(3)[[0, 2]], probs=ROWS, is_fixed=True),
    "OneHotCategoricalStraightThrough": _case(
        "OneHotCategoricalStraightThrough", np.eye(3)[[0, 2]], logits=VECTORS[0], is_fixed=True
    ),
    "Pareto": _case("Pareto", SCALE + POSITIVES, scale=SCALE, alpha=[0.7, 1.5, 4.0]),
    "Poisson": _case("Poisson", COUNTS, rate=SCALE, is_fixed=True),
    "RelaxedBernoulli": _case("RelaxedBernoulli", UNITS, 1e-10, temperature=0.7, probs=PROBS),
    "RelaxedBernoulli, logits": _case("RelaxedBernoulli", UNITS, 1e-10, temperature=0.7, logits=LOGITS),
    "RelaxedOneHotCategorical": _case(
        "RelaxedOneHotCategorical", SIMPLEX, 1e-10, temperature=0.7, probs=ROWS
    ),
    "RelaxedOneHotCategorical, logits": _case(
        "RelaxedOneHotCategorical", SIMPLEX, 1e-10, temperature=0.7, logits=VECTORS[0]
    ),
    "StudentT": _case("StudentT", REALS, DIGAMMA, df=[0.8, 1.5, 6.0], loc=LOC, scale=SCALE),
    "TransformedDistribution": Case(
        lambda d, p: d.TransformedDistribution(
            d.Normal(p["loc"], p["scale"]), [d.SigmoidTransform(), d.AffineTransform(1.0, p["slope"])]
        ),
        {"loc": LOC, "scale": SCALE, "slope": array(-2.0)},
        1 - 2 * UNITS,
        1e-10,
    ),
    "Uniform": _case("Uniform", LOC + UNITS, low=LOC, high=LOC + 1 + SCALE),
    "VonMises": _case("VonMises", REALS, 3e-6, loc=LOC, concentration=[0.3, 2.0, 20.0]),
    "Weibull": _case("Weibull", POSITIVES, DIGAMMA, scale=SCALE, concentration=[0.7, 1.0, 3.0]),
    "Wishart": _case("Wishart", _spd(2, 3, seed=1), DIGAMMA, df=4.5, covariance_matrix=_spd(3)),
    "Wishart, precision": _case(
        "Wishart", _spd(2, 3, seed=1), DIGAMMA, df=[4.5, 7.0], precision_matrix=_spd(3)
    ),
    "Wishart, factor": Case(
        lambda d, p: d.Wishart(p["df"], scale_tril=p["scale_tril"].tril()),
        {"df": array(4.5)[0], "scale_tril": np.linalg.cholesky(_spd(3))},
        _spd(2, 3, seed=1),
        DIGAMMA,
    ),
}
