"""The half-normal distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.half import Half
from nbdl.distributions.normal import Normal

__all__ = ["HalfNormal"]


class HalfNormal(Half):
    """Absolute values of normal numbers of mean 0.

    Args:
        scale: standard deviation of the normal distribution.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.HalfNormal(1.0).mean
        tensor(0.7979)
    """

    def __init__(self, scale: Any, validate_args: bool | None = None):
        super().__init__(Normal(0, scale, validate_args=validate_args), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (1 - 2 / math.pi)
