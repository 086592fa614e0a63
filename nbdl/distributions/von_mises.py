"""The von Mises distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl import special
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all
from nbdl.ops.rejection import standard_von_mises

__all__ = ["VonMises"]


class VonMises(Distribution):
    """Angles of density proportional to exp(concentration cos(x - loc)).

    Samples lie in [-pi, pi]; densities have period 2 pi.

    Args:
        loc: the mean direction, in radians.
        concentration: positive; 1 over it is about the variance where it is large.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.VonMises(0.0, 2.0).log_prob(nbdl.tensor(0.0))
        tensor(-0.6619)
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    has_rsample = False

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None):
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean direction."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The circular variance, 1 minus the mean resultant length."""
        return 1 - special.i1e(self.concentration) / special.i0e(self.concentration)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            angle = standard_von_mises(self.concentration.expand(self._extended_shape(sample_shape)))
            return (angle + self.loc + math.pi).remainder(2 * math.pi) - math.pi

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        # cos(x) - 1 = -2 sin(x / 2)^2, without cancellation for the small angles of large concentrations
        versine = 2 * ((value - self.loc) / 2).sin().square()
        norm = special.i0e(self.concentration).log() + math.log(2 * math.pi)
        return -self.concentration * versine - norm
