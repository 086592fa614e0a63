"""The geometric distribution."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.bernoulli import Bernoulli
from nbdl.distributions.distribution import Shape
from nbdl.distributions.odds import WithOdds
from nbdl.distributions.utils import uniform_like
from nbdl.formula import functions as f
from nbdl.ops.drawing import is_everywhere
from nbdl.ops.pointwise import pointwise

__all__ = ["Geometric"]

_log_prob = pointwise("geometric_log_prob", lambda x, p: f.xlog1py(x, -p) + f.log(p))


class Geometric(WithOdds):
    """The number of failures before the first success, each trial one with probability ``probs``.

    Args:
        probs: in (0, 1].
        logits: log(probs / (1 - probs)), instead of ``probs``.
        validate_args: whether arguments are checked.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Geometric(0.5).log_prob(nbdl.tensor([0.0, 1.0, 2.0])).exp()
        tensor([0.5000, 0.2500, 0.1250])
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self._set_odds(probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)
        if self._validate_args and logits is None and not is_everywhere(self.probs.detach() > 0):
            raise ValueError(
                f"Expected parameter probs ({type(self.probs).__name__} of shape {tuple(self.probs.shape)}) "
                f"of distribution {self!r} to be positive but found invalid values:\n{self.probs}"
            )

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return self.probs.zeros_like()

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            u = uniform_like(self.probs, self._extended_shape(sample_shape))
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        return _log_prob(value, self.probs)

    def entropy(self) -> Tensor:
        return Bernoulli(logits=self.logits, validate_args=False).entropy() / self.probs
