"""The half-Cauchy distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.cauchy import Cauchy
from nbdl.distributions.half import Half

__all__ = ["HalfCauchy"]


class HalfCauchy(Half):
    """Absolute values of Cauchy numbers about 0.

    Args:
        scale: that of the Cauchy distribution.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.HalfCauchy(1.0).cdf(nbdl.tensor(1.0))
        tensor(0.5000)
    """

    def __init__(self, scale: Any, validate_args: bool | None = None):
        super().__init__(Cauchy(0, scale, validate_args=validate_args), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.scale.new_full(self._batch_shape, math.inf)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance
