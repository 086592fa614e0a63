"""Forward mode: tangents that tensors carry, and how an operation passes them on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tensor import Tensor

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive


class Dual:
    """A tensor's tangent at one level of forward differentiation.

    Attributes:
        level: levels nest; the innermost derivative has the highest.
        primal: the same value without this level's tangent (it may carry tangents of lower levels).
        tangent: the derivative, or None where it is zero.
    """

    __slots__ = ("level", "primal", "tangent")

    def __init__(self, level: int, primal: Tensor, tangent: Tensor):
        self.level, self.primal, self.tangent = level, primal, tangent


_levels = itertools.count(1)


def enter_level() -> int:
    """Open a level of forward differentiation.

    Numbers are never used again, so that a tangent which outlives its level is not taken for one of another.
    """
    mode.dual_level = next(_levels)
    mode.dual_levels = (*mode.dual_levels, mode.dual_level)
    return mode.dual_level


def exit_level() -> None:
    """Close the innermost level."""
    mode.dual_levels = mode.dual_levels[:-1]
    mode.dual_level = mode.dual_levels[-1] if mode.dual_levels else 0


def with_tangent(primal: Tensor, tangent: Tensor, level: int) -> Tensor:
    """``primal`` carrying ``tangent`` at ``level``: the same value, memory and history."""
    if primal.requires_grad and primal.edge is None:
        # A leaf is known by its identity, which a copy would lose: go through an operation.
        from nbdl.ops.views import Reshape

        with recording(True):
            primal = Reshape.of(primal.array.shape)(primal)
    tensor = object.__new__(Tensor)
    tensor.array, tensor.requires_grad, tensor.edge = primal.array, primal.requires_grad, primal.edge
    tensor.view_of, tensor.view_time, tensor.storage = primal.view_of, primal.view_time, primal.storage
    tensor._inference, tensor.batch = primal._inference, primal.batch
    tensor.dual = Dual(level, primal, tangent)
    return tensor


def without_left_levels(tensor: Tensor) -> Tensor:
    """``tensor`` without the tangents of levels that were left, a view with those that its base has now."""
    if tensor.view_of is not None:
        tensor.refresh_edge()
    while tensor.dual is not None and tensor.dual.level not in mode.dual_levels:
        tensor = tensor.dual.primal
    return tensor


def may_carry(tensor: Tensor) -> bool:
    """Whether a tensor, or one whose memory it shares, may have a tangent."""
    return tensor.dual is not None or tensor.view_of is not None


def carry_tangents(primitive: Primitive, inputs: Sequence[Tensor], out: Any) -> Any:
    """Push the tangents of the innermost level through ``primitive``; lower levels follow by recursion."""
    inputs = [without_left_levels(tensor) for tensor in inputs]
    level = max([tensor.dual.level for tensor in inputs if tensor.dual is not None], default=0)
    if level == 0:
        return out
    here = [
        tensor.dual if tensor.dual is not None and tensor.dual.level == level else None for tensor in inputs
    ]
    primals = [dual.primal if dual is not None else tensor for dual, tensor in zip(here, inputs, strict=True)]
    tangents = [dual.tangent if dual is not None else None for dual in here]
    # Outputs of lower levels: the same values and edges, with the tangents that the primals carry.
    lower = carry_tangents(primitive, primals, out)
    lowers = lower if type(lower) is tuple else (lower,)
    results = []
    for primal, tangent in zip(lowers, primitive.jvp(primals, lowers, tangents), strict=True):
        results.append(primal if tangent is None else with_tangent(primal, tangent, level))
    return tuple(results) if type(out) is tuple else results[0]
