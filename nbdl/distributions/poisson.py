"""The Poisson distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.utils import broadcast_all
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise
from nbdl.ops.rejection import poisson

__all__ = ["Poisson"]

_log_prob = pointwise("poisson_log_prob", lambda x, rate: f.xlogy(x, rate) - rate - f.lgamma(x + 1))


class Poisson(ExponentialFamily):
    """Counts of rare events: probability rate^k exp(-rate) / k!.

    Args:
        rate: the mean, not negative.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Poisson(2.0).log_prob(nbdl.tensor([0.0, 1.0])).exp()
        tensor([0.1353, 0.2707])
    """

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            return poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.rate)

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.rate.log(),)

    def _log_normalizer(self, x: Tensor) -> Tensor:
        return x.exp()
