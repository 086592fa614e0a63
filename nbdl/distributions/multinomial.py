"""The multinomial distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.binomial import Binomial
from nbdl.distributions.categorical import Categorical
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.distributions.utils import broadcast_all
from nbdl.ops.arithmetic import logical_and, where

__all__ = ["Multinomial"]


class Multinomial(Distribution):
    """How often each category comes in ``total_count`` draws.

    Args:
        total_count: number of draws, the same for the whole batch.
        probs: not negative, along the last axis; divided by their sum.
        logits: logarithms of the probabilities up to a constant, instead of ``probs``.
        validate_args: whether arguments are checked.

    Raises:
        NotImplementedError: ``total_count`` is no number.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Multinomial(8, nbdl.tensor([1.0, 1.0, 2.0])).mean
        tensor([2., 2., 4.])
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def __init__(
        self,
        total_count: int = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = Categorical(probs=probs, logits=logits)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new._categorical = self._categorical.expand(batch_shape)
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Counts that sum to ``total_count`` or less."""
        return constraints.multinomial(self.total_count)

    @property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        return self._categorical.logits

    @property
    def probs(self) -> Tensor:
        """The probabilities."""
        return self._categorical.probs

    @property
    def param_shape(self) -> Size:
        """The shape of ``probs`` and ``logits``."""
        return self._categorical.param_shape

    def _new(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._categorical._new(*args, **kwargs)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            draws = self._categorical.sample((self.total_count, *sample_shape)).movedim(0, -1)
            counts = self.probs.new_zeros(self._extended_shape(sample_shape))
            return counts.scatter_add(-1, draws, counts.new_ones(draws.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        logits, counts = broadcast_all(self.logits, value)
        impossible = logical_and(counts == 0, logits == -math.inf)
        powers = counts * where(impossible, 0.0, logits)
        return (counts.sum(-1) + 1).lgamma() + (powers - (counts + 1).lgamma()).sum(-1)

    def entropy(self) -> Tensor:
        n = self.total_count
        each = Binomial(n, probs=self.probs, validate_args=False)
        counts = each.enumerate_support(expand=False)[1:]
        log_factorials = (each.log_prob(counts).exp() * (counts + 1).lgamma()).sum((0, -1))
        of_order = math.lgamma(n + 1)
        return n * self._categorical.entropy() - of_order + log_factorials
