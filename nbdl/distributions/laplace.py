"""The Laplace distribution."""

from __future__ import annotations

import math

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.distribution import Shape
from nbdl.distributions.location_scale import Formulas, LocationScale
from nbdl.distributions.utils import uniform_like
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise

__all__ = ["Laplace"]

_log_prob = pointwise("laplace_log_prob", lambda x, loc, scale: -f.log(2 * scale) - f.abs(x - loc) / scale)
_cdf = pointwise(
    "laplace_cdf",
    lambda x, loc, scale: 0.5 - 0.5 * f.sign(x - loc) * f.expm1(-f.abs(x - loc) / scale),
)
_icdf = pointwise(
    "laplace_icdf", lambda p, loc, scale: loc - scale * f.sign(p - 0.5) * f.log1p(-2 * f.abs(p - 0.5))
)


class Laplace(LocationScale):
    """Numbers of density exp(-|x - loc| / scale) / (2 scale).

    Args:
        loc: the mean.
        scale: positive.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Laplace(0.0, 1.0).variance
        tensor(2.)
    """

    _formulas = Formulas(_log_prob, _cdf, _icdf)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale.square()

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(2) * self.scale

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.icdf(uniform_like(self.loc, self._extended_shape(sample_shape)))

    def entropy(self) -> Tensor:
        return 1 + (2 * self.scale).log()
