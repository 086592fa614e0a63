"""Distributions of one shape, moved and stretched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.utils import broadcast_all

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


class Formulas(NamedTuple):
    """Functions of (value, loc, scale)."""

    log_prob: Formula
    cdf: Formula
    icdf: Formula


class LocationScale(Distribution):
    """Base: ``_formulas`` say all; the density is largest at ``loc``.

    Args:
        loc: where the numbers lie.
        scale: how far they spread.
        validate_args: whether arguments are checked.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    _formulas: ClassVar[Formulas]

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mode(self) -> Tensor:
        return self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return self._formulas.log_prob(value, self.loc, self.scale)

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return self._formulas.cdf(value, self.loc, self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        return self._formulas.icdf(value, self.loc, self.scale)
