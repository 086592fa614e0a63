"""Losses over classes: cross-entropy, negative log-likelihood, and margins between classes."""

from __future__ import annotations

from nbdl.autograd.autocast import in_float32
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.reduction import check_reduction, reduce_losses
from nbdl.ops import class_losses
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.class_losses import count_of, cross_entropy_loss
from nbdl.ops.pointwise import call
from nbdl.ops.reduction import Reduce
from nbdl.ops.scattering import gather
from nbdl.ops.softmax import cross_entropy_rows, log_softmax

_SAFE = Formula("safe_class", lambda target, ignored: f.where(f.equal(target, ignored), 0, target), 2)
_KEPT_NEGATIVE = Formula(
    "kept_negative", lambda x, target, ignored: f.where(f.equal(target, ignored), 0, -x), 3
)
_KEPT = Formula("kept", lambda value, target, ignored: f.where(f.equal(target, ignored), 0, value), 3)
_SMOOTHED = Formula("smoothed", lambda loss, uniform, epsilon: (1 - epsilon) * loss + epsilon * uniform, 3)
_PRODUCT = formula_of("multiply")
_TRIPLE_PRODUCT = Formula("product", lambda x, y, z: x * y * z, 3)


@in_float32
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(softmax(logits)) at the target class, or its mean under target probabilities.

    Args:
        input: logits (N, C), (N, C, d1, ...) or (C,).
        target: integer classes (N,), (N, d1, ...) or (); or probabilities of the shape of the input.
        weight: (C,), of every class.
        ignore_index: a target class whose rows count neither in the loss nor in the mean.
        reduction: ``none``, ``mean`` (weighted by the classes' weights) or ``sum``.
        label_smoothing: share of the uniform distribution mixed into the target, in [0, 1].

    Raises:
        ValueError: the batches differ, or the reduction is unknown.
        RuntimeError: shapes or dtypes do not fit, or the smoothing is out of range.
        IndexError: a class does not exist.

    Example:
        >>> import nbdl
        >>> logits = nbdl.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> nbdl.nn.functional.cross_entropy(logits, nbdl.tensor([0, 1]))
        tensor(0.1269)
    """
    label = "cross_entropy"
    check_reduction(label, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"{label}: label_smoothing must be between 0.0 and 1.0, got {label_smoothing}")
    if input.array.ndim == 0:
        raise RuntimeError(f"{label}: input must have a class axis, got a 0-d tensor")
    if weight is not None and weight.array.shape != (_classes(input),):
        raise RuntimeError(
            f"{label}: weight tensor should be defined either for all {_classes(input)} classes or no "
            f"classes but got weight tensor of shape: {list(weight.shape)}"
        )
    if target.is_floating_point():
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    logits, classes = one_class_a_row(label, input, target)
    if weight is None and not label_smoothing and reduction != "none":
        return cross_entropy_loss(logits, classes, ignore_index, reduction == "mean")
    losses = cross_entropy_rows(logits, classes, ignore_index)
    scale = None if weight is None else _row_weights(weight, classes, ignore_index)
    if scale is not None:
        losses = losses * scale
    if label_smoothing:
        uniform = _uniform_losses(logits, weight)
        losses = call(_SMOOTHED, losses, call(_KEPT, uniform, classes, ignore_index), label_smoothing)
    return _reduce_rows(losses, classes, scale, ignore_index, reduction, input.array.ndim == 1)


@in_float32
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the target class; arguments as for :func:`cross_entropy`.

    Args:
        input: log-probabilities (N, C), (N, C, d1, ...) or (C,).
        target: integer classes (N,), (N, d1, ...) or ().
        weight: (C,), of every class.
        ignore_index: a target class whose rows do not count.
        reduction: ``none``, ``mean`` or ``sum``.

    Example:
        >>> import nbdl
        >>> scores = nbdl.tensor([[0.25, 0.75]]).log()
        >>> nbdl.nn.functional.nll_loss(scores, nbdl.tensor([1]))
        tensor(0.2877)
    """
    check_reduction("nll_loss", reduction)
    x, classes = one_class_a_row("nll_loss", input, target)
    if weight is None and reduction != "none":
        return class_losses.nll_loss(x, classes, ignore_index, reduction == "mean")
    one_each = classes.unsqueeze(1)
    chosen = gather(x, 1, call(_SAFE, one_each, ignore_index))
    losses = call(_KEPT_NEGATIVE, chosen, one_each, ignore_index).squeeze(1)
    scale = None if weight is None else _row_weights(weight, classes, ignore_index)
    if scale is not None:
        losses = losses * scale
    return _reduce_rows(losses, classes, scale, ignore_index, reduction, input.array.ndim == 1)


def _classes(input: Tensor) -> int:
    return input.array.shape[1] if input.array.ndim > 1 else input.array.shape[0]


def one_class_a_row(label: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N, C, ...) and classes (N, ...), which must fit; a batch axis is added to (C,) and ().

    Raises:
        ValueError: the batches differ.
        RuntimeError: the other axes differ.
    """
    if input.array.ndim == 1 and target.array.ndim == 0:
        return input.unsqueeze(0), target.unsqueeze(0)
    shape = input.array.shape
    if len(shape) < 2:
        raise RuntimeError(
            f"{label}: input (C,) needs a target (), got {tuple(shape)} and {tuple(target.shape)}"
        )
    if target.array.ndim and target.array.shape[0] != shape[0]:
        raise ValueError(
            f"{label}: Expected input batch_size ({shape[0]}) to match target batch_size "
            f"({target.array.shape[0]})."
        )
    if target.array.shape != (shape[0], *shape[2:]):
        raise RuntimeError(
            f"{label}: Expected target size {[shape[0], *shape[2:]]} for input {list(shape)}, got "
            f"{list(target.shape)}"
        )
    return input, target


def _row_weights(weight: Tensor, classes: Tensor, ignored: int) -> Tensor:
    """The weight of the class of every row, 0 where ignored."""
    shape = classes.array.shape
    safe = call(_SAFE, classes, ignored).reshape((classes.array.size,))
    return call(_KEPT, gather(weight, 0, safe).reshape(shape), classes, ignored)


def _uniform_losses(logits: Tensor, weight: Tensor | None) -> Tensor:
    """The loss of every row for a uniform target."""
    logarithms = log_softmax(logits, 1)
    if weight is not None:
        logarithms = logarithms * _as_classes(weight, logits)
    return -logarithms.mean(1)


def _as_classes(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) as (C, 1, ...), broadcast over ``x`` (N, C, ...)."""
    return vector.reshape((vector.array.shape[0], *[1] * (x.array.ndim - 2)))


def _reduce_rows(
    losses: Tensor, classes: Tensor, scale: Tensor | None, ignored: int, reduction: str, unbatched: bool
) -> Tensor:
    """The reduction, where a mean divides by the weights of the rows that count."""
    if reduction == "none":
        return losses.squeeze(0) if unbatched else losses
    total = losses.sum()
    if reduction == "sum":
        return total
    if scale is not None:
        return total / scale.sum()
    return total / count_of(classes, ignored)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    if target.array.shape != input.array.shape:
        raise RuntimeError(
            "cross_entropy: target probabilities must have the shape of the input, got "
            f"{tuple(target.shape)} and {tuple(input.shape)} (for class indices give integers)"
        )
    axis = 1 if input.array.ndim > 1 else 0
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / _classes(input)
    logarithms = log_softmax(input, axis)
    formula, operands = _PRODUCT, [logarithms, target]
    if weight is not None:
        formula = _TRIPLE_PRODUCT
        operands.append(_as_classes(weight, input) if axis else weight)
    losses = -apply(Reduce.of(formula, "sum", (axis,), False, 0), *operands)
    if reduction == "mean":
        return losses.sum() / max(1, losses.array.size)
    return reduce_losses(losses, reduction)
