"""The uniform distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise
from nbdl.ops.random import rand

__all__ = ["Uniform"]

_log_prob = pointwise(
    "uniform_log_prob",
    lambda x, low, high: f.where(f.logical_and(low <= x, x < high), -f.log(high - low), -math.inf),
)
_cdf = pointwise("uniform_cdf", lambda x, low, high: f.clip((x - low) / (high - low), 0.0, 1.0))


class Uniform(Distribution):
    """Numbers in [low, high), all alike.

    Args:
        low: the lower end.
        high: the upper end, larger.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Uniform(0.0, 4.0).log_prob(nbdl.tensor([0.0, 1.0])).exp()
        tensor([0.2500, 0.2500])
    """

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """``low`` is below ``high``."""
        return {"low": constraints.less_than(self.high), "high": constraints.greater_than(self.low)}

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """The interval."""
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        return self.low.new_full(self._batch_shape, math.nan)

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / math.sqrt(12)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low).square() / 12

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        u = rand(self._extended_shape(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.low, self.high)

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _cdf(value, self.low, self.high)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()
