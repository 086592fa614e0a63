"""Batching rules that several primitives share: what vmap does with an operation.

A rule takes the values of the operands, with the examples along axis 0 where the flag says so, and gives
results with the examples along axis 0. Primitives name theirs as the method ``batch``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tensor import Tensor
    from nbdl.ops.primitive import Primitive

Values = Sequence["Tensor"]
Flags = Sequence[bool]

_log = logging.getLogger(__name__)


def repeated(values: Values, flags: Flags, level: BatchLevel) -> list[Tensor]:
    """All values with the examples along axis 0; those that have none repeated without a copy."""
    return [
        x if is_batched else x.expand((level.size, *x.array.shape))
        for x, is_batched in zip(values, flags, strict=True)
    ]


def aligned(values: Values, flags: Flags) -> list[Tensor]:
    """Values that broadcast as one example of each does: missing axes put in behind the batch axis."""
    rank = max(x.array.ndim - is_batched for x, is_batched in zip(values, flags, strict=True))
    return [with_rank(x, rank + 1) if is_batched else x for x, is_batched in zip(values, flags, strict=True)]


def with_rank(x: Tensor, rank: int) -> Tensor:
    """Missing axes of length 1 put in behind the batch axis."""
    shape = x.array.shape
    return x if len(shape) == rank else x.reshape((shape[0], *(1,) * (rank - len(shape)), *shape[1:]))


def each(results: Any, change: Any) -> Any:
    """``change`` of the result, or of each result."""
    if isinstance(results, tuple):
        return tuple([change(result) for result in results])
    return change(results)


def common_seed(values: Values, flags: Flags) -> Tensor:
    """The seed among the operands of a random primitive; all examples have the same one."""
    return values[0].select(0, 0) if flags[0] else values[0]


# -------------------------------------------------------------------------------------------------- the rules
def over_leading_axes(primitive: Primitive, values: Values, flags: Flags, level: BatchLevel) -> Any:
    """For primitives that work on the last axes: the batch is one more axis in front."""
    return primitive(*repeated(values, flags, level))


def over_broadcast_axes(primitive: Primitive, values: Values, flags: Flags, level: BatchLevel) -> Any:
    """For primitives whose operands broadcast."""
    return primitive(*aligned(values, flags))


def along_shifted_axis(primitive: Primitive, values: Values, flags: Flags, level: BatchLevel) -> Any:
    """For primitives along an axis: ``primitive.shifted()`` is the same along the next one."""
    operands = repeated(values, flags, level)
    if operands[0].array.ndim > 1:
        return primitive.shifted()(*operands)
    # The examples are numbers, which count as vectors of length 1.
    results = primitive.shifted()(*[x.reshape((*x.array.shape, 1)) for x in operands])
    return each(results, lambda y: y.reshape((level.size,)))


def over_merged_axes(primitive: Primitive, values: Values, flags: Flags, level: BatchLevel) -> Any:
    """For primitives with a batch axis of their own in all operands: both are merged into one."""
    operands = repeated(values, flags, level)
    n = operands[0].array.shape[1]
    merged = [x.reshape((level.size * n, *x.array.shape[2:])) for x in operands]
    return each(primitive(*merged), lambda y: y.reshape((level.size, n, *y.array.shape[1:])))


def one_by_one(primitive: Primitive, values: Values, flags: Flags, level: BatchLevel) -> Any:
    """For the rest: one call for every example, and the results stacked."""
    from nbdl.ops.joining import stack

    _log.debug("vmap: %s has no batching rule and runs once for each of %d examples", primitive, level.size)
    if level.size == 0:
        example = [
            x.new_zeros(x.array.shape[1:]) if is_batched else x
            for x, is_batched in zip(values, flags, strict=True)
        ]
        return each(primitive(*example), lambda y: y.new_zeros((0, *y.array.shape)))
    rows = [
        primitive(*[x.select(0, i) if is_batched else x for x, is_batched in zip(values, flags, strict=True)])
        for i in range(level.size)
    ]
    if isinstance(rows[0], tuple):
        return tuple([stack(column) for column in zip(*rows, strict=True)])
    return stack(rows)
