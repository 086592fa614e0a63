"""The gamma distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.utils import broadcast_all, tiny
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise
from nbdl.ops.rejection import log_standard_gamma
from nbdl.ops.special_functions import igamma

__all__ = ["Gamma"]

_log_prob = pointwise(
    "gamma_log_prob", lambda x, a, rate: f.xlogy(a, rate) + f.xlogy(a - 1, x) - rate * x - f.lgamma(a)
)
_entropy = pointwise("gamma_entropy", lambda a, rate: a - f.log(rate) + f.lgamma(a) + (1 - a) * f.digamma(a))


class Gamma(ExponentialFamily):
    """Positive numbers of density proportional to x^(concentration - 1) exp(-rate x).

    Samples are differentiable by both parameters, and :meth:`cdf` too.

    Args:
        concentration: positive, the shape parameter, often called alpha.
        rate: positive, one over the scale, often called beta.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Gamma(2.0, 4.0).mean
        tensor(0.5000)
    """

    arg_constraints: Any = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate.square()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        logs = log_standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        return (logs - self.rate.log()).exp().clamp(min=tiny(logs))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.concentration, self.rate)

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return igamma(self.concentration, self.rate * value)

    def entropy(self) -> Tensor:
        return _entropy(self.concentration, self.rate)

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return self.concentration - 1, -self.rate

    def _log_normalizer(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + 1).lgamma() - (x + 1) * (-y).log()
