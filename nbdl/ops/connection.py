"""Gradients that do not read the operand, yet depend on it as PyTorch's do: by a derivative of zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import wrap
from nbdl.autograd.tensor import Tensor
from nbdl.ops.primitive import NOTHING, Primitive

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = ["connected"]


class Connection(Primitive):
    """The first of two operands of one shape, in the same memory; the second does not count."""

    name = "connection"
    saved = NOTHING

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient, and zeros."""
        (g,) = gradients
        return g, g.zeros_like() if g is not None and node.needs_grad(1) else None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangent of the first."""
        return (tangents[0],)


def connected(gradient: Tensor, node: Node) -> Tensor:
    """``gradient`` of the first operand of ``node``, requiring grad as that operand does.

    A derivative that is the same everywhere makes a gradient without history, of which no second derivative
    could be asked. Where PyTorch answers that with zeros, the rule passes its result through here. It costs
    nothing unless the backward pass is recorded; batches under vmap stay as they are.
    """
    if not mode.grad or gradient.batch is not None:
        return gradient
    edge = node.edges[0]
    operand = edge
    if type(edge) is not Tensor:
        operand = Tensor(gradient.array)  # as large as the operand, whose values nobody reads
        operand.requires_grad, operand.edge = True, edge
    return wrap(Connection.of(), (gradient, operand), gradient.array)
