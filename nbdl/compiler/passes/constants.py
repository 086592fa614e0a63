"""Constants: Python numbers beside arrays go into the formulas that read them."""

from __future__ import annotations

from typing import Any

from nbdl.compiler.formulas import dtypes_of, formula_of
from nbdl.compiler.program import CAPTURED, Operation, Program, Window
from nbdl.formula import const, dtypes, var
from nbdl.formula.expr import substitute
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.reduction import Reduce


def fold_constants(program: Program) -> Program:
    """Every operand that is a Python number becomes a literal of the formula.

    A literal takes the dtype of the arithmetic as a Python number does, so only floating formulas change:
    among integers a Python float decides the dtype of the result.
    """
    return program.with_operations([_folded(operation) for operation in program.operations])


def _folded(operation: Operation) -> Operation:
    primitive = operation.primitive
    if not isinstance(primitive, (Pointwise, Reduce)) or not primitive.weak:
        return operation
    formula, inputs = primitive.formula, operation.inputs
    constants = {
        k: window.buffer.array[()].item()
        for k, window in enumerate(inputs)
        if primitive.weak >> k & 1 and window.dtype.kind != "c" and _is_constant(window)
    }
    kept = [k for k in range(formula.arity) if k not in constants]
    if not constants or not any(dtypes.is_floating(inputs[k].dtype) for k in kept):
        return operation
    renamed = {var(f"x{k}"): const(value) for k, value in constants.items()}
    renamed |= {var(f"x{k}"): var(f"x{position}") for position, k in enumerate(kept)}
    outputs = tuple(substitute(formula.outputs, renamed))
    weak = sum((primitive.weak >> k & 1) << position for position, k in enumerate(kept))
    folded = formula_of(formula.name, outputs, len(kept))
    windows = [inputs[k] for k in kept]
    if dtypes_of(folded, windows, weak) != dtypes_of(formula, inputs, primitive.weak):
        return operation
    if isinstance(primitive, Reduce):
        new: Any = Reduce.of(folded, primitive.kind, primitive.axes, primitive.keepdims, weak)
    else:
        new = Pointwise.of(folded, weak)
    return Operation(new, windows, operation.outputs, operation.into)


def _is_constant(window: Window) -> bool:
    """Whether it is a Python number, whose array is read-only; hyperparameters of optimizers are not."""
    buffer = window.buffer
    return (
        buffer.kind == CAPTURED and buffer.on_host and window.shape == () and not buffer.array.flags.writeable
    )
