"""Losses of single elements, each a formula that is reduced in the same loop."""

from __future__ import annotations

import math
import warnings
from typing import Any

from nbdl.autograd.autocast import in_float32
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.reduction import check_reduction, reduce_losses, reduced
from nbdl.ops.primitive import check_broadcast
from nbdl.ops.reduction import SQUARED_DIFFERENCE
from nbdl.ops.requirements import Requirement, require

_ABSOLUTE = Formula("absolute_difference", lambda x, y: f.abs(x - y), 2)


def _smooth_l1_of(difference: Any, beta: Any) -> Any:
    return f.where(difference < beta, 0.5 * f.square(difference) / beta, difference - 0.5 * beta)


def _huber_of(difference: Any, delta: Any) -> Any:
    return f.where(difference <= delta, 0.5 * f.square(difference), delta * (difference - 0.5 * delta))


_SMOOTH_L1 = Formula("smooth_l1", lambda x, y, beta: _smooth_l1_of(f.abs(x - y), beta), 3)
_HUBER = Formula("huber", lambda x, y, delta: _huber_of(f.abs(x - y), delta), 3)
_NEGATIVE = Formula("negative", lambda x: f.where(x < 0, 1, 0), 1)
_OUTSIDE = Formula("outside", lambda p: f.where(f.logical_or(p < 0, p > 1), 1, 0), 1)
# Logarithms are not allowed below -100, so that a certain wrong answer keeps a finite loss, as in PyTorch.
_BCE = Formula(
    "binary_cross_entropy",
    lambda p, y: (y - 1) * f.maximum(f.log1p(-p), -100) - y * f.maximum(f.log(p), -100),
    2,
)
# -y log(sigmoid(x)) - (1 - y) log(sigmoid(-x)), with log(sigmoid(x)) = -softplus(-x).
LOGISTIC = Formula("binary_cross_entropy_with_logits", lambda x, y: (1 - y) * x + f.softplus(-x), 2)
_WEIGHTED_LOGISTIC = Formula(
    "binary_cross_entropy_with_logits",
    lambda x, y, positive: (1 - y) * x + (1 + (positive - 1) * y) * f.softplus(-x),
    3,
)
_KL = Formula("kl_div", lambda x, y: f.xlogy(y, y) - y * x, 2)
_KL_LOG = Formula("kl_div", lambda x, y: f.exp(y) * (y - x), 2)
_POISSON_LOG = Formula("poisson_nll", lambda x, y: f.exp(x) - y * x, 2)
_POISSON = Formula("poisson_nll", lambda x, y, eps: x - y * f.log(x + eps), 3)
_STIRLING = Formula(
    "stirling", lambda y: f.where(y > 1, y * f.log(y) - y + 0.5 * f.log(2 * math.pi * y), 0), 1
)
_GAUSSIAN = Formula(
    "gaussian_nll", lambda x, y, variance: 0.5 * (f.log(variance) + f.square(x - y) / variance), 3
)


def _warn_if_broadcast(label: str, input: Tensor, target: Tensor) -> None:
    if input.array.shape != target.array.shape:
        check_broadcast(label, (input.array, target.array))
        warnings.warn(
            f"{label}: using a target size ({tuple(target.shape)}) that is different to the input size "
            f"({tuple(input.shape)}); the losses of the broadcast pairs are taken, ensure they have the same "
            "size",
            stacklevel=3,
        )


def _require_same_shape(label: str, input: Tensor, target: Tensor) -> None:
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"{label}: Using a target size ({tuple(target.shape)}) that is different to the input size "
            f"({tuple(input.shape)}) is not allowed; they must be the same"
        )


