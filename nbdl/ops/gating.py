"""The gated linear unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbdl.autograd.tape import apply
from nbdl.formula import Formula
from nbdl.formula.functions import expit
from nbdl.ops.fused import Fused
from nbdl.ops.joining import cat
from nbdl.ops.pointwise import call

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor

_GLU = Formula("glu", lambda a, b: a * expit(b), 2)
_BY_GATES = Formula("glu_by_gates", lambda g, a, b: g * (a * (expit(b) * (1 - expit(b)))), 3)


class _Gated(Fused):
    """Along one axis, whose halves are values and gates."""

    def __init__(self, axis: int):
        super().__init__(axis=axis)
        self.axis = axis

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and gates."""
        half = x.array.shape[self.axis] // 2
        return x.narrow(self.axis, 0, half), x.narrow(self.axis, half, half)


class Glu(_Gated):
    """``glu(x)``: values * expit(gates)."""

    name = "glu"

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The definition."""
        return (call(_GLU, *self.halves(inputs[0])),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The fused backward kernel."""
        (g,) = gradients
        assert g is not None
        return (apply(GluInput.of(self.axis), g.contiguous(), node.input(0)),)


class GluInput(_Gated):
    """``glu_input(g, x)``: the gradient of :class:`Glu`."""

    name = "glu_input"

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """By the values, and by the gates."""
        g, x = inputs
        values, gates = self.halves(x)
        return (cat([call(_GLU, g, gates), call(_BY_GATES, g, values, gates)], self.axis),)
