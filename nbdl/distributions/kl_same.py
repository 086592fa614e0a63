"""Divergences within a family."""

from __future__ import annotations

import math

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.bernoulli import Bernoulli
from nbdl.distributions.beta import Beta
from nbdl.distributions.binomial import Binomial
from nbdl.distributions.categorical import Categorical
from nbdl.distributions.cauchy import Cauchy
from nbdl.distributions.continuous_bernoulli import ContinuousBernoulli
from nbdl.distributions.dirichlet import Dirichlet
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.exponential import Exponential
from nbdl.distributions.gamma import Gamma
from nbdl.distributions.geometric import Geometric
from nbdl.distributions.gumbel import Gumbel
from nbdl.distributions.half_normal import HalfNormal
from nbdl.distributions.independent import Independent
from nbdl.distributions.kl import kl_divergence, register_kl
from nbdl.distributions.laplace import Laplace
from nbdl.distributions.lowrank_multivariate_normal import (
    LowRankMultivariateNormal,
    lowrank_log_det,
    lowrank_square_distance,
)
from nbdl.distributions.multivariate_normal import MultivariateNormal, half_log_det, square_distance
from nbdl.distributions.normal import Normal
from nbdl.distributions.one_hot_categorical import OneHotCategorical
from nbdl.distributions.pareto import Pareto
from nbdl.distributions.pointwise_transforms import softplus
from nbdl.distributions.poisson import Poisson
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.uniform import Uniform
from nbdl.distributions.utils import euler_constant, sum_rightmost
from nbdl.formula import functions as f
from nbdl.linalg import solve_triangular
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise
from nbdl.ops.triangular import diag_embed

_normal = pointwise(
    "kl_normal_normal",
    lambda m, s, n, t: 0.5 * (f.square(s / t) + f.square((m - n) / t) - 1) - f.log(s / t),
)
_gamma = pointwise(
    "kl_gamma_gamma",
    lambda a, r, b, s: (
        b * f.log(r / s) + f.lgamma(b) - f.lgamma(a) + (a - b) * f.digamma(a) + (s - r) * (a / r)
    ),
)
_beta = pointwise(
    "kl_beta_beta",
    lambda a, b, c, d: (
        f.lgamma(a + b) - f.lgamma(a) - f.lgamma(b) - f.lgamma(c + d) + f.lgamma(c) + f.lgamma(d)
        + (a - c) * f.digamma(a) + (b - d) * f.digamma(b) + (c + d - a - b) * f.digamma(a + b)
    ),
)  # fmt: skip


@register_kl(Bernoulli, Bernoulli)
def _kl_bernoulli_bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    ones = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    ones = where(p.probs == 0, 0.0, where(q.probs == 0, math.inf, ones))
    zeros = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    return ones + where(p.probs == 1, 0.0, where(q.probs == 1, math.inf, zeros))


@register_kl(Beta, Beta)
def _kl_beta_beta(p: Beta, q: Beta) -> Tensor:
    return _beta(p.concentration1, p.concentration0, q.concentration1, q.concentration0)


@register_kl(Binomial, Binomial)
def _kl_binomial_binomial(p: Binomial, q: Binomial) -> Tensor:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError(
            "KL between Binomials where q.total_count > p.total_count is not implemented"
        )
    single = p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    return where(p.total_count > q.total_count, math.inf, p.total_count * single)


@register_kl(Categorical, Categorical)
def _kl_categorical_categorical(p: Categorical, q: Categorical) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    return where(p.probs == 0, 0.0, where(q.probs == 0, math.inf, terms)).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _kl_one_hot_one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return _kl_categorical_categorical(p._categorical, q._categorical)


