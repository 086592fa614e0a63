"""Scaled dot-product attention in one pass, without the matrix of all weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.backend.numpy.random import DROP
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import equal, exp, where
from nbdl.ops import arithmetic
from nbdl.ops.creation import arange
from nbdl.ops.drawing import RandomBernoulli
from nbdl.ops.fused import Fused
from nbdl.ops.matmul import check_same_dtype
from nbdl.ops.pointwise import Pointwise, call, scalar
from nbdl.ops.primitive import broadcast_error
from nbdl.ops.reduction import sum_to
from nbdl.ops.shape import contiguous
from nbdl.ops.statistics import logsumexp
from nbdl.random import default_generator

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

# Seed and number of a draw, kept for the backward pass: those of the generator change in place.
_DRAW = Pointwise.of(Formula("draw", lambda seed, number: (seed, number), 2), 0)
_DROP = Pointwise.of(DROP, 1 << 2)
# A row whose log-sum-exp is -infinity sees nothing.
_WEIGHT = Formula(
    "attention_weight", lambda score, log_sum, low: where(equal(log_sum, low), 0, exp(score - log_sum)), 3
)
_SLOPE = Formula("attention_slope", lambda weight, g, centre, scale: weight * (g - centre) * scale, 4)


class _Attention(Fused):
    """What both directions have in common.

    Args:
        scale: of the products of queries and keys.
        is_causal: query i sees keys up to i only.
        has_mask: whether there is a mask among the operands.
    """

    def __init__(self, scale: float, is_causal: bool, has_mask: bool):
        super().__init__(scale=scale, is_causal=is_causal, has_mask=has_mask)
        self.scale, self.is_causal, self.has_mask = scale, is_causal, has_mask

    def split(self, rest: Sequence[Tensor]) -> tuple[Tensor | None, Sequence[Tensor]]:
        """The mask, and seed, number and probability of dropout (or nothing)."""
        return (rest[0], rest[1:]) if self.has_mask else (None, rest)

    def scores(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """query @ key^T * scale + mask, -infinity where a query does not see a key."""
        scores = (query * self.scale) @ key.transpose(-2, -1)
        if mask is not None and mask.array.dtype == dtypes.BOOL:
            scores = arithmetic.where(mask, scores, -math.inf)
        elif mask is not None:
            scores = scores + mask
        if self.is_causal:
            length, source = scores.array.shape[-2:]
            rows = arange(length, device=query.device).unsqueeze(1)
            scores = arithmetic.where(rows >= arange(source, device=query.device), scores, -math.inf)
        return scores


class Attention(_Attention):
    """``attention(query, key, value, mask?, (seed, number, p)?)``: the result, and log-sum-exp of the scores.

    The last three are the draw and the probability of dropout.
    """

    name = "attention"
    saves_output = True

    def check(self, *arrays: Any) -> None:
        """query (..., L, E), key (..., S, E), value (..., S, V), mask broadcast to (..., L, S)."""
        query, key, value = arrays[:3]
        shapes = [tuple(array.shape) for array in arrays[:3]]
        if any(len(shape) < 2 for shape in shapes) or shapes[0][-1] != shapes[1][-1]:
            raise RuntimeError(
                f"{self.label}: expected a query (..., L, E), a key (..., S, E) and a value (..., S, V), "
                f"got {shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        if shapes[1][-2] != shapes[2][-2]:
            raise RuntimeError(
                f"{self.label}: key and value need the same length, got {shapes[1][-2]} and {shapes[2][-2]}"
            )
        check_same_dtype(self.label, (query, key, value))
        batch = _broadcast(self.label, [shape[:-2] for shape in shapes])
        if self.has_mask:
            scores = (*batch, shapes[0][-2], shapes[1][-2])
            mask = arrays[3]
            if _broadcast(self.label, [tuple(mask.shape), scores]) != scores:
                raise RuntimeError(
                    f"{self.label}: attn_mask of shape {tuple(mask.shape)} does not broadcast to {scores}"
                )

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition."""
        query, key, value, *rest = inputs
        mask, draw = self.split(rest)
        scores = self.scores(query, key, mask)
        log_sum = logsumexp(scores, -1, keepdim=True)
        batch = np.broadcast_shapes(scores.array.shape[:-2], value.array.shape[:-2])
        result = _dropped(call(_WEIGHT, scores, log_sum, -math.inf), draw, batch) @ value
        kind = dtypes.arithmetic_dtype(log_sum.array.dtype)
        return result, _cast(log_sum.squeeze(-1).expand(result.array.shape[:-1]), kind)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The fused backward kernel; a backward pass through the composition for a mask with a gradient."""
        g, of_log_sum = gradients
        if g is None or of_log_sum is not None or (self.has_mask and node.needs_grad(3)):
            return super().vjp(node, *gradients)
        found = apply(AttentionInput.of(**self.params), _adjacent(g), *_with_outputs(node))
        results: list[Tensor | None] = [None] * len(node.edges)
        for k, gradient in enumerate(found):
            if node.needs_grad(k):
                results[k] = sum_to(gradient, node.shape(k))
        return results


class AttentionInput(_Attention):
    """``attention_input(g, query, key, value, result, log_sum, mask?, ...)``: gradients of query, key, value.

    They have the batch axes of the result, and are yet to be summed over those that were broadcast.
    """

    name = "attention_input"

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition; Dao et al. (2022), FlashAttention, algorithm 4."""
        g, query, key, value, result, log_sum, *rest = inputs
        mask, draw = self.split(rest)
        batch = g.array.shape[:-2]
        log_sum = _cast(log_sum.unsqueeze(-1), query.array.dtype)
        weights = call(_WEIGHT, self.scores(query, key, mask), log_sum, -math.inf)
        centre = (g * result).sum(-1, keepdim=True)
        slopes = call(_SLOPE, weights, _dropped(g @ value.transpose(-2, -1), draw, batch), centre, self.scale)
        weights = _dropped(weights, draw, batch)
        return slopes @ key, slopes.transpose(-2, -1) @ query, weights.transpose(-2, -1) @ g


