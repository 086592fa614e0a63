"""The negative binomial distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.odds import WithOdds
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import pointwise
from nbdl.ops.rejection import log_standard_gamma, poisson

__all__ = ["NegativeBinomial"]

_log_prob = pointwise(
    "negative_binomial_log_prob",
    lambda x, n, logits: (
        f.where(f.equal(n + x, 0), 0, f.lgamma(n + x) - f.lgamma(1 + x) - f.lgamma(n))
        - n * f.softplus(logits) - x * f.softplus(-logits)
    ),
)  # fmt: skip


class NegativeBinomial(WithOdds):
    """The number of successes before ``total_count`` failures, each trial one with probability ``probs``.

    Args:
        total_count: number of failures at which to stop, not necessarily whole.
        probs: in [0, 1).
        logits: log(probs / (1 - probs)), instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.NegativeBinomial(3, 0.5).mean
        tensor(3.)
    """

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        (count,) = self._set_odds(probs, logits, total_count)
        self.total_count = count.to(self._param)
        super().__init__(self._param.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Poisson numbers whose rate is a gamma number."""
        with no_grad():
            count = self.total_count.expand(self._extended_shape(sample_shape))
            rate = (log_standard_gamma(count) + self.logits).exp()
            return poisson(where(count > 0, rate, 0.0))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.total_count, self.logits)
