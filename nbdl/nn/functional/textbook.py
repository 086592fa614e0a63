"""Losses and operators as textbooks write them, beside PyTorch's conventions."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.classification import cross_entropy
from nbdl.nn.functional.convolution import conv1d, conv2d, conv3d
from nbdl.nn.functional.linear import linear
from nbdl.nn.functional.margin import multi_margin_loss
from nbdl.nn.functional.reduction import check_reduction, reduce_losses
from nbdl.nn.functional.sizes import sizes
from nbdl.ops.creation import eye
from nbdl.ops.primitive import check_broadcast
from nbdl.ops.reduction import Reduce

_HALF_SQUARE = Formula("half_squared_error", lambda x, y: 0.5 * f.square(x - y), 2)


def multiclass_hinge_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """The sum over all classes j except the target y of max(0, s_j - s_y + margin): the multiclass SVM.

    It is :func:`multi_margin_loss` without the division by the number of classes.

    Args:
        input: scores (N, C) or (C,).
        target: integer classes (N,) or ().
        margin: how far the target's score shall be above the others.
        reduction: over samples; ``none``, ``mean`` or ``sum``.

    Source: Weston, Watkins (1999), Support vector machines for multi-class pattern recognition.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.multiclass_hinge_loss(nbdl.tensor([3.2, 5.1, -1.7]), nbdl.tensor(0))
        tensor(2.9000)
    """
    return multi_margin_loss(input, target, margin=margin, reduction=reduction) * input.array.shape[-1]


def half_squared_error(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|x - y|^2 / 2 of each sample, whose gradient is x - y.

    Args:
        input: (N, ...), the first axis counting samples.
        target: of the same shape.
        reduction: over samples; ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.half_squared_error(nbdl.tensor([[3.0, 4.0]]), nbdl.zeros(1, 2))
        tensor(12.5000)
    """
    check_reduction("half_squared_error", reduction)
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"half_squared_error: input and target must have the same shape, got {tuple(input.shape)} and "
            f"{tuple(target.shape)}"
        )
    rank = len(check_broadcast("half_squared_error", (input.array, target.array)))
    axes = tuple(range(1, rank))
    return reduce_losses(apply(Reduce.of(_HALF_SQUARE, "sum", axes, False, 0), input, target), reduction)


def convolution_matrix(
    weight: Tensor,
    input_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The matrix K of a convolution: conv(x).flatten() = K x.flatten(); differentiable in the weight.

    Args:
        weight: (O, C / groups, *kernel) with one to three spatial axes.
        input_size: spatial sizes of the input, one number or one an axis.
        stride: as of the convolution, like all that follow.
        padding: zeros on both sides, ``valid`` or ``same``.
        dilation: distance of neighbouring taps.
        groups: how many independent parts the channels fall into.

    Returns:
        (O * output sizes, C * input sizes)

    Raises:
        RuntimeError: the weight has not one to three spatial axes, or the sizes do not fit.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.convolution_matrix(nbdl.tensor([[[1.0, -1.0]]]), 3)
        tensor([[ 1., -1.,  0.],
                [ 0.,  1., -1.]])
    """
    rank = weight.array.ndim - 2
    if rank not in (1, 2, 3):
        raise RuntimeError(
            f"convolution_matrix: weight must be (O, C / groups, *kernel) with 1 to 3 spatial axes, got "
            f"{tuple(weight.shape)}"
        )
    spatial = sizes("convolution_matrix", "input_size", input_size, rank, least=1)
    channels = weight.array.shape[1] * groups
    n = channels * math.prod(spatial)
    basis = eye(n, dtype=weight.dtype, device=weight.device).reshape((n, channels, *spatial))
    function = {1: conv1d, 2: conv2d, 3: conv3d}[rank]
    images = function(basis, weight, None, stride, padding, dilation, groups)
    return images.reshape((n, -1)).transpose(0, 1)


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Convolution over time of (time, batch, channels).

    Args:
        input: (T, N, C).
        weight: (kernel, C, O).
        bias: (O,).
        pad: zeros on both sides.

    Returns:
        (T + 2 pad - kernel + 1, N, O)
    """
    out = conv1d(input.permute((1, 2, 0)), weight.permute((2, 1, 0)), bias, padding=pad)
    return out.permute((2, 0, 1))


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """Cross-entropy of a linear map: cross_entropy(linear(input, linear_weight, linear_bias), target).

    Args:
        input: (N, features) or (features,).
        linear_weight: (classes, features), or (classes, d1, ..., features) for targets (N, d1, ...).
        target: classes or probabilities, see :func:`cross_entropy`.
        linear_bias: (classes,) or (classes, d1, ...), or None.
        weight: of every class.
        reduction: ``none``, ``mean`` or ``sum``.
        ignore_index: a class that does not count; default -100.
        label_smoothing: share of the uniform distribution mixed into the target.
        options: accepted for PyTorch's sake.
    """
    shape = linear_weight.array.shape
    rows = linear_weight.reshape((-1, shape[-1]))
    bias = None if linear_bias is None else linear_bias.reshape((-1,))
    logits = linear(input, rows, bias)
    if len(shape) > 2:
        logits = logits.reshape((*input.array.shape[:-1], *shape[:-1]))
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
    )
