"""The categorical distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.odds import WithOdds
from nbdl.ops.creation import arange
from nbdl.ops.random import multinomial
from nbdl.ops.rearranging import broadcast_tensors
from nbdl.ops.type_rules import finfo

__all__ = ["Categorical"]


class Categorical(WithOdds):
    """Indices of categories with the given probabilities.

    Args:
        probs: not negative, along the last axis; divided by their sum.
        logits: logarithms of the probabilities up to a constant, instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> categorical = nbdl.distributions.Categorical(nbdl.tensor([1.0, 1.0, 2.0]))
        >>> categorical.log_prob(nbdl.tensor([0, 2])).exp()
        tensor([0.2500, 0.5000])
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True
    _is_binary = False

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self._set_odds(probs, logits)
        super().__init__(self._param.shape[:-1], validate_args=validate_args)

    @property
    def _num_events(self) -> int:
        return self._param.shape[-1]

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The indices of the categories."""
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Tensor:
        return self.probs.new_full(self._batch_shape, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.probs.argmax(-1)

    @property
    def variance(self) -> Tensor:
        return self.probs.new_full(self._batch_shape, math.nan)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        count = Size(sample_shape).numel()
        with no_grad():
            rows = self.probs.reshape((-1, self._num_events))
            return multinomial(rows, count, True).t().reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        index, logits = broadcast_tensors(value.to("int64").unsqueeze(-1), self.logits)
        return logits.gather(-1, index[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        logits = self.logits.clamp(min=float(finfo(self.logits.dtype).min))  # 0 times it is 0, not NaN
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = arange(self._num_events, device=self._param.device)
        values = values.reshape((-1, *[1] * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values
