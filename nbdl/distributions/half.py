"""Absolute values of distributions that are symmetric about 0."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.transforms import AbsTransform
from nbdl.ops.arithmetic import where


class Half(TransformedDistribution):
    """Base: the density beyond 0 is twice that of the symmetric distribution, with its scale.

    Args:
        base: the symmetric distribution.
        validate_args: whether arguments are checked.
    """

    arg_constraints = {"scale": constraints.positive}
    support: Any = constraints.nonnegative
    has_rsample = True

    def __init__(self, base: Distribution, validate_args: bool | None = None):
        super().__init__(base, AbsTransform(), validate_args=validate_args)

    @property
    def scale(self) -> Tensor:
        """The scale."""
        return self.base_dist.scale

    @property
    def mode(self) -> Tensor:
        return self.scale.zeros_like()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return where(value >= 0, self.base_dist.log_prob(value) + math.log(2), -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, value: Tensor) -> Tensor:
        return self.base_dist.icdf((value + 1) / 2)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)
