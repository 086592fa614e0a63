"""The exponential distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.utils import broadcast_all, uniform_like
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise

__all__ = ["Exponential"]

_log_prob = pointwise("exponential_log_prob", lambda x, rate: f.log(rate) - rate * x)
_cdf = pointwise("exponential_cdf", lambda x, rate: -f.expm1(-rate * x))
_icdf = pointwise("exponential_icdf", lambda p, rate: -f.log1p(-p) / rate)


class Exponential(ExponentialFamily):
    """Positive numbers of density rate exp(-rate x).

    Args:
        rate: positive, one over the mean.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Exponential(2.0).mean
        tensor(0.5000)
    """

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.zeros_like()

    @property
    def stddev(self) -> Tensor:
        return 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return 1 / self.rate.square()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return _icdf(uniform_like(self.rate, self._extended_shape(sample_shape)), self.rate)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.rate)

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _cdf(value, self.rate)

    def icdf(self, value: Tensor) -> Tensor:
        return _icdf(value, self.rate)

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (-self.rate,)

    def _log_normalizer(self, x: Tensor) -> Tensor:
        return -(-x).log()
