"""Losses that ask for a margin: between scores, classes or distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.autocast import in_float32
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.classification import one_class_a_row
from nbdl.nn.functional.distance import (
    cosine,
    has_squared_distance,
    norm_root,
    pairwise_distance,
    squared_distance,
)
from nbdl.nn.functional.loss import LOGISTIC
from nbdl.nn.functional.reduction import check_reduction, reduce_losses, reduced
from nbdl.ops import margin_losses
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import check_broadcast
from nbdl.ops.scattering import gather

_HINGE_EMBEDDING = Formula(
    "hinge_embedding",
    lambda x, y, margin: f.where(
        f.equal(y, 1), x, f.where(f.equal(y, -1), f.relu(margin - x), x + f.relu(margin - x))
    ),
    3,
)
_COSINE_EMBEDDING = Formula(
    "cosine_embedding",
    lambda cosine, y, margin: f.where(
        f.equal(y, 1), 1 - cosine, f.where(f.equal(y, -1), f.relu(cosine - margin), 0)
    ),
    3,
)
_MARGIN_RANKING = Formula("margin_ranking", lambda a, b, y, margin: f.relu(margin - y * (a - b)), 4)
_SOFT_MARGIN = Formula("soft_margin", lambda x, y: f.softplus(-y * x), 2)
_TRIPLET = Formula(
    "triplet_margin", lambda positive, negative, margin: f.relu(margin + positive - negative), 3
)
_TRIPLET_OF_SQUARES = Formula(
    "triplet_margin",
    lambda positive, negative, margin: f.relu(margin + norm_root(positive) - norm_root(negative)),
    3,
)


@in_float32
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return reduced("hinge_embedding_loss", _HINGE_EMBEDDING, reduction, input, target, float(margin))


@in_float32
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - y (x1 - x2)): y = 1 asks for x1 above x2, -1 for the opposite.

    Raises:
        RuntimeError: the ranks differ.
    """
    if not input1.array.ndim == input2.array.ndim == target.array.ndim:
        raise RuntimeError(
            "margin_ranking_loss: All input tensors should have same dimension but got sizes: "
            f"input1: {tuple(input1.shape)}, input2: {tuple(input2.shape)}, target: {tuple(target.shape)}"
        )
    return reduced("margin_ranking_loss", _MARGIN_RANKING, reduction, input1, input2, target, float(margin))


@in_float32
def soft_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-y x)) for targets -1 and 1."""
    return reduced("soft_margin_loss", _SOFT_MARGIN, reduction, input, target)


def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """The mean over the classes (last axis) of the binary cross-entropy with logits."""
    check_reduction("multilabel_soft_margin_loss", reduction)
    losses = call(LOGISTIC, input, target)
    return reduce_losses((losses if weight is None else losses * weight).mean(-1), reduction)


@in_float32
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1.

    Args:
        input1: (N, D) or (D,).
        input2: the same shape.
        target: (N,) or ().
        margin: from -1 to 1.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    if (
        target.array.ndim not in (0, 1)
        or input1.array.ndim != target.array.ndim + 1
        or input2.array.ndim != input1.array.ndim
    ):
        raise RuntimeError(
            "cosine_embedding_loss: a 1D target tensor expects 2D input tensors, a 0D target 1D inputs, but "
            f"found sizes {tuple(input1.shape)}, {tuple(input2.shape)} and target {tuple(target.shape)}"
        )
    # PyTorch's own constant in this loss.
    similarity = cosine(input1, input2, -1, 1e-12)
    return reduced("cosine_embedding_loss", _COSINE_EMBEDDING, reduction, similarity, target, float(margin))


@in_float32
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d being the p-norm of the difference.

    Args:
        anchor: (N, D) or (D,).
        positive: the same shape.
        negative: the same shape.
        margin: how much further the negative shall be; positive.
        p: order of the norm.
        eps: added to the differences.
        swap: take the distance of positive and negative instead, if it is smaller (Balntas et al. 2016).
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: the margin is not positive.
    """
    check_broadcast("triplet_margin_loss", (anchor.array, positive.array, negative.array))
    by_squares = p == 2 and has_squared_distance(anchor, positive) and has_squared_distance(anchor, negative)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return squared_distance(a, b, eps) if by_squares else pairwise_distance(a, b, p, eps)

    formula = _TRIPLET_OF_SQUARES if by_squares else _TRIPLET
    operands = anchor, positive, negative, margin, swap, reduction
    return _triplet("triplet_margin_loss", formula, distance, *operands)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Any = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """:func:`triplet_margin_loss` with any distance function of two tensors."""
    distance = distance_function or pairwise_distance
    return _triplet(
        "triplet_margin_with_distance_loss",
        _TRIPLET,
        distance,
        anchor,
        positive,
        negative,
        margin,
        swap,
        reduction,
    )


