"""Linear layers with their activation: the plans of the parts in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from nbdl.backend.numba.launch import Plan
from nbdl.backend.numba.matmul import plan_linear, plan_linear_gradients
from nbdl.backend.numba.pointwise import plan_pointwise
from nbdl.backend.numba.stages import plans_in_a_row
from nbdl.formula import Formula

__all__ = ["plan_activated_linear", "plan_activated_linear_gradients"]

Array = NDArray[Any]


def plan_activated_linear(
    inputs: Sequence[Array], outs: Sequence[Array] | None, *, activation: Formula
) -> Plan | None:
    """Plans `activation(x @ weight.T + bias)`: the product, then the activation in place."""
    product = plan_linear(inputs) if outs is None else None
    if product is None:
        return None
    result = product.allocate()
    step = plan_pointwise([result], [result], formula=activation, weak=0)
    if step is None:
        return None
    count = len(inputs)
    return plans_in_a_row([(product, range(count)), (step, (count, count))], count)


def plan_activated_linear_gradients(
    inputs: Sequence[Array], outs: Sequence[Array] | None, *, activation: Formula, needs: int
) -> Plan | None:
    """Plans the gradients: that before the activation, then those of the linear layer."""
    (term,) = activation.vjp(1).terms
    if outs is not None or term is None:
        return None
    places = [0 if kind == "g" else 1 for kind, _ in term.sources]
    step = plan_pointwise([inputs[k] for k in places], None, formula=term.formula, weak=0)
    if step is None:
        return None
    products = plan_linear_gradients([step.allocate(), *inputs[2:]], needs=needs)
    if products is None:
        return None
    count = len(inputs)
    return plans_in_a_row([(step, places), (products, (count, *range(2, count)))], count)
