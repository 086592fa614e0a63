"""Transforms of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.constraints import Constraint
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.transform import Shape, Transform
from nbdl.distributions.utils import broadcast_all, epsilon, sum_rightmost, tiny
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise
from nbdl.ops.primitive import broadcast_error

softplus = pointwise("softplus", lambda x: f.softplus(x))
_inverse_softplus = pointwise("inverse_softplus", lambda y: f.log(-f.expm1(-y)) + y)
_sigmoid_slope = pointwise("log_sigmoid_slope", lambda x: -f.softplus(-x) - f.softplus(x))
log_tanh_slope = pointwise("log_tanh_slope", lambda x: 2 * (math.log(2) - x - f.softplus(-2 * x)))


class ExpTransform(Transform):
    """y = exp(x)."""

    domain, codomain = constraints.real, constraints.positive
    bijective, sign = True, 1

    def _call(self, x: Tensor) -> Tensor:
        return x.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class PowerTransform(Transform):
    """y = x^exponent of positive numbers.

    Args:
        exponent: number or tensor.
        cache_size: 1 to cache.
    """

    domain = codomain = constraints.positive
    bijective = True

    def __init__(self, exponent: Any, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        (self.exponent,) = broadcast_all(exponent)

    def with_cache(self, cache_size: int = 1) -> Transform:
        return self if self._cache_size == cache_size else PowerTransform(self.exponent, cache_size)

    @property
    def sign(self) -> Any:
        return self.exponent.sign()

    def _call(self, x: Tensor) -> Tensor:
        return x.pow(self.exponent)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.pow(1 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.exponent * y / x).abs().log()

    def forward_shape(self, shape: Shape) -> Shape:
        return _broadcast(shape, self.exponent.shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return _broadcast(shape, self.exponent.shape)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.exponent,)


class SigmoidTransform(Transform):
    """y = 1 / (1 + exp(-x)); values are kept away from 0 and 1 by an epsilon."""

    domain, codomain = constraints.real, constraints.unit_interval
    bijective, sign = True, 1

    def _call(self, x: Tensor) -> Tensor:
        return x.sigmoid().clamp(min=tiny(x), max=1 - epsilon(x))

    def _inverse(self, y: Tensor) -> Tensor:
        inside = y.clamp(min=tiny(y), max=1 - epsilon(y))
        return inside.log() - (-inside).log1p()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return _sigmoid_slope(x)


class SoftplusTransform(Transform):
    """y = log(1 + exp(x))."""

    domain, codomain = constraints.real, constraints.positive
    bijective, sign = True, 1

    def _call(self, x: Tensor) -> Tensor:
        return softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return _inverse_softplus(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -softplus(-x)


class TanhTransform(Transform):
    """y = tanh(x)."""

    domain, codomain = constraints.real, constraints.interval(-1.0, 1.0)
    bijective, sign = True, 1

    def _call(self, x: Tensor) -> Tensor:
        return x.tanh()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return log_tanh_slope(x)


class AbsTransform(Transform):
    """y = |x|; its inverse gives the argument that is not negative."""

    domain, codomain = constraints.real, constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return x.abs()

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """y = loc + scale * x.

    Args:
        loc: number or tensor.
        scale: number or tensor, not 0.
        event_dim: how many axes an event has; 0: numbers.
        cache_size: 1 to cache.
    """

    bijective = True

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.loc, self.scale, self._event_dim = loc, scale, event_dim

    @property
    def event_dim(self) -> int:
        return self._event_dim

    @property
    def domain(self) -> Constraint:
        return (
            constraints.independent(constraints.real, self._event_dim)
            if self._event_dim
            else constraints.real
        )

    codomain = domain

    def with_cache(self, cache_size: int = 1) -> Transform:
        if self._cache_size == cache_size:
            return self
        return AffineTransform(self.loc, self.scale, self._event_dim, cache_size)

    @property
    def sign(self) -> Any:
        if isinstance(self.scale, Tensor):
            return self.scale.sign()
        return (self.scale > 0) - (self.scale < 0)

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        scale = self.scale if isinstance(self.scale, Tensor) else x.new_full((), self.scale)
        logs = scale.abs().log()
        return sum_rightmost(logs.expand(_broadcast(logs.shape, x.shape)), self._event_dim)

    def forward_shape(self, shape: Shape) -> Shape:
        return _broadcast(shape, getattr(self.loc, "shape", ()), getattr(self.scale, "shape", ()))

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.forward_shape(shape)

    def _arguments(self) -> tuple[Any, ...]:
        return self.loc, self.scale, self._event_dim


class CumulativeDistributionTransform(Transform):
    """y = the distribution function of x: uniform numbers of those that the distribution gives.

    Args:
        distribution: of numbers, with ``cdf`` and ``icdf``.
        cache_size: 1 to cache.
    """

    bijective, sign = True, 1
    codomain = constraints.unit_interval

    def __init__(self, distribution: Distribution, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.distribution = distribution

    @property
    def domain(self) -> Constraint:
        return self.distribution.support

    def with_cache(self, cache_size: int = 1) -> Transform:
        if self._cache_size == cache_size:
            return self
        return CumulativeDistributionTransform(self.distribution, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return self.distribution.cdf(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.distribution.log_prob(x)


def _broadcast(*shapes: Shape) -> Size:
    try:
        return Size(np.broadcast_shapes(*map(tuple, shapes)))
    except ValueError:
        raise broadcast_error("transform", [tuple(shape) for shape in shapes]) from None
