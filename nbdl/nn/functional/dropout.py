"""Dropout: elements, or whole channels, set to 0 at random, the others scaled so that the mean stays."""

from __future__ import annotations

import math

from nbdl.autograd.tensor import Tensor
from nbdl.backend.numpy.random import DROP
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.nn.functional.activation import SELU_ALPHA, SELU_SCALE
from nbdl.ops import dropout as ops
from nbdl.ops.drawing import RandomBernoulli
from nbdl.ops.inplace import call_in_place
from nbdl.ops.pointwise import call, scalar
from nbdl.random import default_generator

_ALPHA_DROP = Formula(
    "alpha_dropout", lambda x, kept, scale, low, shift: scale * f.where(kept, x, low) + shift, 5
)


def _check_probability(label: str, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{label}: dropout probability has to be between 0 and 1, but got {p}")


def _kept(input: Tensor, p: float, axes: int) -> Tensor:
    """Bools, true with probability 1 - p, own ones for each index of the first ``axes`` axes."""
    shape = input.array.shape
    mask = RandomBernoulli.of((*shape[:axes], *[1] * (len(shape) - axes)), dtypes.BOOL)
    return default_generator(input.device).draw(mask, scalar(1.0 - p))


def _drop(label: str, input: Tensor, p: float, training: bool, inplace: bool, axes: int) -> Tensor:
    _check_probability(label, p)
    if not training or p == 0:
        return input
    if axes == input.array.ndim and not inplace:
        return ops.dropout(input, p)
    operands = (input, _kept(input, p, axes), float(p))
    return call_in_place(DROP, *operands) if inplace else call(DROP, *operands)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with probability p, else divided by 1 - p (Srivastava et al. 2014).

    Args:
        input: any shape.
        p: probability of an element to be dropped.
        training: without it the input is returned as it is.
        inplace: overwrite the input.

    Raises:
        ValueError: p is not a probability.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.dropout(nbdl.ones(3), 0.5, training=False)
        tensor([1., 1., 1.])
    """
    return _drop("dropout", input, p, training, inplace, input.array.ndim)


def _drop_channels(label: str, rank: int, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    ndim = input.array.ndim
    if ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"{label}: Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input, but got input of "
            f"size: {list(input.shape)}"
        )
    return _drop(label, input, p, training, inplace, ndim - rank)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of (N, C, L) or (C, L) dropped, see :func:`dropout`."""
    return _drop_channels("dropout1d", 1, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of (N, C, H, W) or (C, H, W) dropped, see :func:`dropout`."""
    return _drop_channels("dropout2d", 2, input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of (N, C, D, H, W) or (C, D, H, W) dropped, see :func:`dropout`."""
    return _drop_channels("dropout3d", 3, input, p, training, inplace)


def _alpha_drop(label: str, input: Tensor, p: float, training: bool, inplace: bool, axes: int) -> Tensor:
    _check_probability(label, p)
    if not training or p == 0:
        return input
    low = -SELU_SCALE * SELU_ALPHA  # the value of selu far below 0
    scale = 0.0 if p == 1 else 1 / math.sqrt((1 - p) * (1 + p * low * low))
    operands = (input, _kept(input, p, axes), scale, low, -scale * low * p)
    return call_in_place(_ALPHA_DROP, *operands) if inplace else call(_ALPHA_DROP, *operands)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout to the lower limit of selu, scaled and moved so that mean and variance stay.

    Klambauer et al., Self-Normalizing Neural Networks (2017).

    Args:
        input: any shape.
        p: probability of an element to be dropped.
        training: without it the input is returned as it is.
        inplace: overwrite the input.

    Raises:
        ValueError: p is not a probability.
    """
    return _alpha_drop("alpha_dropout", input, p, training, inplace, input.array.ndim)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """:func:`alpha_dropout` of whole channels of (N, C, ...)."""
    return _alpha_drop("feature_alpha_dropout", input, p, training, inplace, 2)


def feature_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """:func:`dropout` of whole channels of (N, C, ...), of any number of axes."""
    return _drop("feature_dropout", input, p, training, inplace, 2)
