"""A linear layer, its activation and their gradients in as few calls as a library for products has.

The compiler makes these of recorded operations; nobody calls them on tensors, so they have no derivatives.
"""

from __future__ import annotations

from typing import Any

from nbdl.formula import Formula
from nbdl.ops.matmul import LINEAR
from nbdl.ops.primitive import Primitive


class ActivatedLinearAux(Primitive):
    """``activation(x @ weight.T + bias)``, the bias being optional, and what its derivative reads.

    Args:
        activation: a formula of one operand.
    """

    name = "activated_linear_aux"

    def __init__(self, activation: Formula):
        super().__init__(activation=activation)
        self.label = f"linear_{activation.name}_aux"

    def check(self, *arrays: Any) -> None:
        """That of the linear layer."""
        LINEAR.check(*arrays)


class SlopedProduct(Primitive):
    """``sloped_product(g, weight, source, aux?)``: ``g @ weight`` times the derivative of an activation.

    Args:
        activation: a formula of one operand.
        has_sum: a second result is the sum over all rows.
    """

    name = "sloped_product"

    def __init__(self, activation: Formula, has_sum: bool):
        super().__init__(activation=activation, has_sum=has_sum)
        self.label = f"matmul_{activation.name}_vjp" + ("_sum" if has_sum else "")
