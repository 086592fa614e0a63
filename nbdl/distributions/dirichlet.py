"""The Dirichlet distribution."""

from __future__ import annotations

from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.distribution import Shape
from nbdl.distributions.exp_family import ExponentialFamily
from nbdl.distributions.utils import tiny
from nbdl.ops.arithmetic import where, xlogy
from nbdl.ops.rejection import log_standard_gamma
from nbdl.ops.softmax import softmax
from nbdl.ops.triangular import one_hot

__all__ = ["Dirichlet"]


class Dirichlet(ExponentialFamily):
    """Vectors of probabilities, of density proportional to prod_k x_k^(concentration_k - 1).

    Samples are gamma numbers divided by their sum, computed from logarithms, and differentiable.

    Args:
        concentration: positive, along the last axis.
        validate_args: whether arguments are checked.

    Raises:
        ValueError: ``concentration`` has no axis.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.Dirichlet(nbdl.tensor([1.0, 2.0, 1.0])).mean
        tensor([0.2500, 0.5000, 0.2500])
    """

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        if concentration.ndim < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        excess = (self.concentration - 1).clamp(min=0.0)
        inside = excess / excess.sum(-1, keepdim=True)
        corner = one_hot(self.concentration.argmax(-1), self._event_shape[0]).to(inside)
        return where((self.concentration < 1).all(-1, keepdim=True), corner, inside)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total.square() * (total + 1))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        logs = log_standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        return softmax(logs, -1).clamp(min=tiny(logs))

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        powers = xlogy(self.concentration - 1, value).sum(-1)
        return powers - self._log_normalizer(self.concentration)

    def entropy(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1)
        return (
            self._log_normalizer(a)
            + (total - a.shape[-1]) * total.digamma()
            - ((a - 1) * a.digamma()).sum(-1)
        )

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.concentration,)

    def _log_normalizer(self, x: Tensor) -> Tensor:
        return x.lgamma().sum(-1) - x.sum(-1).lgamma()
