"""A linear layer and the activation behind it as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.formula import Formula
from nbdl.ops.fused import Fused
from nbdl.ops.matmul import LINEAR, linear_gradients, linear_vjp
from nbdl.ops.pointwise import Pointwise

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class ActivatedLinear(Fused):
    """``activation(x @ weight.T + bias)``, the bias being optional.

    Args:
        activation: a formula of one operand whose derivative is a function of its value (tanh' = 1 - y^2).
    """

    name = "activated_linear"

    def __init__(self, activation: Formula):
        super().__init__(activation=activation)
        self.label = f"linear_{activation.name}"
        self.activation = activation

    def check(self, *arrays: Any) -> None:
        """That of the linear layer."""
        LINEAR.check(*arrays)

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The layer, then the activation."""
        return (apply(Pointwise.of(self.activation), apply(LINEAR, *inputs)),)

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """What the layer saves, and the result for the activation."""
        return LINEAR.saves(needs)[0], True

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Through the activation, then as :class:`LinearLayer`; in one call unless somebody looks."""
        (g,) = gradients
        assert g is not None
        y, needs, modes = node.output(), node.needs, mode.__dict__
        is_watched = modes["grad"] or modes["dual_level"] or modes["recorder"] is not None
        if is_watched or y.array.ndim != 2:
            return linear_vjp(node, _through(self.activation, g, y))
        operands = [g, y]
        if needs & 1:
            operands.append(node.input(1))
        if needs & 2:
            operands.append(node.input(0))
        found = apply(ActivatedLinearGradients.of(self.activation, needs), *operands)
        if needs == 7:
            return found[1:]
        remaining = iter(found[1:])
        return [next(remaining) if needs >> k & 1 else None for k in range(len(node.edges))]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """That of the layer, times the derivative of the activation."""
        (tangent,) = LINEAR.jvp(inputs, outputs, tangents)
        return (None if tangent is None else _through(self.activation, tangent, outputs[0]),)


class ActivatedLinearGradients(Fused):
    """The gradients of :class:`ActivatedLinear` in one call.

    Operands: the gradient of the result, (rows, out); the result; weight if the gradient of the input is
    needed; the input if that of the weight is. Outputs: the gradient before the activation, then those that
    are needed, of input, weight and bias.

    Args:
        activation: the activation.
        needs: bit k is set where operand k of the layer needs a gradient.
    """

    name = "activated_linear_gradients"

    def __init__(self, activation: Formula, needs: int):
        super().__init__(activation=activation, needs=needs)
        self.activation, self.needs = activation, needs

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The derivative of the activation, then the products."""
        slope = _through(self.activation, inputs[0], inputs[1])
        return slope, *linear_gradients(self.needs, (slope, *inputs[2:]))


def _through(activation: Formula, g: Tensor, y: Tensor) -> Tensor:
    """g times the derivative of the activation: the gradient before it, or the tangent behind it."""
    (term,) = activation.vjp(1).terms
    assert term is not None
    return apply(Pointwise.of(term.formula), *[g if kind == "g" else y for kind, _ in term.sources])
