"""The Weibull distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.exponential import Exponential
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.transforms import AffineTransform, PowerTransform
from nbdl.distributions.utils import broadcast_all, euler_constant

__all__ = ["Weibull"]


class Weibull(TransformedDistribution):
    """Positive numbers of survival function exp(-(x / scale)^concentration).

    Args:
        scale: positive, often called lambda.
        concentration: positive, often called k.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Weibull(1.0, 2.0).mean
        tensor(0.8862)
    """

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support: Any = constraints.positive

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None):
        self.scale, self.concentration = broadcast_all(scale, concentration)
        base = Exponential(self.scale.detach().ones_like(), validate_args=False)
        transforms = [PowerTransform(1 / self.concentration), AffineTransform(0.0, self.scale)]
        super().__init__(base, transforms, validate_args=validate_args)

    def _standard_moment(self, n: int) -> Tensor:
        """The mean of (x / scale)^n."""
        return (1 + n / self.concentration).lgamma().exp()

    @property
    def mean(self) -> Tensor:
        return self.scale * self._standard_moment(1)

    @property
    def mode(self) -> Tensor:
        excess = (self.concentration - 1).clamp(min=0.0)  # below concentration 1 the density falls from 0 on
        return self.scale * (excess / self.concentration).pow(1 / self.concentration)

    @property
    def variance(self) -> Tensor:
        variance = self._standard_moment(2) - self._standard_moment(1).square()
        return self.scale.square() * variance

    def entropy(self) -> Tensor:
        reciprocal = 1 / self.concentration
        return euler_constant * (1 - reciprocal) + (self.scale * reciprocal).log() + 1