def _weighted(label: str, losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    check_reduction(label, reduction)
    return reduce_losses(losses if weight is None else losses * weight, reduction)


# ------------------------------------------------------------------------------------------------- regression
@in_float32
def mse_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """(x - y)^2.

    Args:
        input: any shape.
        target: the same shape (another one is broadcast, with a warning).
        reduction: ``none``, ``mean`` or ``sum``.
        weight: of every element; the mean divides by its sum.

    Raises:
        ValueError: the reduction is unknown.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.mse_loss(nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 4.0]))
        tensor(2.)
    """
    _warn_if_broadcast("mse_loss", input, target)
    if weight is not None:
        losses = reduced("mse_loss", SQUARED_DIFFERENCE, "none", input, target)
        return _weighted_mean("mse_loss", losses, weight, reduction)
    return reduced("mse_loss", SQUARED_DIFFERENCE, reduction, input, target)


def _weighted_mean(label: str, losses: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """The reduction of weighted losses, where a mean divides by the sum of the weights."""
    check_reduction(label, reduction)
    if weight.array.shape != losses.array.shape:
        raise ValueError(
            f"{label}: Weights and input must have the same size, got {tuple(weight.shape)} and "
            f"{tuple(losses.shape)}"
        )
    if reduction == "mean":
        return (losses * weight).sum() / weight.sum()
    return reduce_losses(losses * weight, reduction)


@in_float32
def l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """abs(x - y), see :func:`mse_loss`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.l1_loss(nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 4.0]))
        tensor(1.)
    """
    _warn_if_broadcast("l1_loss", input, target)
    if input.is_complex() or target.is_complex():  # the modulus has a rule of its own
        distance = (input - target).abs()
        input, target = distance, distance.zeros_like()
    if weight is not None:
        return _weighted_mean(
            "l1_loss", reduced("l1_loss", _ABSOLUTE, "none", input, target), weight, reduction
        )
    return reduced("l1_loss", _ABSOLUTE, reduction, input, target)


@in_float32
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """(x - y)^2 / (2 beta) where abs(x - y) < beta, else abs(x - y) - beta / 2.

    Raises:
        RuntimeError: beta is negative.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.smooth_l1_loss(nbdl.tensor([0.5, 3.0]), nbdl.zeros(2))
        tensor(1.3125)
    """
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: does not support negative values for beta, got {beta}")
    _warn_if_broadcast("smooth_l1_loss", input, target)
    if beta == 0:
        return reduced("smooth_l1_loss", _ABSOLUTE, reduction, input, target)
    return reduced("smooth_l1_loss", _SMOOTH_L1, reduction, input, target, float(beta))


@in_float32
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """(x - y)^2 / 2 where abs(x - y) <= delta, else delta * (abs(x - y) - delta / 2).

    Raises:
        RuntimeError: delta is not positive.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.huber_loss(nbdl.tensor([0.5, 3.0]), nbdl.zeros(2))
        tensor(1.3125)
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss: does not support non-positive values for delta, got {delta}")
    _warn_if_broadcast("huber_loss", input, target)
    if weight is not None:
        return _weighted_mean(
            "huber_loss",
            reduced("huber_loss", _HUBER, "none", input, target, float(delta)),
            weight,
            reduction,
        )
    return reduced("huber_loss", _HUBER, reduction, input, target, float(delta))


@in_float32
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of Poisson counts: exp(x) - y x, or x - y log(x + eps).

    Args:
        input: log-rates, or rates.
        target: counts.
        log_input: whether the input holds logarithms.
        full: add Stirling's approximation of log(y!) for y > 1.
        eps: keeps the logarithm finite.
        reduction: ``none``, ``mean`` or ``sum``.
    """
    formula = _POISSON_LOG if log_input else _POISSON
    operands = (input, target) if log_input else (input, target, eps)
    if not full:
        return reduced("poisson_nll_loss", formula, reduction, *operands)
    losses = reduced("poisson_nll_loss", formula, "none", *operands)
    losses = losses + reduced("poisson_nll_loss", _STIRLING, "none", target)
    return _weighted("poisson_nll_loss", losses, None, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(var) + (x - y)^2 / var) / 2, the variances being at least ``eps``, which gradients do not see.

    Args:
        input: means.
        target: samples.
        var: variances: a number, or a tensor of the shape of the input, that shape without its last axis, or
            with axes of length 1.
        full: add log(2 pi) / 2.
        eps: smallest variance.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: a variance is negative, or the shapes do not fit.
    """
    if not isinstance(var, Tensor):
        var = input.new_full((), float(var))
    require(Requirement.of(ValueError, "gaussian_nll_loss: var has negative entry/entries"), _NEGATIVE, var)
    shape = input.array.shape
    if var.array.ndim and var.array.shape != shape:
        if shape[:-1] == var.array.shape:
            var = var.unsqueeze(-1)
        elif len(shape) != var.array.ndim or any(m not in (1, n) for m, n in zip(var.array.shape, shape)):
            raise ValueError(
                f"gaussian_nll_loss: var is of incorrect size: got {tuple(var.shape)} for input of shape "
                f"{tuple(shape)}"
            )
    limited = var + (var.detach().clamp(min=eps) - var.detach())
    losses = reduced("gaussian_nll_loss", _GAUSSIAN, "none", input, target, limited)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return _weighted("gaussian_nll_loss", losses, None, reduction)


# ---------------------------------------------------------------------------------------------- probabilities
@in_float32
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-y log(p) - (1 - y) log(1 - p), the logarithms being at least -100.

    Args:
        input: probabilities.
        target: the same shape, in [0, 1].
        weight: of every element, broadcast.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        RuntimeError: a probability is not in [0, 1].
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.binary_cross_entropy(nbdl.tensor([0.5]), nbdl.tensor([1.0]))
        tensor(0.6931)
    """
    _require_same_shape("binary_cross_entropy", input, target)
    label = "binary_cross_entropy"
    message = f"{label}: all elements of input should be between 0 and 1"
    require(Requirement.of(RuntimeError, message), _OUTSIDE, input)
    if weight is None:
        return reduced(label, _BCE, reduction, input, target)
    return _weighted(label, reduced(label, _BCE, "none", input, target), weight, reduction)


@in_float32
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy of sigmoid(x), accurate for any x.

    Args:
        input: logits.
        target: the same shape, in [0, 1].
        weight: of every element, broadcast.
        reduction: ``none``, ``mean`` or ``sum``.
        pos_weight: of the positive part, broadcast.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.binary_cross_entropy_with_logits(nbdl.zeros(1), nbdl.ones(1))
        tensor(0.6931)
    """
    label = "binary_cross_entropy_with_logits"
    _require_same_shape(label, input, target)
    formula, operands = (
        (LOGISTIC, (input, target))
        if pos_weight is None
        else (_WEIGHTED_LOGISTIC, (input, target, pos_weight))
    )
    if weight is None:
        return reduced(label, formula, reduction, *operands)
    return _weighted(label, reduced(label, formula, "none", *operands), weight, reduction)


@in_float32
def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence y (log(y) - x), x being log-probabilities.

    Args:
        input: log-probabilities.
        target: probabilities, or their logarithms.
        reduction: ``none``, ``mean``, ``sum``, or ``batchmean``: the sum divided by the length of the first
            axis, which is the mathematical definition.
        log_target: whether the target holds logarithms.

    Raises:
        ValueError: the reduction is unknown.
    """
    formula = _KL_LOG if log_target else _KL
    if reduction == "batchmean":
        total = reduced("kl_div", formula, "sum", input, target)
        return total / input.array.shape[0] if input.array.ndim else total
    return reduced("kl_div", formula, reduction, input, target)
