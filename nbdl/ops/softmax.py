"""Softmax, its logarithm, and the cross-entropy with class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import equal, exp, logical_and, logical_or, where
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.batching import along_shifted_axis, over_merged_axes
from nbdl.ops.fused import Fused
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import NOTHING, Primitive, normalize_axis
from nbdl.ops.reduction import Reduce
from nbdl.ops.requirements import Requirement, require

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = ["log_softmax", "softmax"]

_PRODUCT = formula_of("multiply")
_CENTRED = Formula("centred", lambda y, g, total: y * (g - total), 3)
_LOG_CENTRED = Formula("log_centred", lambda y, g, total: g - exp(y) * total, 3)
COUNTED_PRODUCT = Formula("counted_product", lambda h, g, t, ignored: where(equal(t, ignored), 0, h * g), 4)
_COUNTED_EXCESS = Formula(
    "counted_excess",
    lambda h, p, t, c, ignored: where(equal(t, ignored), 0, h * (p - where(equal(c, t), 1, 0))),
    5,
)


class _Exponential(Primitive):
    """Softmax or its logarithm along one axis."""

    saved = NOTHING
    saves_output = True

    def __init__(self, axis: int):
        super().__init__(axis=axis)
        self.axis = axis

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return type(self).of(self.axis + 1)

    def check(self, *arrays: Any) -> None:
        """Only floats have exponentials."""
        if not dtypes.is_floating(arrays[0].dtype):
            raise NotImplementedError(
                f"{self.label}: the dtype of the input must be floating, got {arrays[0].dtype}"
            )


class Softmax(_Exponential):
    """exp(x) / sum(exp(x)) along an axis."""

    name = "softmax"

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """y * (g - sum(g * y))."""
        return (apply(SoftmaxInput.of(self.axis), node.output(), gradients[0]),)  # type: ignore[arg-type]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The Jacobian is symmetric: as the vjp."""
        return (apply(SoftmaxInput.of(self.axis), outputs[0], tangents[0]),)  # type: ignore[arg-type]


class LogSoftmax(_Exponential):
    """x - log(sum(exp(x))) along an axis."""

    name = "log_softmax"

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """g - exp(y) * sum(g)."""
        return (apply(LogSoftmaxInput.of(self.axis), node.output(), gradients[0]),)  # type: ignore[arg-type]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """t - sum(exp(y) * t)."""
        (y,), (t,) = outputs, tangents
        return (t - (y.exp() * t).sum(self.axis, keepdim=True),)


class SoftmaxInput(Fused):
    """``softmax_input(y, g)``: the gradient by x of y = softmax(x)."""

    name = "softmax_input"

    def __init__(self, axis: int):
        super().__init__(axis=axis)
        self.axis = axis

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return SoftmaxInput.of(self.axis + 1)

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """y * (g - sum(g * y))."""
        y, g = inputs
        return (call(_CENTRED, y, g, apply(Reduce.of(_PRODUCT, "sum", (self.axis,), True), g, y)),)


class LogSoftmaxInput(Fused):
    """``log_softmax_input(y, g)``: the gradient by x of y = log_softmax(x)."""

    name = "log_softmax_input"

    def __init__(self, axis: int):
        super().__init__(axis=axis)
        self.axis = axis

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return LogSoftmaxInput.of(self.axis + 1)

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """g - exp(y) * sum(g)."""
        y, g = inputs
        return (call(_LOG_CENTRED, y, g, g.sum(self.axis, keepdim=True)),)


class CrossEntropy(Primitive):
    """``cross_entropy(logits, target)``: the losses of all rows, and the probabilities.

    Args:
        ignore_index: rows of this class have no loss.
    """

    name = "cross_entropy"
    saved = frozenset((1,))
    saves_output = True

    def __init__(self, ignore_index: int):
        super().__init__(ignore_index=ignore_index)

    batch = over_merged_axes

    def check(self, *arrays: Any) -> None:
        """logits (N, C, ...), target (N, ...), integers."""
        logits, target = arrays
        expected = (logits.shape[0], *logits.shape[2:]) if logits.ndim > 1 else None
        if target.shape != expected:
            raise RuntimeError(
                f"{self.label}: logits (N, C, ...) need a target (N, ...), got logits {tuple(logits.shape)} "
                f"and target {tuple(target.shape)}"
            )
        if target.dtype.kind not in "iu":
            raise RuntimeError(
                f"{self.label}: class indices must be integers, got a target of dtype {target.dtype}"
            )
        if not dtypes.is_floating(logits.dtype):
            raise RuntimeError(f"{self.label}: the dtype of the logits must be floating, got {logits.dtype}")

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Probabilities minus the one-hot target; and the gradient of the softmax."""
        of_losses, of_probabilities = gradients
        p, total = node.output(1), None
        if of_losses is not None:
            total = apply(CrossEntropyInput.of(**self.params), p, node.input(1), of_losses)
        if of_probabilities is not None:
            part = apply(SoftmaxInput.of(1), p, of_probabilities)
            total = part if total is None else total + part
        return total, None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The derivative of every loss times the tangent, summed over the classes."""
        (_, target), (_, p), t = inputs, outputs, tangents[0]
        assert t is not None
        return _excess(t, p, target, self.params["ignore_index"]), apply(SoftmaxInput.of(1), p, t)