def _triplet(
    label: str,
    formula: Formula,
    distance: Any,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if margin <= 0:
        raise ValueError(f"{label}: expected margin to be greater than 0, got {margin}")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        other = distance(positive, negative)
        far = where(other < far, other, far)
    return reduced(label, formula, reduction, near, far, float(margin))


@in_float32
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """The mean over all classes j except the target y of max(0, margin - x_y + x_j)^p.

    Args:
        input: scores (N, C) or (C,), or one as ().
        target: integer classes (N,), or one as () or (1,).
        p: 1 or 2.
        margin: how far the target's score shall be above the others.
        weight: (C,), of every target class.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: p is neither 1 nor 2, the batches differ, or the weights are no vector.
        RuntimeError: there are no classes, there is not one weight a class, its dtype is not that of the
            input, or the target is not of int64.
    """
    check_reduction("multi_margin_loss", reduction)
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: only p == 1 and p == 2 supported, got {p}")
    x, classes = input, target
    if input.array.ndim < 2 and target.array.size == 1:
        x, classes = input.reshape(1, -1), target.reshape(1)
    x, classes = one_class_a_row("multi_margin_loss", x, classes)
    if x.array.shape[1:] == (0,):
        raise RuntimeError(f"multi_margin_loss: input must have classes, got shape {list(input.shape)}")
    if weight is not None and weight.array.shape != x.array.shape[1:]:
        error = RuntimeError if weight.array.ndim == 1 else ValueError
        raise error(
            f"multi_margin_loss: weight must have shape {list(x.shape[1:])}, got {list(weight.shape)}"
        )
    if weight is not None and weight.dtype != x.dtype:
        raise RuntimeError(
            f"multi_margin_loss: weight must have the dtype of input, {x.dtype}, got {weight.dtype}"
        )
    if classes.dtype != np.int64:
        raise RuntimeError(f"multi_margin_loss: target must have dtype int64, got {target.dtype}")
    if weight is None and reduction != "none":
        return margin_losses.multi_margin_loss(x, classes, p, float(margin), reduction == "mean")
    losses = margin_losses.multi_margin_rows(x, classes, p, margin)
    if weight is not None:
        losses = losses * gather(weight, 0, classes)
    if reduction == "none":
        return losses.reshape(target.array.shape)
    return reduce_losses(losses, reduction)


@in_float32
def multilabel_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """The sum over all targets y and other classes j of max(0, 1 - (x_y - x_j)), over the number of classes.

    Args:
        input: scores (N, C) or (C,), or one as ().
        target: integers of the same shape: the target classes, then -1.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        RuntimeError: the shapes differ, there are no classes, or the target is not of int64.
    """
    check_reduction("multilabel_margin_loss", reduction)
    if target.array.shape != input.array.shape or input.array.ndim > 2:
        raise RuntimeError(
            f"multilabel_margin_loss: inconsistent target size {list(target.shape)} for input of size "
            f"{list(input.shape)}; expected (N, C), (C,) or () for both"
        )
    if 0 in input.array.shape[-1:] or target.dtype != np.int64:
        raise RuntimeError(
            f"multilabel_margin_loss: expected classes and a target of int64, got input {list(input.shape)} "
            f"and a target of {target.dtype}"
        )
    single = input.array.ndim < 2
    x, classes = (input.reshape(1, -1), target.reshape(1, -1)) if single else (input, target)
    if reduction != "none":
        return margin_losses.multilabel_margin_loss(x, classes, reduction == "mean")
    losses = margin_losses.multilabel_margin_rows(x, classes)
    return losses.squeeze(0) if single else losses
