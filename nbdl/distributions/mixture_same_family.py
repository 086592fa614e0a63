"""Mixtures."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions import constraints
from nbdl.distributions.categorical import Categorical
from nbdl.distributions.distribution import Distribution, Shape
from nbdl.ops.softmax import log_softmax
from nbdl.ops.statistics import logsumexp

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """Mixtures of distributions of one family: the last batch axis of the components.

    Args:
        mixture_distribution: which component, with what probability.
        component_distribution: its last batch axis counts the components.
        validate_args: whether arguments are checked.

    Raises:
        ValueError: an argument is none of these, or the shapes do not fit.

    Example:
        >>> import nbdl
        >>> from nbdl.distributions import Categorical, MixtureSameFamily, Normal
        >>> normals = Normal(nbdl.tensor([-1.0, 1.0]), 0.5)
        >>> MixtureSameFamily(Categorical(nbdl.ones(2)), normals).mean
        tensor(0.)
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ):
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError("The Mixture distribution needs to be an instance of Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("The Component distribution need to be an instance of Distribution")
        components, mixtures = component_distribution.batch_shape, mixture_distribution.batch_shape
        for n, m in zip(reversed(mixtures), reversed(components[:-1])):
            if n != 1 and m != 1 and n != m:
                raise ValueError(
                    f"`mixture_distribution.batch_shape` ({mixtures}) is not compatible with "
                    f"`component_distribution.batch_shape` ({components})"
                )
        count = mixture_distribution.logits.shape[-1]
        if not components or components[-1] != count:
            raise ValueError(
                f"`mixture_distribution component` ({count}) does not equal "
                f"`component_distribution.batch_shape[-1]` ({components[-1:]})"
            )
        self._mixture_distribution, self._component_distribution = (
            mixture_distribution,
            component_distribution,
        )
        self._num_component = count
        self._event_ndims = len(component_distribution.event_shape)
        super().__init__(components[:-1], component_distribution.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        components = (*batch_shape, self._num_component)
        new._component_distribution = self._component_distribution.expand(components)
        new._mixture_distribution = self._mixture_distribution.expand(batch_shape)
        return new

    @property
    def has_rsample(self) -> bool:
        """False: the choice of a component has no derivative."""
        return False

    @constraints.dependent_property
    def support(self) -> Any:
        """That of the components."""
        return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    @property
    def mixture_distribution(self) -> Categorical:
        """Which component."""
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Distribution:
        """The components."""
        return self._component_distribution

    def _weights(self) -> Tensor:
        """Probabilities of the components, with an axis of length 1 for each axis of an event."""
        probs = self.mixture_distribution.probs
        return probs.reshape((*probs.shape, *[1] * self._event_ndims))

    @property
    def _axis(self) -> int:
        return -1 - self._event_ndims

    @property
    def mean(self) -> Tensor:
        return (self._weights() * self.component_distribution.mean).sum(self._axis)

    @property
    def variance(self) -> Tensor:
        """The mean of the variances, and the variance of the means."""
        means = self.component_distribution.mean
        deviations = (means - self.mean.unsqueeze(self._axis)).square()
        return (self._weights() * (self.component_distribution.variance + deviations)).sum(self._axis)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        with no_grad():
            chosen = self.mixture_distribution.expand(self._batch_shape).sample(sample_shape)
            samples = self.component_distribution.sample(sample_shape)
            index = chosen.reshape((*chosen.shape, *[1] * (self._event_ndims + 1)))
            index = index.expand((*chosen.shape, 1, *self._event_shape))
            return samples.gather(self._axis, index).squeeze(self._axis)

    def log_prob(self, value: Tensor) -> Tensor:
        self._validate_sample(value)
        log_probs = self.component_distribution.log_prob(value.unsqueeze(self._axis))
        return logsumexp(log_probs + log_softmax(self.mixture_distribution.logits, -1), -1)

    def cdf(self, value: Tensor) -> Tensor:
        cdfs = self.component_distribution.cdf(value.unsqueeze(self._axis))
        return (cdfs * self.mixture_distribution.probs).sum(-1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(\n  {self.mixture_distribution},\n  {self.component_distribution})"