class CrossEntropyInput(Primitive):
    """``cross_entropy_input(p, target, g)``: the gradient by the logits; linear in p and in g."""

    name = "cross_entropy_input"

    def __init__(self, ignore_index: int):
        super().__init__(ignore_index=ignore_index)
        self.ignored = ignore_index

    batch = over_merged_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The product rule."""
        h, (p, target, g) = gradients[0], node.inputs
        assert h is not None
        gp = (
            call(COUNTED_PRODUCT, h, g.unsqueeze(1), target.unsqueeze(1), self.ignored)
            if node.needs_grad(0)
            else None
        )
        return gp, None, _excess(h, p, target, self.ignored) if node.needs_grad(2) else None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The product rule."""
        (p, target, g), (tp, _, tg) = inputs, tangents
        total = None if tg is None else self(p, target, tg)
        if tp is not None:
            part = call(COUNTED_PRODUCT, tp, g.unsqueeze(1), target.unsqueeze(1), self.ignored)
            total = part if total is None else total + part
        return (total,)


def _excess(h: Tensor, p: Tensor, target: Tensor, ignored: int) -> Tensor:
    """sum over the classes of h * (p - one_hot(target)), 0 in ignored rows."""
    from nbdl.ops.creation import arange
    from nbdl.ops.pointwise import scalar

    classes = arange(p.array.shape[1], device=p.device).reshape((-1, *[1] * (p.array.ndim - 2)))
    operands = (h, p, target.unsqueeze(1), classes, scalar(ignored))
    return apply(Reduce.of(_COUNTED_EXCESS, "sum", (1,), False, 1 << 4), *operands)


# ----------------------------------------------------------------------------------------- public functions
def _prepared(label: str, x: Tensor, dim: int, dtype: Any) -> tuple[Tensor, int]:
    if not isinstance(x, Tensor):
        raise TypeError(f"{label}(): argument 1 must be a tensor, got {type(x).__name__}")
    axis = normalize_axis(label, dim, x.array.ndim)
    if dtype is not None and x.array.dtype != dtype:
        x = x.to(dtype)
    if not dtypes.is_floating(x.array.dtype):
        raise NotImplementedError(f"{label}: the dtype of the input must be floating, got {x.array.dtype}")
    return x, axis


@numpy_keywords
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along ``dim``.

    Args:
        input: floating tensor.
        dim: the axis whose slices sum to 1.
        dtype: cast to this first.

    Raises:
        IndexError: there is no such axis.
        RuntimeError: the elements are not floats.

    Example:
        >>> import nbdl
        >>> nbdl.softmax(nbdl.tensor([0.0, 0.0]), 0)
        tensor([0.5000, 0.5000])
    """
    input, axis = _prepared("softmax", input, dim, dtype)
    return apply(Softmax.of(axis), input) if input.array.ndim else softmax(input.reshape(1), 0).reshape(())


@numpy_keywords
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along ``dim``, accurate where the probability is tiny.

    Raises:
        IndexError: there is no such axis.
        RuntimeError: the elements are not floats.
    """
    input, axis = _prepared("log_softmax", input, dim, dtype)
    return (
        apply(LogSoftmax.of(axis), input)
        if input.array.ndim
        else log_softmax(input.reshape(1), 0).reshape(())
    )


def cross_entropy_rows(logits: Tensor, target: Tensor, ignore_index: int = -100) -> Tensor:
    """-log(softmax(logits)) at the target classes, row by row.

    Args:
        logits: (N, C, ...).
        target: (N, ...), integer classes.
        ignore_index: rows of this class give 0.

    Returns:
        (N, ...)

    Raises:
        IndexError: a class does not exist.
        RuntimeError: shapes or dtypes do not fit.
    """
    _check_classes(logits, target, ignore_index)
    return apply(CrossEntropy.of(ignore_index), logits, target)[0]


class _ClassesExist(Requirement):
    """Classes are among so many, but for the ignored one."""

    def __init__(self, count: int, ignored: int):
        super().__init__(IndexError, "cross_entropy: Target {} is out of bounds: there are {} classes")
        self.count, self.ignored = count, ignored

    def check_values(self, *arrays: Any) -> None:
        """Says which class does not exist."""
        _, classes = arrays
        wrong = classes[(classes != self.ignored) & ((classes < 0) | (classes >= self.count))]
        if wrong.size:
            raise self.error(self.message.format(wrong[0], self.count))


_NO_CLASS = Formula(
    "no_class",
    lambda x, count, ignored: where(logical_and(x != ignored, logical_or(x < 0, x >= count)), 1, 0),
    3,
)


def _check_classes(logits: Tensor, target: Tensor, ignore_index: int) -> None:
    """Classes must exist; read on the CPU only, where it waits for nobody. Kernels give NaN otherwise."""
    classes = target.array
    if not isinstance(classes, np.ndarray) or classes.dtype.kind not in "iu" or logits.array.ndim < 2:
        return
    count = logits.array.shape[1]
    if mode.recorder is not None:
        require(_ClassesExist.of(count, ignore_index), _NO_CLASS, target, count, ignore_index)
        return
    # One pass over most targets: as numbers without a sign, negative ones are the largest.
    unsigned = classes.view(np.uint64) if classes.dtype == np.int64 else None
    if unsigned is not None and np.maximum.reduce(unsigned, axis=None, initial=0) < count:
        return
    if classes.size and (classes.min() < 0 or classes.max() >= count):
        _ClassesExist.of(count, ignore_index).check_values(None, classes)
