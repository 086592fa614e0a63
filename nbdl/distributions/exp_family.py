"""Exponential families: entropy from the gradient of the log normalizer."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.engine import grad
from nbdl.autograd.modes import enable_grad
from nbdl.autograd.tensor import Tensor
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.utils import sum_rightmost


class ExponentialFamily(Distribution):
    """Distributions of density exp(<t(x), theta> - F(theta) + k(x)).

    theta are the natural parameters, F is the log normalizer, t the sufficient statistic, k the log carrier
    measure. The gradient of F is the mean of t, which gives entropies and divergences (Nielsen and Nock
    2010).
    """

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        """The natural parameters."""
        raise NotImplementedError

    def _log_normalizer(self, *args: Any, **kwargs: Any) -> Tensor:
        """F of the natural parameters, of the batch shape."""
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> float | Tensor:
        """The mean of k."""
        raise NotImplementedError

    def _mean_statistics(self) -> tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
        """The natural parameters, F there, and its gradient, all differentiable by the parameters."""
        parameters = tuple(
            x if x.requires_grad else x.detach().requires_grad_() for x in self._natural_params
        )
        with enable_grad():
            normalizer = self._log_normalizer(*parameters)
            slopes: Any = grad(normalizer.sum(), parameters, create_graph=True)
        return parameters, normalizer, slopes

    def entropy(self) -> Tensor:
        """F(theta) - <grad F(theta), theta> - mean of k."""
        parameters, result, slopes = self._mean_statistics()
        for parameter, slope in zip(parameters, slopes, strict=True):
            event_dim = parameter.ndim - len(self.batch_shape)
            result = result - sum_rightmost(parameter * slope, event_dim)
        return result - self._mean_carrier_measure
