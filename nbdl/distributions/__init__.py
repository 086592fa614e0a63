"""Probability distributions, as ``torch.distributions``: samples, densities, moments, divergences.

Parameters are tensors, so that densities, entropies, divergences and, where ``has_rsample`` says so, samples
are differentiable by them. The names and arguments are PyTorch's.

Example:
    >>> import nbdl
    >>> from nbdl.distributions import Normal, kl_divergence
    >>> loc = nbdl.zeros(2, requires_grad=True)
    >>> posterior, prior = Normal(loc, 0.5), Normal(nbdl.ones(2), 1.0)
    >>> kl_divergence(posterior, prior).sum().backward()
    >>> loc.grad
    tensor([-1., -1.])
"""

from __future__ import annotations

from nbdl.distributions import constraint_registry, constraints, kl, kl_cross, kl_same, transforms, utils
from nbdl.distributions.bernoulli import Bernoulli
from nbdl.distributions.beta import Beta
from nbdl.distributions.binomial import Binomial
from nbdl.distributions.categorical import Categorical
from nbdl.distributions.cauchy import Cauchy
from nbdl.distributions.chi2 import Chi2
from nbdl.distributions.constraint_registry import biject_to, transform_to
from nbdl.distributions.continuous_bernoulli import ContinuousBernoulli
from nbdl.distributions.dirichlet import Dirichlet
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.exponential import Exponential
from nbdl.distributions.fishersnedecor import FisherSnedecor
from nbdl.distributions.gamma import Gamma
from nbdl.distributions.generalized_pareto import GeneralizedPareto
from nbdl.distributions.geometric import Geometric
from nbdl.distributions.gumbel import Gumbel
from nbdl.distributions.half_cauchy import HalfCauchy
from nbdl.distributions.half_normal import HalfNormal
from nbdl.distributions.independent import Independent
from nbdl.distributions.inverse_gamma import InverseGamma
from nbdl.distributions.kl import kl_divergence, register_kl
from nbdl.distributions.kumaraswamy import Kumaraswamy
from nbdl.distributions.laplace import Laplace
from nbdl.distributions.lkj_cholesky import LKJCholesky
from nbdl.distributions.log_normal import LogNormal
from nbdl.distributions.logistic_normal import LogisticNormal
from nbdl.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from nbdl.distributions.mixture_same_family import MixtureSameFamily
from nbdl.distributions.multinomial import Multinomial
from nbdl.distributions.multivariate_normal import MultivariateNormal
from nbdl.distributions.negative_binomial import NegativeBinomial
from nbdl.distributions.normal import Normal
from nbdl.distributions.one_hot_categorical import OneHotCategorical, OneHotCategoricalStraightThrough
from nbdl.distributions.pareto import Pareto
from nbdl.distributions.poisson import Poisson
from nbdl.distributions.relaxed_bernoulli import RelaxedBernoulli
from nbdl.distributions.relaxed_categorical import RelaxedOneHotCategorical
from nbdl.distributions.studentT import StudentT
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.transforms import *
from nbdl.distributions.transforms import __all__ as _transforms
from nbdl.distributions.uniform import Uniform
from nbdl.distributions.von_mises import VonMises
from nbdl.distributions.weibull import Weibull
from nbdl.distributions.wishart import Wishart

__all__ = [
    "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "ContinuousBernoulli", "Dirichlet",
    "Distribution", "Exponential", "ExponentialFamily", "FisherSnedecor", "Gamma", "GeneralizedPareto",
    "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent", "InverseGamma", "Kumaraswamy",
    "LKJCholesky", "Laplace", "LogNormal", "LogisticNormal", "LowRankMultivariateNormal",
    "MixtureSameFamily", "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal",
    "OneHotCategorical", "OneHotCategoricalStraightThrough", "Pareto", "Poisson", "RelaxedBernoulli",
    "RelaxedOneHotCategorical", "StudentT", "TransformedDistribution", "Uniform", "VonMises", "Weibull",
    "Wishart", "biject_to", "kl_divergence", "register_kl", "transform_to",
]  # fmt: skip
__all__ += _transforms
