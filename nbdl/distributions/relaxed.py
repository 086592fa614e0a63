"""Smooth stand-ins for discrete distributions."""

from __future__ import annotations

from typing import Any, ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.transform import Transform
from nbdl.distributions.transformed_distribution import TransformedDistribution


class Relaxed(TransformedDistribution):
    """Base: what is drawn from ``_base`` of these arguments, through ``_transform``.

    Args:
        temperature: positive.
        probs: probabilities.
        logits: their log odds or logarithms, instead of ``probs``.
        validate_args: whether arguments are checked.
    """

    has_rsample = True
    _base: ClassVar[type[Distribution]]
    _transform: ClassVar[type[Transform]]

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        make: Any = self._base
        base = make(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, self._transform(), validate_args=validate_args)

    @property
    def temperature(self) -> Any:
        """The temperature."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        """Log odds, or logarithms of the probabilities of categories."""
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        """Probabilities."""
        return self.base_dist.probs
