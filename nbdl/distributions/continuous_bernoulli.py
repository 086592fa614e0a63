"""The continuous Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.odds import WithOdds
from nbdl.distributions.utils import clamp_probs, uniform_like
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise

__all__ = ["ContinuousBernoulli"]

# Where probs is near 1/2, the values at the bounds of that interval, and Taylor's polynomials at 1/2.
_log_norm = pointwise(
    "continuous_bernoulli_log_norm",
    lambda p, outside, x: f.where(
        outside,
        f.log(f.abs(f.log1p(-p) - f.log(p))) - f.log(f.abs(1 - 2 * p)),
        math.log(2) + (4 / 3 + 104 / 45 * f.square(x)) * f.square(x),
    ),
)
_mean = pointwise(
    "continuous_bernoulli_mean",
    lambda p, outside, x: f.where(
        outside,
        p / (2 * p - 1) + 1 / (f.log1p(-p) - f.log(p)),
        0.5 + (1 / 3 + 16 / 45 * f.square(x)) * x,
    ),
)
_variance = pointwise(
    "continuous_bernoulli_variance",
    lambda p, outside, x: f.where(
        outside,
        p * (p - 1) / f.square(1 - 2 * p) + 1 / f.square(f.log1p(-p) - f.log(p)),
        1 / 12 - (1 / 15 - 128 / 945 * f.square(x)) * f.square(x),
    ),
)


class ContinuousBernoulli(WithOdds, ExponentialFamily):
    """Numbers in [0, 1] of density proportional to probs^x (1 - probs)^(1 - x).

    Loaiza-Ganem and Cunningham: The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders (2019).

    Args:
        probs: in (0, 1).
        logits: log(probs / (1 - probs)), instead of ``probs``.
        lims: the interval about 1/2 in which series are used, since the closed forms are 0 / 0 there.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.ContinuousBernoulli(0.5).log_prob(nbdl.tensor([0.0, 0.3]))
        tensor([0., 0.])
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ):
        self._set_odds(probs, logits)
        self._lims = lims
        super().__init__(self._param.shape, validate_args=validate_args)
        if logits is None:  # also logits are of these
            self.probs = clamp_probs(self.probs)

    def _terms(self) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities, moved out of the interval about 1/2; where they were outside; distances to 1/2."""
        low, high = self._lims
        outside = (self.probs <= low) | (self.probs > high)
        return where(outside, self.probs, low), outside, self.probs - 0.5

    @property
    def mean(self) -> Tensor:
        return _mean(*self._terms())

    @property
    def variance(self) -> Tensor:
        return _variance(*self._terms())

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.icdf(uniform_like(self.probs, self._extended_shape(sample_shape)))

    def _log_norm(self) -> Tensor:
        return _log_norm(*self._terms())

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return value * self.logits + (-self.probs).log1p() + self._log_norm()

    def cdf(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        p, outside, _ = self._terms()
        grown = p.pow(value) * (1 - p).pow(1 - value) + p - 1
        return where(value <= 0, 0.0, where(value >= 1, 1.0, where(outside, grown / (2 * p - 1), value)))

    def icdf(self, value: Tensor) -> Tensor:
        p, outside, _ = self._terms()
        log_odds = p.log() - (-p).log1p()
        inverse = ((value * (2 * p - 1) - p).log1p() - (-p).log1p()) / log_odds
        return where(outside, inverse, value)

    def entropy(self) -> Tensor:
        return -self.mean * self.logits - (-self.probs).log1p() - self._log_norm()

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Tensor) -> Tensor:
        low, high = [math.log(p / (1 - p)) for p in self._lims]
        outside = (x <= low) | (x > high)
        cut = where(outside, x, low)
        closed = (cut.exp() - 1).abs().log() - cut.abs().log()
        return where(outside, closed, 0.5 * x + x.square() / 24 - x.pow(4) / 2880)
