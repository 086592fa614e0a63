"""Cross-entropy and negative log-likelihood with class indices, reduced to one number by the same kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import equal, where
from nbdl.ops.fused import Fused
from nbdl.ops.pointwise import call, scalar
from nbdl.ops.primitive import Primitive
from nbdl.ops.reduction import Reduce
from nbdl.ops.scattering import gather
from nbdl.ops.softmax import COUNTED_PRODUCT, CrossEntropy, CrossEntropyInput, SoftmaxInput

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor

_COUNTED = Formula("counted", lambda target, ignored: where(equal(target, ignored), 0, 1), 2)
_SAFE = Formula("safe_class", lambda target, ignored: where(equal(target, ignored), 0, target), 2)
_KEPT_NEGATIVE = Formula("kept_negative", lambda x, t, ignored: where(equal(t, ignored), 0, -x), 3)


class _ClassLoss(Fused):
    """A loss of (scores, target), scores (N, C, ...), target (N, ...) integer classes, as one number.

    Args:
        ignore_index: rows of this class do not count.
        mean: divide by the number of rows that count.
    """

    def __init__(self, ignore_index: int, mean: bool, **more: Any):
        super().__init__(ignore_index=ignore_index, mean=mean, **more)
        self.ignored, self.is_mean = ignore_index, mean

    def check(self, *arrays: Any) -> None:
        """Scores are floats, classes integers."""
        scores, target = arrays
        CrossEntropy.of(self.ignored).check(scores, target)

    def check_values(self, *arrays: Any) -> None:
        """Classes exist."""
        scores, target = arrays
        count = scores.shape[1]
        wrong = target[(target != self.ignored) & ((target < 0) | (target >= count))]
        if wrong.size:
            label = self.name.removesuffix("_loss") if self.name == "cross_entropy_loss" else self.name
            raise IndexError(f"{label}: Target {wrong[0]} is out of bounds: there are {count} classes")

    def share(self, target: Tensor, like: Tensor) -> Tensor:
        """What a row counts in the result."""
        if not self.is_mean:
            return like.new_ones(())
        return 1 / count_of(target, self.ignored).to(like.dtype)


def count_of(classes: Tensor, ignored: int) -> Tensor:
    """How many rows count."""
    axes = tuple(range(classes.array.ndim))
    return apply(Reduce.of(_COUNTED, "sum", axes, False, 0b10), classes, scalar(ignored))


class CrossEntropyLoss(_ClassLoss):
    """``cross_entropy_loss(logits, target)``: all losses, probabilities, the reduction, the share of a row.

    The losses are by-products without a derivative.
    """

    name = "cross_entropy_loss"
    saved = frozenset((1,))
    saves_output = True

    def is_differentiable_output(self, k: int) -> bool:
        """Probabilities and the reduction."""
        return k in (1, 2)

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The losses, summed."""
        logits, target = inputs
        losses, p = apply(CrossEntropy.of(self.ignored), logits, target)
        total = losses.sum()
        if self.is_mean:
            total = total / count_of(target, self.ignored)
        return losses, p, total, self.share(target, losses)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Probabilities minus the one-hot target, times the share; and the gradient of the softmax."""
        _, of_probabilities, of_total, _ = gradients
        p, total = node.output(1), None
        if of_total is not None:
            primitive = CrossEntropyLossInput.of(self.ignored)
            total = apply(primitive, p, node.input(1), of_total, node.output(3))
        if of_probabilities is not None:
            part = apply(SoftmaxInput.of(1), p, of_probabilities)
            total = part if total is None else total + part
        return total, None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """That of the softmax, which is symmetric, and the gradient of the loss times the tangent."""
        (_, target), (_, p, total, share), (tangent, _) = inputs, outputs, tangents
        if tangent is None:
            return None, None, None, None
        slope = apply(CrossEntropyLossInput.of(self.ignored), p, target, total.new_ones(()), share)
        return None, apply(SoftmaxInput.of(1), p, tangent), (slope * tangent).sum(), None


class CrossEntropyLossInput(Fused):
    """``cross_entropy_loss_input(p, target, g, share)``: the gradient by the logits."""

    name = "cross_entropy_loss_input"

    def __init__(self, ignore_index: int):
        super().__init__(ignore_index=ignore_index)
        self.ignored = ignore_index

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The gradient of the losses of the rows, all from the same g."""
        p, target, g, share = inputs
        rows = (g * share).expand(target.array.shape)
        return (apply(CrossEntropyInput.of(self.ignored), p, target, rows),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The product rule; the share has no tangent, being a function of the target."""
        (p, target, g, share), (of_p, _, of_g, of_share) = inputs, tangents
        if of_share is not None:
            return super().jvp(inputs, outputs, tangents)
        total = None if of_g is None else self(p, target, of_g, share)
        if of_p is not None:
            part = call(COUNTED_PRODUCT, of_p, g * share, target.unsqueeze(1), self.ignored)
            total = part if total is None else total + part
        return (total,)


class NllLoss(_ClassLoss):
    """``nll_loss(scores, target)``: minus the scores of the classes, reduced; the share of a row."""

    name = "nll_loss"
    saved = frozenset((1,))
    saves_output = True

    def is_differentiable_output(self, k: int) -> bool:
        """The loss only."""
        return k == 0

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The chosen scores, summed."""
        scores, target = inputs
        one_each = target.unsqueeze(1)
        chosen = gather(scores, 1, call(_SAFE, one_each, self.ignored))
        axes = tuple(range(chosen.array.ndim))
        reduce = Reduce.of(_KEPT_NEGATIVE, "sum", axes, False, 0b100)
        total = apply(reduce, chosen, one_each, scalar(self.ignored))
        share = self.share(target, scores)
        return (total / count_of(target, self.ignored) if self.is_mean else total), share

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Minus g times the share at the classes."""
        g, _ = gradients
        if g is None:
            return None, None
        primitive = NllLossInput.of(self.ignored, node.shape(0))
        return apply(primitive, g, node.input(1), node.output(1)), None


class NllLossInput(Primitive):
    """``nll_loss_input(g, target, share)``: the gradient by scores of a shape; linear in g."""

    name = "nll_loss_input"
    saved = frozenset((1, 2))

    def __init__(self, ignore_index: int, shape: tuple[int, ...]):
        super().__init__(ignore_index=ignore_index, shape=shape)
        self.ignored = ignore_index

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The summed loss of the gradient, times the share."""
        (h,) = gradients
        assert h is not None
        return apply(NllLoss.of(self.ignored, False), h, node.input(1))[0] * node.input(2), None, None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The same of the tangent."""
        (t, *_), (_, target, share) = tangents, inputs
        return (None if t is None else self(t, target, share),)


# ----------------------------------------------------------------------------------------- public functions
def cross_entropy_loss(logits: Tensor, target: Tensor, ignore_index: int, mean: bool) -> Tensor:
    """-log(softmax(logits)) at the target classes, summed or averaged over the rows that count.

    Args:
        logits: (N, C, ...).
        target: (N, ...), integer classes.
        ignore_index: rows of this class do not count.
        mean: the mean, not the sum.

    Raises:
        IndexError: a class does not exist.
        RuntimeError: shapes or dtypes do not fit.
    """
    return _reduced(CrossEntropyLoss.of(ignore_index, mean), logits, target)[2]


def nll_loss(scores: Tensor, target: Tensor, ignore_index: int, mean: bool) -> Tensor:
    """Minus the scores of the target classes, summed or averaged; see :func:`cross_entropy_loss`."""
    return _reduced(NllLoss.of(ignore_index, mean), scores, target)[0]


def _reduced(primitive: _ClassLoss, scores: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """By one kernel, but for the dtypes that only formulas know."""
    if dtypes.is_floating(scores.array.dtype):
        return apply(primitive, scores, target)
    return primitive.compose(scores, target)
