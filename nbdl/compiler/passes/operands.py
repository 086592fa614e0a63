"""Operands that a formula does not read: an assignment does not depend on what it overwrites."""

from __future__ import annotations

from nbdl.compiler.formulas import formula_of
from nbdl.compiler.program import Operation, Program
from nbdl.formula import var
from nbdl.formula.expr import substitute, variables
from nbdl.ops.pointwise import Pointwise


def drop_unread_operands(program: Program) -> Program:
    """Leave out operands that do not occur in the formula, where neither shape nor dtype depends on them."""
    return program.with_operations([_without_unread(operation) for operation in program.operations])


def _without_unread(operation: Operation) -> Operation:
    primitive, inputs = operation.primitive, operation.inputs
    if not isinstance(primitive, Pointwise) or not operation.into:
        return operation
    read = {node.name for node in variables(primitive.formula.outputs)}
    kept = [k for k in range(len(inputs)) if f"x{k}" in read]
    same_dtype = len({window.dtype for window in (*inputs, *operation.outputs)}) == 1
    if len(kept) == len(inputs) or not kept or not same_dtype:
        return operation
    renamed = {var(f"x{k}"): var(f"x{position}") for position, k in enumerate(kept)}
    outputs = tuple(substitute(primitive.formula.outputs, renamed))
    weak = sum((primitive.weak >> k & 1) << position for position, k in enumerate(kept))
    formula = formula_of(primitive.formula.name, outputs, len(kept))
    return Operation(Pointwise.of(formula, weak), [inputs[k] for k in kept], operation.outputs, True)
