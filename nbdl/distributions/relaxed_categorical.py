"""The relaxed categorical distribution."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.odds import WithOdds
from nbdl.distributions.relaxed import Relaxed
from nbdl.distributions.transforms import ExpTransform
from nbdl.distributions.utils import normalized_logits, uniform_like

__all__ = ["ExpRelaxedCategorical", "RelaxedOneHotCategorical"]


class ExpRelaxedCategorical(WithOdds):
    """Logarithms of relaxed one-hot vectors (Maddison, Mnih, Teh 2017, appendix C.3).

    Args:
        temperature: positive.
        probs: not negative, along the last axis; divided by their sum.
        logits: logarithms of the probabilities up to a constant, instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> from nbdl.distributions.relaxed_categorical import ExpRelaxedCategorical
        >>> ExpRelaxedCategorical(1.0, nbdl.ones(3)).event_shape
        nbdl.Size([3])
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.real_vector  # of those only vectors v with sum(exp(v)) = 1
    has_rsample = True
    _is_binary = False

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        self._set_odds(probs, logits)
        self.temperature = temperature
        shape = self._param.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        u = uniform_like(self.logits, self._extended_shape(sample_shape))
        gumbel = -(-u.log()).log()
        return normalized_logits((self.logits + gumbel) / self.temperature)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        n = self._event_shape[0]
        temperature = self.logits.new_ones(()) * self.temperature
        scores = normalized_logits(self.logits - value * temperature)
        return scores.sum(-1) + math.lgamma(n) + (n - 1) * temperature.log()


class RelaxedOneHotCategorical(Relaxed):
    """Probability vectors that become one-hot as the temperature falls to 0; differentiable.

    Args:
        temperature: positive.
        probs: not negative, along the last axis; divided by their sum.
        logits: logarithms of the probabilities up to a constant, instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.RelaxedOneHotCategorical(0.5, nbdl.ones(3)).sample((4,)).shape
        nbdl.Size([4, 3])
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support: Any = constraints.simplex
    _base, _transform = ExpRelaxedCategorical, ExpTransform
