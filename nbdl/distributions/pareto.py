"""The Pareto distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.exponential import Exponential
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.transforms import AffineTransform, ExpTransform
from nbdl.distributions.utils import broadcast_all
from nbdl.ops.arithmetic import where

__all__ = ["Pareto"]


class Pareto(TransformedDistribution):
    """Numbers above ``scale`` of survival function (scale / x)^alpha.

    Args:
        scale: the lower end, positive.
        alpha: positive.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Pareto(1.0, 3.0).mean
        tensor(1.5000)
    """

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None):
        self.scale, self.alpha = broadcast_all(scale, alpha)
        base = Exponential(self.alpha, validate_args=validate_args)
        transforms = [ExpTransform(), AffineTransform(0.0, self.scale)]
        super().__init__(base, transforms, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From ``scale`` to infinity."""
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Tensor:
        return where(self.alpha > 1, self.alpha * self.scale / (self.alpha - 1), math.inf)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        a = self.alpha
        variance = self.scale.square() * a / ((a - 1).square() * (a - 2))
        return where(a > 2, variance, math.inf)

    def entropy(self) -> Tensor:
        return (self.scale / self.alpha).log() + 1 + 1 / self.alpha