def _with_outputs(node: Node) -> tuple[Tensor, ...]:
    """Operands and outputs in the order of :class:`AttentionInput`."""
    query, key, value, *rest = node.inputs
    return (query, key, value, *node.outputs, *rest)


def _dropped(weights: Tensor, draw: Sequence[Tensor], batch: tuple[int, ...]) -> Tensor:
    """Weights after dropout; every entry of the batch has draws of its own."""
    if not draw:
        return weights
    seed, number, p = draw
    shape = (*batch, *weights.array.shape[-2:])
    kept = apply(RandomBernoulli.of(shape, dtypes.BOOL), seed, number, 1 - p)
    return apply(_DROP, weights, kept, p)


def _broadcast(label: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise broadcast_error(label, shapes) from None


def _cast(x: Tensor, dtype: np.dtype) -> Tensor:
    return x if x.array.dtype == dtype else x.to(dtype)


def _adjacent(x: Tensor) -> Tensor:
    """``x``, copied unless the elements of its last axis are neighbours in memory, as kernels need them."""
    array = x.array
    return x if array.shape[-1] <= 1 or array.strides[-1] == array.itemsize else contiguous(x)


# ----------------------------------------------------------------------------------------- public functions
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query @ key^T * scale + mask) @ value (Vaswani et al. 2017, equation 1).

    Args:
        query: (..., L, E); the axes before are broadcast with those of key and value.
        key: (..., S, E).
        value: (..., S, V).
        mask: broadcast to (..., L, S): bools, true where a query sees a key, or numbers that are added.
        dropout_p: probability with which a weight is dropped.
        is_causal: query i sees keys up to i only, beside what the mask hides.
        scale: default 1 / sqrt(E).

    Returns:
        (..., L, V); zeros for a query that sees nothing.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    if scale is None:
        scale = 1 / math.sqrt(max(1, query.array.shape[-1]))
    primitive = Attention.of(float(scale), is_causal, mask is not None)
    operands = [*map(_adjacent, (query, key, value)), *([] if mask is None else [mask])]
    if dropout_p > 0:
        operands += [*default_generator(query.device).draw(_DRAW), scalar(float(dropout_p))]
    return apply(primitive, *operands)[0]
