"""How the losses of single elements become one number."""

from __future__ import annotations

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.ops.pointwise import call, operand
from nbdl.ops.reduction import Reduce

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(label: str, reduction: str) -> None:
    """Raise ValueError unless ``reduction`` is ``none``, ``mean`` or ``sum``."""
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"{label}: {reduction!r} is not a valid value for reduction; expected one of "
            f"{', '.join(REDUCTIONS)}"
        )


def reduce_losses(losses: Tensor, reduction: str) -> Tensor:
    """``losses`` themselves, their mean or their sum."""
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def reduced(label: str, formula: Formula, reduction: str, *values: Tensor | float) -> Tensor:
    """A formula on broadcast operands, reduced in the same loop.

    Args:
        label: the loss, for error messages.
        formula: the loss of one element.
        reduction: ``none``, ``mean`` or ``sum``.
        values: the operands of the formula.

    Raises:
        ValueError: the reduction is unknown.
    """
    check_reduction(label, reduction)
    if reduction == "none":
        return call(formula, *values)
    operands, weak, rank = [], 0, 0
    for k, value in enumerate(values):
        tensor, is_number = operand(label, k + 1, value)
        operands.append(tensor)
        weak |= is_number << k
        rank = max(rank, tensor.array.ndim)
    return apply(Reduce.of(formula, reduction, tuple(range(rank)), False, weak), *operands)
