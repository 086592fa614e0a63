"""The normal distribution."""

from __future__ import annotations

import math

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.location_scale import Formulas, LocationScale
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise
from nbdl.ops.random import randn

__all__ = ["Normal"]

_log_prob = pointwise(
    "normal_log_prob",
    lambda x, loc, scale: -0.5 * f.square((x - loc) / scale) - f.log(scale) - 0.5 * math.log(2 * math.pi),
)
_cdf = pointwise("normal_cdf", lambda x, loc, scale: 0.5 * f.erfc((loc - x) / scale * math.sqrt(0.5)))
_icdf = pointwise("normal_icdf", lambda p, loc, scale: loc + scale * (math.sqrt(2) * f.erfinv(2 * p - 1)))


class Normal(LocationScale, ExponentialFamily):
    """Normal numbers, density exp(-((x - loc) / scale)^2 / 2) / (scale sqrt(2 pi)).

    Args:
        loc: the mean.
        scale: the standard deviation.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> normal = nbdl.distributions.Normal(1.0, 2.0)
        >>> normal.log_prob(nbdl.tensor([1.0, 3.0]))
        tensor([-1.6121, -2.1121])
    """

    _mean_carrier_measure = 0
    _formulas = Formulas(_log_prob, _cdf, _icdf)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale.square()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        normal = randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * normal

    def entropy(self) -> Tensor:
        return self.scale.log() + 0.5 * (1 + math.log(2 * math.pi))

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return self.loc / self.scale.square(), -0.5 / self.scale.square()

    def _log_normalizer(self, x: Tensor, y: Tensor) -> Tensor:
        return -0.25 * x.square() / y + 0.5 * (-math.pi / y).log()