@register_kl(Cauchy, Cauchy)
def _kl_cauchy_cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    """Chyzak, Nielsen: A closed-form formula for the KL divergence between Cauchy distributions (2019)."""
    distance = (p.scale + q.scale).square() + (p.loc - q.loc).square()
    return distance.log() - (4 * p.scale * q.scale).log()


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _kl_continuous_continuous(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Tensor:
    constants = p._log_norm() + (-p.probs).log1p() - q._log_norm() - (-q.probs).log1p()
    return p.mean * (p.logits - q.logits) + constants


@register_kl(Dirichlet, Dirichlet)
def _kl_dirichlet_dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    logs = a.digamma() - a.sum(-1, keepdim=True).digamma()  # the means of log x
    return q._log_normalizer(b) - p._log_normalizer(a) + ((a - b) * logs).sum(-1)


@register_kl(Exponential, Exponential)
def _kl_exponential_exponential(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(ExponentialFamily, ExponentialFamily)
def _kl_family_family(p: ExponentialFamily, q: ExponentialFamily) -> Tensor:
    """The Bregman divergence of the log normalizer (Nielsen and Nock 2010)."""
    if type(p) is not type(q):
        raise NotImplementedError(
            "The cross KL-divergence between different exponential families cannot be computed using Bregman "
            f"divergences: {type(p).__name__} and {type(q).__name__}"
        )
    parameters, normalizer, slopes = p._mean_statistics()
    others = q._natural_params
    result = q._log_normalizer(*others) - normalizer
    for parameter, other, slope in zip(parameters, others, slopes, strict=True):
        event_dim = parameter.ndim - len(p.batch_shape)
        result = result - sum_rightmost((other - parameter) * slope, event_dim)
    return result


@register_kl(Gamma, Gamma)
def _kl_gamma_gamma(p: Gamma, q: Gamma) -> Tensor:
    return _gamma(p.concentration, p.rate, q.concentration, q.rate)


@register_kl(Geometric, Geometric)
def _kl_geometric_geometric(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Gumbel, Gumbel)
def _kl_gumbel_gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    mean = shift + ratio * euler_constant  # of z = (x - loc) / scale of q
    return mean + (-shift + (1 + ratio).lgamma()).exp() - ratio.log() - (1 + euler_constant)


@register_kl(HalfNormal, HalfNormal)
def _kl_half_normal_half_normal(p: HalfNormal, q: HalfNormal) -> Tensor:
    return _kl_normal_normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _kl_laplace_laplace(p: Laplace, q: Laplace) -> Tensor:
    distance, ratio = (p.loc - q.loc).abs(), p.scale / q.scale
    return distance / q.scale + ratio * (-distance / p.scale).exp() - ratio.log() - 1


@register_kl(Normal, Normal)
def _kl_normal_normal(p: Normal, q: Normal) -> Tensor:
    return _normal(p.loc, p.scale, q.loc, q.scale)


@register_kl(Pareto, Pareto)
def _kl_pareto_pareto(p: Pareto, q: Pareto) -> Tensor:
    ratio = q.alpha / p.alpha
    finite = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return where(p.scale < q.scale, math.inf, finite)


@register_kl(Poisson, Poisson)
def _kl_poisson_poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _kl_uniform_uniform(p: Uniform, q: Uniform) -> Tensor:
    inside = (q.low <= p.low) & (q.high >= p.high)
    return where(inside, ((q.high - q.low) / (p.high - p.low)).log(), math.inf)


@register_kl(Independent, Independent)
def _kl_independent_independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError(
            "KL between Independents of different reinterpreted_batch_ndims is not implemented"
        )
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _kl_transformed_transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    """Bijective maps leave the divergence as it is."""
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("KL between distributions of different transforms is not implemented")
    return kl_divergence(p.base_dist, q.base_dist)


# --------------------------------------------------------------------------------------- multivariate normals
def _check_events(p: Distribution, q: Distribution) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two multivariate normals with different event shapes cannot be computed: "
            f"{p.event_shape} and {q.event_shape}"
        )


@register_kl(MultivariateNormal, MultivariateNormal)
def _kl_multivariate_multivariate(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    _check_events(p, q)
    factor = q._unbroadcasted_scale_tril
    trace = solve_triangular(factor, p._unbroadcasted_scale_tril, upper=False).square().sum((-2, -1))
    distance = square_distance(factor, p.loc - q.loc)
    log_ratio = half_log_det(factor) - half_log_det(p._unbroadcasted_scale_tril)
    return log_ratio + 0.5 * (trace + distance - p.event_shape[0])


def _log_det(p: LowRankMultivariateNormal) -> Tensor:
    return lowrank_log_det(p._unbroadcasted_cov_diag, p._capacitance_tril)


def _distance(q: LowRankMultivariateNormal, x: Tensor) -> Tensor:
    factor, diagonal = q._unbroadcasted_cov_factor, q._unbroadcasted_cov_diag
    return lowrank_square_distance(factor, diagonal, x, q._capacitance_tril)


def _trace(q: LowRankMultivariateNormal, root: Tensor) -> Tensor:
    """tr((W W^T + D)^-1 R R^T) of q's W and D, by the formula of Woodbury."""
    diagonal = q._unbroadcasted_cov_diag.unsqueeze(-1)
    projected = (q._unbroadcasted_cov_factor / diagonal).mT @ root
    reduced = solve_triangular(q._capacitance_tril, projected, upper=False)
    return (root.square() / diagonal).sum((-2, -1)) - reduced.square().sum((-2, -1))


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _kl_lowrank_lowrank(p: LowRankMultivariateNormal, q: LowRankMultivariateNormal) -> Tensor:
    _check_events(p, q)
    spread = diag_embed(p._unbroadcasted_cov_diag.sqrt())
    trace = _trace(q, p._unbroadcasted_cov_factor) + _trace(q, spread)
    distance = _distance(q, p.loc - q.loc)
    return 0.5 * (_log_det(q) - _log_det(p) + trace + distance - p.event_shape[0])


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _kl_multivariate_lowrank(p: MultivariateNormal, q: LowRankMultivariateNormal) -> Tensor:
    _check_events(p, q)
    trace = _trace(q, p._unbroadcasted_scale_tril)
    log_ratio = _log_det(q) - 2 * half_log_det(p._unbroadcasted_scale_tril)
    return 0.5 * (log_ratio + trace + _distance(q, p.loc - q.loc) - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _kl_lowrank_multivariate(p: LowRankMultivariateNormal, q: MultivariateNormal) -> Tensor:
    _check_events(p, q)
    factor = q._unbroadcasted_scale_tril
    spread = diag_embed(p._unbroadcasted_cov_diag.sqrt())
    trace = sum(
        solve_triangular(factor, root, upper=False).square().sum((-2, -1))
        for root in (p._unbroadcasted_cov_factor, spread)
    )
    log_ratio = 2 * half_log_det(factor) - _log_det(p)
    return 0.5 * (log_ratio + trace + square_distance(factor, p.loc - q.loc) - p.event_shape[0])
