"""The relaxed Bernoulli distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.odds import WithOdds
from nbdl.distributions.relaxed import Relaxed
from nbdl.distributions.transforms import SigmoidTransform
from nbdl.distributions.utils import uniform_like
from nbdl.formula import functions as f
from nbdl.ops.pointwise import pointwise

__all__ = ["LogitRelaxedBernoulli", "RelaxedBernoulli"]

_log_prob = pointwise(
    "logit_relaxed_bernoulli_log_prob",
    lambda x, logits, temperature: (
        f.log(temperature) + (logits - x * temperature) - 2 * f.softplus(logits - x * temperature)
    ),
)


class LogitRelaxedBernoulli(WithOdds):
    """Logits of relaxed Bernoulli numbers: (logits + L) / temperature, where L is a logistic number.

    Args:
        temperature: positive.
        probs: in (0, 1).
        logits: log(probs / (1 - probs)), instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.relaxed_bernoulli.LogitRelaxedBernoulli(1.0, 0.5).log_prob(nbdl.tensor(0.0))
        tensor(-1.3863)
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        self.temperature = temperature
        self._set_odds(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        u = uniform_like(self.logits, self._extended_shape(sample_shape))
        return (u.logit() + self.logits) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.logits, self.temperature)


class RelaxedBernoulli(Relaxed):
    """Numbers in (0, 1) that become Bernoulli numbers as the temperature falls to 0; differentiable.

    Maddison, Mnih, Teh: The Concrete distribution (2017); Jang, Gu, Poole: Categorical reparameterization
    with Gumbel-softmax (2017).

    Args:
        temperature: positive.
        probs: in (0, 1).
        logits: log(probs / (1 - probs)), instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.RelaxedBernoulli(0.5, nbdl.tensor([0.1, 0.9])).sample().shape
        nbdl.Size([2])
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support: Any = constraints.unit_interval
    _base, _transform = LogitRelaxedBernoulli, SigmoidTransform

    @property
    def param_shape(self) -> Size:
        """The shape of ``probs`` and ``logits``."""
        return self.base_dist.param_shape
