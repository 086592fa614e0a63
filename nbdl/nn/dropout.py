"""Dropout: random zeros in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.module import Module


class _Dropout(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(
                f"{type(self).__name__}: dropout probability has to be between 0 and 1, but got {p}"
            )
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zeroes each element with probability p in training, and scales the rest by 1 / (1 - p).

    Args:
        p: the probability.
        inplace: overwrite the input.

    Raises:
        ValueError: p is not in [0, 1].

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014), Dropout.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Dropout(0.5).eval()(nbdl.ones(3))
        tensor([1., 1., 1.])
    """

    _function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Zeroes whole channels of (N, C, L) or (C, L); arguments as in :class:`Dropout`."""

    _function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Zeroes whole channels of (N, C, H, W) or (C, H, W); arguments as in :class:`Dropout`."""

    _function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W); arguments as in :class:`Dropout`."""

    _function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance behind :class:`SELU`; arguments as in :class:`Dropout`.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter (2017), Self-normalizing neural networks.
    """

    _function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """:class:`AlphaDropout` of whole channels."""

    _function = staticmethod(F.feature_alpha_dropout)
