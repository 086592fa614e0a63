"""Normalisation: batch, layer, group, instance and RMS norm are one primitive over different axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply, mark_changed
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.backend.numpy.normalization import spread_out
from nbdl.formula import Formula
from nbdl.formula.functions import rsqrt
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.fused import Fused
from nbdl.ops.matmul import check_same_dtype
from nbdl.ops.pointwise import Pointwise, call, scalar
from nbdl.ops.reduction import SQUARED_DIFFERENCE, Reduce, sum_to

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

_SQUARE = formula_of("square")
_STANDARD = Formula("standard", lambda x, mean, variance, eps: (x - mean) * rsqrt(variance + eps), 4)
_SCALED = Formula("scaled", lambda x, variance, eps: x * rsqrt(variance + eps), 3)
_PRODUCT = formula_of("multiply")
# The running variance is unbiased, the one that normalises is not.
_MOVED = Pointwise.of(
    Formula(
        "running_statistics",
        lambda mean, variance, new_mean, new_variance, momentum, count: (
            (1 - momentum) * mean + momentum * new_mean,
            (1 - momentum) * variance + momentum * new_variance * (count / (count - 1)),
        ),
        6,
    ),
    0b110000,
)
_NEXT = Pointwise.of(Formula("next_number", lambda n: n + 1, 1))
_MEAN_SLOPE = Formula("mean_slope", lambda total, g, count: total + g / count, 3)
_VARIANCE_SLOPE = Formula(
    "variance_slope", lambda total, g, x, mean, count: total + g * (2 * (x - mean)) / count, 5
)
_SQUARE_SLOPE = Formula("square_slope", lambda total, g, x, count: total + g * (2 * x) / count, 4)
_INPUT_SLOPE = Formula(
    "input_slope",
    lambda g, n, product, total, variance, eps: (g - total - n * product) * rsqrt(variance + eps),
    6,
)
_RMS_INPUT_SLOPE = Formula(
    "rms_input_slope", lambda g, n, product, variance, eps: (g - n * product) * rsqrt(variance + eps), 5
)
_WITH_STATISTICS = Formula(
    "normalize_with",
    lambda x, mean, variance, weight, bias, eps: (x - mean) * rsqrt(variance + eps) * weight + bias,
    6,
)


class _OverAxes(Fused):
    """What both directions have in common.

    Args:
        axes: the axes over which mean and variance are taken.
        eps: added to the variance.
        centred: subtract the mean; without it, the variance is the mean square.
        has_weight: whether there is a weight among the operands.
        by_channel: whether weight and bias are vectors along axis 1; else they broadcast over x.
        groups: see :func:`normalize`.
    """

    def __init__(
        self,
        axes: tuple[int, ...],
        eps: float,
        centred: bool,
        has_weight: bool,
        by_channel: bool = False,
        groups: int = 0,
    ):
        super().__init__(
            axes=axes, eps=eps, centred=centred, has_weight=has_weight, by_channel=by_channel, groups=groups
        )
        self.axes, self.eps, self.centred, self.has_weight = axes, eps, centred, has_weight
        self.by_channel, self.groups = by_channel, groups
        self.averaged = (2, 3) if groups else axes

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> tuple[Tensor, ...]:
        """As compositions are batched; a tuple of one if there is one output, as the backends give."""
        results = super().batch(values, flags, level)
        return results if isinstance(results, tuple) else (results,)

    def normalized(self, x: Tensor, *statistics: Tensor) -> Tensor:
        """(x - mean) / sqrt(variance + eps)."""
        return call(_STANDARD if self.centred else _SCALED, x, *statistics, self.eps)

    def mean(self, formula: Formula, *operands: Tensor) -> Tensor:
        """The mean of a formula over the axes, kept with length 1."""
        return apply(Reduce.of(formula, "mean", self.averaged, True), *operands)

    def spread_out(self, x: Tensor, *vectors: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The operand and its vectors in one rank."""
        x, spread, _ = spread_out(x, vectors, self.axes, self.by_channel, self.groups)
        return x, spread

    def summed(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A tensor like the operand summed to the shape of a vector."""
        if self.by_channel:
            return x.sum((0, *range(2, x.array.ndim))) if x.array.ndim > 1 else x
        return sum_to(x, shape)


class Normalize(_OverAxes):
    """``normalize(x, weight?, bias?)``: result, mean (if centred) and biased variance."""

    name = "normalize"
    saves_output = True

    def check(self, *arrays: Any) -> None:
        """The weight and the bias must broadcast to x; there must be something to average."""
        x, *affine = arrays
        for array in affine:
            if self.by_channel:
                fits = array.shape == x.shape[1:2]
            else:
                pairs = zip(reversed(array.shape), reversed(x.shape))
                fits = array.ndim <= x.ndim and all(n in (1, m) for n, m in pairs)
            if not fits:
                raise RuntimeError(
                    f"{self.label}: weight and bias must broadcast over the input of shape {tuple(x.shape)}, "
                    f"got {tuple(array.shape)}"
                )
        check_same_dtype(self.label, arrays)

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The operand and the weight; the outputs for their statistics."""
        return frozenset((0, 1)) if self.has_weight else frozenset((0,)), True

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition, in two passes."""
        x, affine = self.spread_out(*inputs)
        statistics: tuple[Tensor, ...]
        if self.centred:
            mean = x.mean(self.averaged, keepdim=True)
            statistics = mean, self.mean(SQUARED_DIFFERENCE, x, mean)
        else:
            statistics = (self.mean(_SQUARE, x),)
        y = self.normalized(x, *statistics)
        if self.has_weight:
            y = y * affine[0]
        if len(affine) > self.has_weight:
            y = y + affine[-1]
        return (y.reshape(inputs[0].array.shape), *statistics)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The fused backward kernel, plus what comes through the statistics."""
        g, *of_statistics = gradients
        x = node.input(0)
        # Not the first output: users overwrite it, as nn.ReLU(inplace=True) does.
        statistics = tuple([node.output(k) for k in range(1, len(node.specs))])
        gx = gw = gb = None
        bias_at = 1 + self.has_weight
        if g is not None:
            weight = (node.input(1),) if self.has_weight else ()
            gx, *affine = apply(NormalizeInput.of(**self.params), g, x, *weight, *statistics)
            if self.has_weight:
                gw, gb = affine
        results: list[Tensor | None] = [self._through_statistics(gx, x, statistics, of_statistics)]
        if self.has_weight:
            results.append(gw)
        if len(node.edges) > bias_at:
            if (
                g is not None
                and node.needs_grad(bias_at)
                and (gb is None or gb.array.shape != node.shape(bias_at))
            ):
                gb = self.summed(g, node.shape(bias_at))
            results.append(gb)
        return results

    def _through_statistics(
        self, gx: Tensor | None, x: Tensor, statistics: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> Tensor | None:
        """``gx`` plus the gradients that reach x through mean and variance."""
        if all(g is None for g in gradients):
            return gx
        shape = x.array.shape
        total, _ = self.spread_out(x.zeros_like() if gx is None else gx)
        x, _ = self.spread_out(x)
        count = x.array.size // max(1, statistics[-1].array.size)
        of_variance = gradients[-1]
        if self.centred:
            if gradients[0] is not None:
                total = call(_MEAN_SLOPE, total, gradients[0], count)
            if of_variance is not None:
                total = call(_VARIANCE_SLOPE, total, of_variance, x, statistics[0], count)
        elif of_variance is not None:
            total = call(_SQUARE_SLOPE, total, of_variance, x, count)
        return total.reshape(shape)


class NormalizeInput(_OverAxes):
    """``normalize_input(g, x, weight?, mean?, variance)``: the gradients of :class:`Normalize`.

    The first output is the gradient by x, the statistics being functions of it. With a weight, the others are
    g times the normalised operand, and g, summed to its shape: the gradients by weight and bias.
    """

    name = "normalize_input"

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition."""
        shape, statistics = inputs[1].array.shape, inputs[2 + self.has_weight :]
        x, vectors = self.spread_out(*inputs[1 : 2 + self.has_weight])
        g, weight = inputs[0].reshape(x.array.shape), vectors[0] if vectors else None
        n, variance, eps = self.normalized(x, *statistics), statistics[-1], self.eps
        scaled = g if weight is None else g * weight
        product = self.mean(_PRODUCT, scaled, n)
        if self.centred:
            gx = call(
                _INPUT_SLOPE, scaled, n, product, scaled.mean(self.averaged, keepdim=True), variance, eps
            )
        else:
            gx = call(_RMS_INPUT_SLOPE, scaled, n, product, variance, eps)
        gx = gx.reshape(shape)
        if weight is None:
            return (gx,)
        own, wide = inputs[2].array.shape, weight.array.shape
        return gx, sum_to(g * n, wide).reshape(own), sum_to(g, wide).reshape(own)


# ----------------------------------------------------------------------------------------- public functions
def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    axes: tuple[int, ...],
    eps: float,
    centred: bool = True,
    by_channel: bool = False,
    groups: int = 0,
) -> tuple[Tensor, ...]:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the statistics of x itself.

    Args:
        x: floating tensor.
        weight: None, or broadcast over x.
        bias: likewise.
        axes: the axes over which mean and variance are taken.
        eps: added to the variance.
        centred: subtract the mean; without it, the variance is the mean square (RMS normalisation).
        by_channel: weight and bias are vectors along axis 1.
        groups: where it is not 0, axis 1 is split into so many groups, each with statistics of its own over
            all its channels and the axes behind (``axes`` is not read), and vectors are by channel.

    Returns:
        The result, the mean (if ``centred``) and the biased variance, with the reduced axes left at length 1,
        or of shape (N, groups, 1, 1).

    Raises:
        RuntimeError: weight or bias do not broadcast over x, or the dtypes differ.
    """
    affine = [tensor for tensor in (weight, bias) if tensor is not None]
    primitive = Normalize.of(axes, eps, centred, weight is not None, by_channel or groups > 0, groups)
    return primitive.compose(x, *affine) if x.is_complex() else apply(primitive, x, *affine)


def move_statistics(
    running: Sequence[Tensor], found: Sequence[Tensor], momentum: float | Tensor, count: int
) -> bool:
    """Move the running mean and variance towards those of a batch, both in one pass.

    Args:
        running: the tensors (C,) that are overwritten.
        found: mean and biased variance of the batch, with as many elements.
        momentum: weight of the new statistics, a number or a 0-d tensor without gradient.
        count: elements behind each mean.

    Returns:
        False where nothing was done, since it takes operations that are followed one by one: the tensors
        carry gradients or tangents, or differ in dtype.
    """
    first, arrays = running[0].array, []
    for tensor in (*running, *found):
        array = tensor.array
        if array.dtype != first.dtype or array.size != first.size:
            return False
        arrays.append(array if array.shape == first.shape else array.reshape(first.shape))
    weight = momentum if isinstance(momentum, Tensor) else scalar(momentum)
    arrays += (weight.array, scalar(float(count)).array)
    return _overwrite(_MOVED, running, arrays)


def count_up(number: Tensor) -> None:
    """Add 1 to an integer in place."""
    if not _overwrite(_NEXT, (number,), (number.array,)):
        number.add_(1)


def _overwrite(primitive: Pointwise, targets: Sequence[Tensor], arrays: Sequence[Any]) -> bool:
    """Overwrite the first operands of a primitive by its outputs; False where each step must be followed."""
    modes = mode.__dict__
    if modes["dual_level"] or modes["anomaly"]:
        return False
    for target in targets:
        if target.requires_grad or target._inference:
            return False
    backend = modes["backend"] or registry.cpu or registry.select()
    backend.overwrite(primitive, (arrays,), (0, 1)[: len(targets)])
    mark_changed(targets)
    return True


def normalize_with(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, all broadcast over x, in its dtype."""
    result = call(
        _WITH_STATISTICS,
        x,
        mean,
        variance,
        1.0 if weight is None else weight,
        0.0 if bias is None else bias,
        eps,
    )
    return result if result.array.dtype == x.array.dtype else result.to(x.dtype)
