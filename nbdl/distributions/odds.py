"""Distributions given by probabilities or by their logits."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Size, Tensor
from nbdl.distributions.distribution import Distribution
from nbdl.distributions.utils import (
    broadcast_all,
    lazy_property,
    logits_to_probs,
    normalized_logits,
    probs_to_logits,
)


class WithOdds(Distribution):
    """Base: ``probs`` or ``logits`` was given, the other one is computed when it is asked for."""

    _is_binary = True

    def _set_odds(self, probs: Any, logits: Any, *others: Any) -> tuple[Tensor, ...]:
        """Keep the one that is given, broadcast with ``others``, which are returned.

        Raises:
            ValueError: both are given, or none.
        """
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        name, given = ("probs", probs) if logits is None else ("logits", logits)
        if self._is_binary:
            (given, *broadcast) = broadcast_all(given, *others)
        else:
            broadcast = list(others)
            if given.ndim < 1:
                raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
            given = given / given.sum(-1, keepdim=True) if logits is None else normalized_logits(given)
        setattr(self, name, given)
        return tuple(broadcast)

    @property
    def _param(self) -> Tensor:
        return vars(self)["probs" if "probs" in vars(self) else "logits"]

    @lazy_property
    def logits(self) -> Tensor:
        """Log odds, or logarithms of the probabilities of categories."""
        return probs_to_logits(self.probs, self._is_binary)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities."""
        return logits_to_probs(self.logits, self._is_binary)

    @property
    def param_shape(self) -> Size:
        """The shape of ``probs`` and ``logits``."""
        return Size(self._param.shape)

    def _new(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._param.new_tensor(*args, **kwargs)
