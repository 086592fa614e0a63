"""The binomial distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.odds import WithOdds
from nbdl.formula import functions as f
from nbdl.ops.creation import arange
from nbdl.ops.pointwise import pointwise
from nbdl.ops.rejection import binomial

__all__ = ["Binomial"]

_log_prob = pointwise(
    "binomial_log_prob",
    lambda x, n, logits: (
        f.lgamma(n + 1) - f.lgamma(x + 1) - f.lgamma(n - x + 1) + x * logits - n * f.softplus(logits)
    ),
)


class Binomial(WithOdds):
    """The number of successes in ``total_count`` trials, each of probability ``probs``.

    Args:
        total_count: number of trials.
        probs: in [0, 1].
        logits: log(probs / (1 - probs)), instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Binomial(4, nbdl.tensor([0.0, 0.5])).mean
        tensor([0., 2.])
    """

    arg_constraints = {
        "total_count": constraints.nonnegative_integer,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }
    has_enumerate_support = True

    def __init__(
        self,
        total_count: Any = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        (count,) = self._set_odds(probs, logits, total_count)
        self.total_count = count.to(self._param)
        super().__init__(self._param.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The integers from 0 to ``total_count``."""
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().minimum(self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with no_grad():
            return binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.total_count, self.logits)

    def entropy(self) -> Tensor:
        """The entropy in nats, by the sum over the support; of one ``total_count`` for the whole batch."""
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(log_prob.exp() * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        count = int(self.total_count.max())
        if not bool((self.total_count == count).all()):
            raise NotImplementedError("Inhomogeneous total count not supported by `enumerate_support`.")
        values = arange(1 + count, dtype=self._param.dtype, device=self._param.device)
        values = values.reshape((-1, *[1] * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values
