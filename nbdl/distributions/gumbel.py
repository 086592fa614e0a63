"""The Gumbel distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.transformed_distribution import TransformedDistribution
from nbdl.distributions.transforms import AffineTransform, ExpTransform
from nbdl.distributions.uniform import Uniform
from nbdl.distributions.utils import broadcast_all, epsilon, euler_constant, tiny
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise

__all__ = ["Gumbel"]

_log_prob = pointwise(
    "gumbel_log_prob", lambda x, loc, scale: (loc - x) / scale - f.exp((loc - x) / scale) - f.log(scale)
)


class Gumbel(TransformedDistribution):
    """Largest of many numbers: distribution function exp(-exp(-(x - loc) / scale)).

    Args:
        loc: the mode.
        scale: positive.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Gumbel(1.0, 2.0).mean
        tensor(2.1544)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support: Any = constraints.real

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        ones = self.loc.ones_like()
        base = Uniform(ones * tiny(ones), ones * (1 - epsilon(ones)), validate_args=False)
        # -log(-log(u))
        transforms = [
            ExpTransform().inv,
            AffineTransform(0.0, -ones),
            ExpTransform().inv,
            AffineTransform(self.loc, -self.scale),
        ]
        super().__init__(base, transforms, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * euler_constant

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.loc, self.scale)

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + euler_constant)
