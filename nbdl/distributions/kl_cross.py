"""Divergences between families: KL(p || q) = -entropy of p - mean of log q under p.

It is infinite where p has events that q has not.
"""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.bernoulli import Bernoulli
from nbdl.distributions.beta import Beta
from nbdl.distributions.binomial import Binomial
from nbdl.distributions.continuous_bernoulli import ContinuousBernoulli
from nbdl.distributions.exponential import Exponential
from nbdl.distributions.gamma import Gamma
from nbdl.distributions.gumbel import Gumbel
from nbdl.distributions.kl import register_kl
from nbdl.distributions.laplace import Laplace
from nbdl.distributions.normal import Normal
from nbdl.distributions.pareto import Pareto
from nbdl.distributions.poisson import Poisson
from nbdl.distributions.uniform import Uniform
from nbdl.distributions.utils import euler_constant
from nbdl.ops.arithmetic import where, xlogy
from nbdl.ops.rearranging import broadcast_tensors

_LOG_2PI = math.log(2 * math.pi)


# --------------------------------------------------------------------------------------- never a common event
def _infinite(p: Any, q: Any) -> Tensor:
    mean, _ = broadcast_tensors(p.mean, q.mean)
    return mean.new_full(mean.shape, math.inf)


_p: type
_q: type
_REAL = (Gumbel, Laplace, Normal)
_POSITIVE = (Exponential, Gamma)
_BOUNDED = (Beta, ContinuousBernoulli, Uniform)
for _p in (*_REAL, *_POSITIVE, Pareto):
    for _q in _BOUNDED:
        register_kl(_p, _q)(_infinite)
for _p in _REAL:
    for _q in (*_POSITIVE, Pareto):
        register_kl(_p, _q)(_infinite)
for _p in (*_POSITIVE, Beta, ContinuousBernoulli):
    register_kl(_p, Pareto)(_infinite)
for _q in (Bernoulli, Binomial):
    register_kl(Poisson, _q)(_infinite)


# ------------------------------------------------------------------------------------- means of log densities
def _mean_log_normal(p: Any, q: Normal) -> Tensor:
    square = p.variance + (p.mean - q.loc).square()
    return -0.5 * (square / q.scale.square() + _LOG_2PI) - q.scale.log()


def _mean_log_exponential(p: Any, q: Exponential) -> Tensor:
    return q.rate.log() - q.rate * p.mean


def _mean_log_gamma(p: Any, q: Gamma, mean_log: Tensor) -> Tensor:
    a = q.concentration
    return a * q.rate.log() - a.lgamma() + (a - 1) * mean_log - q.rate * p.mean


def _mean_log_gumbel(p: Any, q: Gumbel, mean_exp: Tensor) -> Tensor:
    """From the mean of exp(-x / scale)."""
    return -(p.mean - q.loc) / q.scale - (q.loc / q.scale).exp() * mean_exp - q.scale.log()


def _mean_log_continuous_bernoulli(p: Any, q: ContinuousBernoulli) -> Tensor:
    return p.mean * q.logits + (-q.probs).log1p() + q._log_norm()


def _kl_normal(p: Any, q: Normal) -> Tensor:
    return -p.entropy() - _mean_log_normal(p, q)


for _p in (Beta, ContinuousBernoulli, Exponential, Gamma, Gumbel, Laplace, Pareto, Uniform):
    register_kl(_p, Normal)(_kl_normal)


def _kl_exponential(p: Any, q: Exponential) -> Tensor:
    return -p.entropy() - _mean_log_exponential(p, q)


for _p in (Beta, ContinuousBernoulli, Gamma, Pareto):
    register_kl(_p, Exponential)(_kl_exponential)


@register_kl(Bernoulli, Poisson)
def _kl_bernoulli_poisson(p: Bernoulli, q: Poisson) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Beta, ContinuousBernoulli)
def _kl_beta_continuous_bernoulli(p: Beta, q: ContinuousBernoulli) -> Tensor:
    return -p.entropy() - _mean_log_continuous_bernoulli(p, q)


@register_kl(Beta, Gamma)
def _kl_beta_gamma(p: Beta, q: Gamma) -> Tensor:
    mean_log = p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma()
    return -p.entropy() - _mean_log_gamma(p, q, mean_log)


def _kl_unit_interval_uniform(p: Any, q: Uniform) -> Tensor:
    inside = (q.low <= 0) & (q.high >= 1)
    return where(inside, -p.entropy() + (q.high - q.low).log(), math.inf)


