"""The beta distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.utils import broadcast_all, epsilon, tiny
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise
from nbdl.ops.rejection import log_standard_gamma

__all__ = ["Beta"]

_log_prob = pointwise(
    "beta_log_prob",
    lambda x, a, b: f.xlogy(a - 1, x) + f.xlog1py(b - 1, -x) + f.lgamma(a + b) - f.lgamma(a) - f.lgamma(b),
)
_entropy = pointwise(
    "beta_entropy",
    lambda a, b: (
        f.lgamma(a) + f.lgamma(b) - f.lgamma(a + b)
        - (a - 1) * f.digamma(a) - (b - 1) * f.digamma(b) + (a + b - 2) * f.digamma(a + b)
    ),
)  # fmt: skip


class Beta(ExponentialFamily):
    """Numbers in (0, 1) of density proportional to x^(concentration1 - 1) (1 - x)^(concentration0 - 1).

    Samples are X / (X + Y) of two gamma numbers, and differentiable by both parameters.

    Args:
        concentration1: positive, often called alpha.
        concentration0: positive, often called beta.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Beta(2.0, 3.0).mean
        tensor(0.4000)
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        inside = (a - 1) / (a + b - 2)
        below, above = (a < 1) & (b >= 1), (b < 1) & (a >= 1)
        flat = ((a == 1) & (b == 1)) | ((a < 1) & (b < 1))  # no mode, or two
        return where(flat, math.nan, where(below, 0.0, where(above, 1.0, inside)))

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total.square() * (total + 1))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        x = log_standard_gamma(self.concentration1.expand(shape))
        y = log_standard_gamma(self.concentration0.expand(shape))
        return (x - y).sigmoid().clamp(min=tiny(x), max=1 - epsilon(x) / 2)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.concentration1, self.concentration0)

    def entropy(self) -> Tensor:
        return _entropy(self.concentration1, self.concentration0)

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return self.concentration1, self.concentration0

    def _log_normalizer(self, x: Tensor, y: Tensor) -> Tensor:
        return x.lgamma() + y.lgamma() - (x + y).lgamma()
