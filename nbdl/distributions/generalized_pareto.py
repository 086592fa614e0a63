"""The generalised Pareto distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all, uniform_like
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise

__all__ = ["GeneralizedPareto"]

_NEAR = (
    1e-4  # below it, four terms of the series of log(1 + t) / t and of (e^t - 1) / t are exact to rounding
)


def _log_over(z: f.Expr, k: f.Expr) -> f.Expr:
    """log(1 + k z) / k, which is z for k = 0."""
    t = k * z
    series = z * (1 - t * (1 / 2 - t * (1 / 3 - t * (1 / 4 - t / 5))))
    return f.where(f.abs(t) < _NEAR, series, f.log1p(t) / k)


def _exp_over(z: f.Expr, k: f.Expr) -> f.Expr:
    """(exp(k z) - 1) / k, which is z for k = 0."""
    t = k * z
    series = z * (1 + t / 2 * (1 + t / 3 * (1 + t / 4 * (1 + t / 5))))
    return f.where(f.abs(t) < _NEAR, series, f.expm1(t) / k)


_log_prob = pointwise(
    "generalized_pareto_log_prob",
    lambda x, loc, scale, k: -f.log(scale) - (1 + k) * _log_over((x - loc) / scale, k),
)
_log_survival = pointwise(
    "generalized_pareto_log_survival", lambda x, loc, scale, k: -_log_over((x - loc) / scale, k)
)
_icdf = pointwise(
    "generalized_pareto_icdf", lambda p, loc, scale, k: loc + scale * _exp_over(-f.log1p(-p), k)
)


class GeneralizedPareto(Distribution):
    """Exceedances over ``loc``: survival function (1 + k z)^(-1 / k) with z = (x - loc) / scale.

    k is the concentration. At k = 0 it is the exponential distribution, for negative k it is bounded above
    (Pickands 1975).

    Args:
        loc: the lower end.
        scale: positive.
        concentration: the shape parameter.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.GeneralizedPareto(0.0, 1.0, -0.5).support
        Interval(lower_bound=tensor(0.), upper_bound=tensor(2.))
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None):
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From ``loc`` to infinity, or to loc - scale / concentration where that is negative."""
        end = self.loc - self.scale / self.concentration
        return constraints.interval(self.loc, where(self.concentration < 0, end, math.inf))

    def _parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.loc, self.scale, self.concentration

    @property
    def mean(self) -> Tensor:
        mean = self.loc + self.scale / (1 - self.concentration)
        return where(self.concentration < 1, mean, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        variance = self.scale.square() / ((1 - k).square() * (1 - 2 * k))
        return where(k < 0.5, variance, math.nan)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.icdf(uniform_like(self.loc, self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, *self._parameters())

    def log_survival_function(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of events above ``value``."""
        self._validate_sample(value)
        return _log_survival(value, *self._parameters())

    def log_cdf(self, value: Tensor) -> Tensor:
        """The logarithm of :meth:`cdf`."""
        return self.cdf(value).log()

    def cdf(self, value: Tensor) -> Tensor:
        return -self.log_survival_function(value).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        return _icdf(value, *self._parameters())

    def entropy(self) -> Tensor:
        return self.scale.log() + self.concentration + 1