for _p in (Beta, ContinuousBernoulli):
    register_kl(_p, Uniform)(_kl_unit_interval_uniform)


@register_kl(Exponential, Gamma)
def _kl_exponential_gamma(p: Exponential, q: Gamma) -> Tensor:
    return -p.entropy() - _mean_log_gamma(p, q, -p.rate.log() - euler_constant)


@register_kl(Exponential, Gumbel)
def _kl_exponential_gumbel(p: Exponential, q: Gumbel) -> Tensor:
    mean_exp = p.rate / (p.rate + 1 / q.scale)
    return -p.entropy() - _mean_log_gumbel(p, q, mean_exp)


@register_kl(Gamma, Gumbel)
def _kl_gamma_gumbel(p: Gamma, q: Gumbel) -> Tensor:
    mean_exp = (-p.concentration * (1 / (p.rate * q.scale)).log1p()).exp()
    return -p.entropy() - _mean_log_gumbel(p, q, mean_exp)


@register_kl(Normal, Gumbel)
def _kl_normal_gumbel(p: Normal, q: Gumbel) -> Tensor:
    mean_exp = (-p.loc / q.scale + 0.5 * (p.scale / q.scale).square()).exp()
    return -p.entropy() - _mean_log_gumbel(p, q, mean_exp)


@register_kl(Normal, Laplace)
def _kl_normal_laplace(p: Normal, q: Laplace) -> Tensor:
    distance = (p.loc - q.loc) / p.scale
    # the mean of |x - loc|, x normal (Leone, Nelson, Nottingham 1961)
    folded = math.sqrt(2 / math.pi) * (-0.5 * distance.square()).exp()
    folded = p.scale * (folded + distance * (distance * math.sqrt(0.5)).erf())
    return -p.entropy() + (2 * q.scale).log() + folded / q.scale


@register_kl(Pareto, Gamma)
def _kl_pareto_gamma(p: Pareto, q: Gamma) -> Tensor:
    return -p.entropy() - _mean_log_gamma(p, q, p.scale.log() + 1 / p.alpha)


# -------------------------------------------------------------------------------------------- uniform numbers
def _mean_log(low: Tensor, high: Tensor) -> Tensor:
    """The mean of log x over x in an interval."""
    return (xlogy(high, high) - xlogy(low, low)) / (high - low) - 1


@register_kl(Uniform, Beta)
def _kl_uniform_beta(p: Uniform, q: Beta) -> Tensor:
    a, b = q.concentration1, q.concentration0
    low, high = p.low.clamp(min=0.0), p.high.clamp(max=1.0)
    log_beta = a.lgamma() + b.lgamma() - (a + b).lgamma()
    mean_log_q = (a - 1) * _mean_log(low, high) + (b - 1) * _mean_log(1 - high, 1 - low) - log_beta
    return where((p.low < 0) | (p.high > 1), math.inf, -p.entropy() - mean_log_q)


@register_kl(Uniform, ContinuousBernoulli)
def _kl_uniform_continuous_bernoulli(p: Uniform, q: ContinuousBernoulli) -> Tensor:
    finite = -p.entropy() - _mean_log_continuous_bernoulli(p, q)
    return where((p.low < 0) | (p.high > 1), math.inf, finite)


@register_kl(Uniform, Exponential)
def _kl_uniform_exponential(p: Uniform, q: Exponential) -> Tensor:
    return where(p.low < 0, math.inf, -p.entropy() - _mean_log_exponential(p, q))


@register_kl(Uniform, Gamma)
def _kl_uniform_gamma(p: Uniform, q: Gamma) -> Tensor:
    mean_log = _mean_log(p.low.clamp(min=0.0), p.high)
    return where(p.low < 0, math.inf, -p.entropy() - _mean_log_gamma(p, q, mean_log))


@register_kl(Uniform, Gumbel)
def _kl_uniform_gumbel(p: Uniform, q: Gumbel) -> Tensor:
    ends = (-p.low / q.scale).exp() - (-p.high / q.scale).exp()
    return -p.entropy() - _mean_log_gumbel(p, q, q.scale * ends / (p.high - p.low))


@register_kl(Uniform, Pareto)
def _kl_uniform_pareto(p: Uniform, q: Pareto) -> Tensor:
    mean_log_q = q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _mean_log(p.low, p.high)
    return where(p.low < q.scale, math.inf, -p.entropy() - mean_log_q)
