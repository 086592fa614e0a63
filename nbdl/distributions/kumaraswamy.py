"""The distribution of Kumaraswamy."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.transforms import AffineTransform, PowerTransform
from nbdl.distributions.uniform import Uniform
from nbdl.distributions.utils import broadcast_all, euler_constant
from nbdl.ops.arithmetic import where

__all__ = ["Kumaraswamy"]


class Kumaraswamy(TransformedDistribution):
    """Numbers in (0, 1) of distribution function 1 - (1 - x^a)^b (Kumaraswamy 1980).

    Args:
        concentration1: a, positive.
        concentration0: b, positive.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Kumaraswamy(1.0, 3.0).mean
        tensor(0.2500)
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support: Any = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        zeros = self.concentration1.detach().zeros_like()
        transforms = [
            PowerTransform(1 / self.concentration0),
            AffineTransform(1.0, -1.0),
            PowerTransform(1 / self.concentration1),
        ]
        super().__init__(Uniform(zeros, zeros + 1, validate_args=False), transforms, validate_args)

    def _moment(self, n: int) -> Tensor:
        """The mean of x^n."""
        a, b = self.concentration1, self.concentration0
        order = 1 + n / a
        return (order.lgamma() + (b + 1).lgamma() - (order + b).lgamma()).exp()

    @property
    def mean(self) -> Tensor:
        return self._moment(1)

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        mode = (((a - 1) / (a * b - 1)).log() / a).exp()
        return where((a < 1) | (b < 1), math.nan, mode)

    @property
    def variance(self) -> Tensor:
        return self._moment(2) - self.mean.square()

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1).digamma() + euler_constant
        return 1 - 1 / b + (1 - 1 / a) * harmonic - a.log() - b.log()
