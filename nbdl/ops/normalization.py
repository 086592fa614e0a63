"""Normalisation: batch, layer, group, instance and RMS norm are one primitive over different axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.formula import Formula
from nbdl.formula.functions import rsqrt
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.fused import Fused
from nbdl.ops.matmul import check_same_dtype
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import check_broadcast
from nbdl.ops.reduction import SQUARED_DIFFERENCE, Reduce, sum_to

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor

_SQUARE = formula_of("square")
_STANDARD = Formula("standard", lambda x, mean, variance, eps: (x - mean) * rsqrt(variance + eps), 4)
_SCALED = Formula("scaled", lambda x, variance, eps: x * rsqrt(variance + eps), 3)
_PRODUCT = formula_of("multiply")
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
    """

    def __init__(self, axes: tuple[int, ...], eps: float, centred: bool, has_weight: bool):
        super().__init__(axes=axes, eps=eps, centred=centred, has_weight=has_weight)
        self.axes, self.eps, self.centred, self.has_weight = axes, eps, centred, has_weight

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> tuple[Tensor, ...]:
        """As compositions are batched; a tuple of one if there is one output, as the backends give."""
        results = super().batch(values, flags, level)
        return results if isinstance(results, tuple) else (results,)

    def normalized(self, x: Tensor, *statistics: Tensor) -> Tensor:
        """(x - mean) / sqrt(variance + eps)."""
        return call(_STANDARD if self.centred else _SCALED, x, *statistics, self.eps)

    def mean(self, formula: Formula, *operands: Tensor) -> Tensor:
        """The mean of a formula over the axes, kept with length 1."""
        return apply(Reduce.of(formula, "mean", self.axes, True), *operands)


class Normalize(_OverAxes):
    """``normalize(x, weight?, bias?)``: result, mean (if centred) and biased variance.

    weight and bias have the rank of x and broadcast over it.
    """

    name = "normalize"
    saves_output = True

    def check(self, *arrays: Any) -> None:
        """The weight and the bias must broadcast to x; there must be something to average."""
        x, *affine = arrays
        for array in affine:
            if array.ndim != x.ndim or check_broadcast(self.label, (x, array)) != x.shape:
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
        x, *affine = inputs
        statistics: tuple[Tensor, ...]
        if self.centred:
            mean = x.mean(self.axes, keepdim=True)
            statistics = mean, self.mean(SQUARED_DIFFERENCE, x, mean)
        else:
            statistics = (self.mean(_SQUARE, x),)
        y = self.normalized(x, *statistics)
        if self.has_weight:
            y = y * affine[0]
        if len(affine) > self.has_weight:
            y = y + affine[-1]
        return (y, *statistics)

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
                gb = sum_to(g, node.shape(bias_at))
            results.append(gb)
        return results

    def _through_statistics(
        self, gx: Tensor | None, x: Tensor, statistics: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> Tensor | None:
        """``gx`` plus the gradients that reach x through mean and variance."""
        if all(g is None for g in gradients):
            return gx
        total = x.zeros_like() if gx is None else gx
        count = x.array.size // max(1, statistics[-1].array.size)
        of_variance = gradients[-1]
        if self.centred:
            if gradients[0] is not None:
                total = call(_MEAN_SLOPE, total, gradients[0], count)
            if of_variance is not None:
                total = call(_VARIANCE_SLOPE, total, of_variance, x, statistics[0], count)
        elif of_variance is not None:
            total = call(_SQUARE_SLOPE, total, of_variance, x, count)
        return total


class NormalizeInput(_OverAxes):
    """``normalize_input(g, x, weight?, mean?, variance)``: the gradients of :class:`Normalize`.

    The first output is the gradient by x, the statistics being functions of it. With a weight, the others are
    g times the normalised operand, and g, summed to its shape: the gradients by weight and bias.
    """

    name = "normalize_input"

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition."""
        g, x, *rest = inputs
        weight, statistics = (rest[0], rest[1:]) if self.has_weight else (None, rest)
        n, variance, eps = self.normalized(x, *statistics), statistics[-1], self.eps
        scaled = g if weight is None else g * weight
        product = self.mean(_PRODUCT, scaled, n)
        if self.centred:
            gx = call(_INPUT_SLOPE, scaled, n, product, scaled.mean(self.axes, keepdim=True), variance, eps)
        else:
            gx = call(_RMS_INPUT_SLOPE, scaled, n, product, variance, eps)
        if weight is None:
            return (gx,)
        shape = weight.array.shape
        return gx, sum_to(g * n, shape), sum_to(g, shape)


# ----------------------------------------------------------------------------------------- public functions
def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    axes: tuple[int, ...],
    eps: float,
    centred: bool = True,
) -> tuple[Tensor, ...]:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the statistics of x itself.

    Args:
        x: floating tensor.
        weight: None, or of the rank of x and broadcast over it.
        bias: likewise.
        axes: the axes over which mean and variance are taken.
        eps: added to the variance.
        centred: subtract the mean; without it, the variance is the mean square (RMS normalisation).

    Returns:
        The result, the mean (if ``centred``) and the biased variance, with the reduced axes left at length 1.

    Raises:
        RuntimeError: weight or bias do not broadcast over x, or the dtypes differ.
    """
    affine = [tensor for tensor in (weight, bias) if tensor is not None]
    primitive = Normalize.of(axes, eps, centred, weight is not None)
    return primitive.compose(x, *affine) if x.is_complex() else apply(primitive, x, *affine)


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
