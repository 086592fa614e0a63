"""The Cauchy distribution."""

from __future__ import annotations

import math

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.distribution import Shape
from nbdl.distributions.location_scale import Formulas, LocationScale
from nbdl.distributions.utils import uniform_like
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise

__all__ = ["Cauchy"]

_log_prob = pointwise(
    "cauchy_log_prob",
    lambda x, loc, scale: -math.log(math.pi) - f.log(scale) - f.log1p(f.square((x - loc) / scale)),
)
_cdf = pointwise("cauchy_cdf", lambda x, loc, scale: f.atan((x - loc) / scale) / math.pi + 0.5)
_icdf = pointwise("cauchy_icdf", lambda p, loc, scale: f.tan(math.pi * (p - 0.5)) * scale + loc)


class Cauchy(LocationScale):
    """Ratios of two normal numbers: density 1 / (pi scale (1 + ((x - loc) / scale)^2)).

    Args:
        loc: the median.
        scale: half width at half maximum.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Cauchy(0.0, 1.0).cdf(nbdl.tensor([-1.0, 0.0, 1.0]))
        tensor([0.2500, 0.5000, 0.7500])
    """

    _formulas = Formulas(_log_prob, _cdf, _icdf)

    @property
    def mean(self) -> Tensor:
        return self.loc.new_full(self._batch_shape, math.nan)

    @property
    def variance(self) -> Tensor:
        return self.loc.new_full(self._batch_shape, math.inf)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.icdf(uniform_like(self.loc, self._extended_shape(sample_shape)))

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + self.scale.log()
