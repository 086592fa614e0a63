"""Fused primitives: one kernel for what could be composed of several, derived like the composition.

Backward kernels are of this kind: they run in every step and must be fast, while their own derivatives are
asked for rarely and need only be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.batching import Batch, lifted
from nbdl.autograd.duals import enter_level, exit_level, with_tangent
from nbdl.autograd.modes import mode, recording
from nbdl.ops.primitive import Primitive
from nbdl.ops.views import Reshape

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class Fused(Primitive):
    """A primitive that equals a composition of differentiable operations."""

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, composed of other operations."""
        raise NotImplementedError

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """The composition, each operation by its own rule."""
        operands = [Batch(level, x, flag).tensor() for x, flag in zip(values, flags, strict=True)]
        results = [lifted(y, level).batch.full() for y in self.compose(*operands)]  # type: ignore[union-attr]
        return tuple(results) if len(results) > 1 else results[0]

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """A backward pass through the composition."""
        from nbdl.autograd.engine import grad

        create_graph = mode.grad
        with recording(True):
            # Views of the operands, so that an operand given twice, or made of another one, is two.
            inputs = [Reshape.of(x.array.shape)(x) for x in node.inputs]
            outputs = self.compose(*inputs)
        reached = [
            (y, g) for y, g in zip(outputs, gradients, strict=True) if g is not None and y.requires_grad
        ]
        wanted = [k for k in range(len(inputs)) if node.needs_grad(k)]
        results: list[Tensor | None] = [None] * len(inputs)
        if reached:
            found = grad(
                [y for y, _ in reached],
                [inputs[k] for k in wanted],
                [g for _, g in reached],
                create_graph=create_graph,
                allow_unused=True,
            )
            for k, gradient in zip(wanted, found, strict=True):
                results[k] = gradient
        return results

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Tangents pushed through the composition, at a level of their own."""
        level = enter_level()
        try:
            carried = [
                x if t is None else with_tangent(x, t, level) for x, t in zip(inputs, tangents, strict=True)
            ]
            results = self.compose(*carried)
        finally:
            exit_level()
        return [y.dual.tangent if y.dual is not None and y.dual.level == level else None for y in results]
