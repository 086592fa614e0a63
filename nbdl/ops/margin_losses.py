"""Losses that ask the scores of target classes to lead by a margin, reduced to one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.creation import arange
from nbdl.ops.fused import Fused
from nbdl.ops.pointwise import call
from nbdl.ops.reduction import Reduce
from nbdl.ops.scattering import gather, scatter_add

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor

_OTHERS_MARGIN = Formula(
    "others_margin",
    lambda x, chosen, target, c, margin: f.where(f.equal(c, target), 0, f.relu(margin - chosen + x)),
    5,
)
_SHORTFALL = Formula(
    "shortfall",
    lambda chosen, x, counts, is_target: f.where(
        f.logical_and(counts, f.logical_not(is_target)), f.relu(1 - chosen + x), 0
    ),
    4,
)
_SLOPE = Formula("slope", lambda short, g: f.where(short > 0, g, 0), 2)
_SLOPE_OF_SQUARE = Formula("slope_of_square", lambda short, g: 2 * short * g, 2)


def others_margins(x: Tensor, target: Tensor, margin: float) -> Tensor:
    """(N, C): max(0, margin - x_y + x_j), 0 for the target y = j itself."""
    column, every = target.unsqueeze(1), arange(x.array.shape[1], device=x.device)
    return call(_OTHERS_MARGIN, x, gather(x, 1, column), column, every, float(margin))


def shortfalls(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The target of every place (N, C), 0 where there is none; and the operands of what is summed."""
    counts = (target < 0).cumsum(1) == 0  # before the first -1
    safe = target * counts
    every = arange(x.array.shape[1], device=x.device)
    is_target = ((safe.unsqueeze(2) == every) & counts.unsqueeze(2)).any(1)
    chosen = gather(x, 1, safe)
    return safe, (chosen.unsqueeze(2), x.unsqueeze(1), counts.unsqueeze(2), is_target.unsqueeze(1))


def multi_margin_rows(x: Tensor, target: Tensor, p: int, margin: float) -> Tensor:
    """The losses (N,) of scores (N, C) with classes (N,)."""
    margins = others_margins(x, target, margin)
    return (margins if p == 1 else margins.square()).mean(1)


def multilabel_margin_rows(x: Tensor, target: Tensor) -> Tensor:
    """The losses (N,) of scores (N, C) with classes (N, C), then -1."""
    _, operands = shortfalls(x, target)
    return apply(Reduce.of(_SHORTFALL, "sum", (1, 2), False, 0), *operands) / x.array.shape[1]


class _MarginLoss(Fused):
    """``loss(scores, target)``: the reduced loss, and the losses of the rows, a by-product."""

    is_mean: bool
    backward: type[Fused]

    def check_values(self, *arrays: Any) -> None:
        """Classes exist."""
        x, target = arrays
        wrong = (
            target[target >= x.shape[1]] if target.ndim > 1 else target[(target < 0) | (target >= x.shape[1])]
        )
        if wrong.size:
            raise IndexError(
                f"{self.label}: Target {wrong[0]} is out of bounds: there are {x.shape[1]} classes"
            )

    def is_differentiable_output(self, k: int) -> bool:
        """The reduced loss only."""
        return k == 0

    def rows(self, x: Tensor, target: Tensor) -> Tensor:
        """The losses of the rows."""
        raise NotImplementedError

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The losses, reduced."""
        losses = self.rows(*inputs)
        return losses.mean() if self.is_mean else losses.sum(), losses

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The fused backward kernel."""
        g, _ = gradients
        if g is None:
            return None, None
        return apply(self.backward.of(**self.params), g, node.input(0), node.input(1)), None


class MultiMarginLoss(_MarginLoss):
    """One target a row: the mean over the classes of max(0, margin - x_y + x_j)^p."""

    name = "multi_margin_loss"

    def __init__(self, p: int, margin: float, mean: bool):
        super().__init__(p=p, margin=margin, mean=mean)
        self.p, self.margin, self.is_mean = p, margin, mean

    def rows(self, x: Tensor, target: Tensor) -> Tensor:
        """See :func:`multi_margin_rows`."""
        return multi_margin_rows(x, target, self.p, self.margin)


class MultiMarginLossInput(Fused):
    """``multi_margin_loss_input(g, x, target)``: the gradient by the scores."""

    name = "multi_margin_loss_input"

    def __init__(self, p: int, margin: float, mean: bool):
        super().__init__(p=p, margin=margin, mean=mean)
        self.p, self.margin, self.is_mean = p, margin, mean

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The slopes, and minus their sum at the target."""
        g, x, target = inputs
        share = g / (x.array.size if self.is_mean else x.array.shape[1])
        formula = _SLOPE if self.p == 1 else _SLOPE_OF_SQUARE
        slopes = call(formula, others_margins(x, target, self.margin), share)
        return (scatter_add(slopes, 1, target.unsqueeze(1), -slopes.sum(1, keepdim=True)),)


class MultilabelMarginLoss(_MarginLoss):
    """Several targets a row: the sum of max(0, 1 - x_y + x_j) over targets y and others j, by classes."""

    name = "multilabel_margin_loss"

    def __init__(self, mean: bool):
        super().__init__(mean=mean)
        self.is_mean = mean

    def rows(self, x: Tensor, target: Tensor) -> Tensor:
        """See :func:`multilabel_margin_rows`."""
        return multilabel_margin_rows(x, target)


class MultilabelMarginLossInput(Fused):
    """``multilabel_margin_loss_input(g, x, target)``: the gradient by the scores."""

    name = "multilabel_margin_loss_input"

    def __init__(self, mean: bool):
        super().__init__(mean=mean)
        self.is_mean = mean

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The slopes by the others, and minus their sums at the targets."""
        g, x, target = inputs
        share = g / (x.array.size if self.is_mean else x.array.shape[1])
        safe, operands = shortfalls(x, target)
        slopes = call(_SLOPE, call(_SHORTFALL, *operands), share)
        return (scatter_add(slopes.sum(1), 1, safe, -slopes.sum(2)),)


MultiMarginLoss.backward = MultiMarginLossInput
MultilabelMarginLoss.backward = MultilabelMarginLossInput


def multi_margin_loss(x: Tensor, target: Tensor, p: int, margin: float, mean: bool) -> Tensor:
    """The mean or the sum of :func:`multi_margin_rows`, by one kernel."""
    return _reduced(MultiMarginLoss.of(p, margin, mean), x, target)


def multilabel_margin_loss(x: Tensor, target: Tensor, mean: bool) -> Tensor:
    """The mean or the sum of :func:`multilabel_margin_rows`, by one kernel."""
    return _reduced(MultilabelMarginLoss.of(mean), x, target)


def _reduced(primitive: _MarginLoss, x: Tensor, target: Tensor) -> Tensor:
    if dtypes.is_floating(x.array.dtype):
        return apply(primitive, x, target)[0]
    return primitive.compose(x, target)[0]
