"""Groups: one formula in place on many tensors, such as the update of all parameters, becomes one operation.

So it is one plan and one parallel region, whose threads share the elements of all tensors together.
"""

from __future__ import annotations

from nbdl.compiler.program import INPUT, OUTPUT, Buffer, Operation, Program
from nbdl.ops.pointwise import Pointwise


def group_updates(program: Program) -> Program:
    """Merge operations in a row that are alike, work in place and have nothing to do with one another."""
    operations: list[Operation] = []
    group: list[Operation] = []
    for operation in program.operations:
        if group and not _goes_with(operation, group):
            operations.append(_merged(group))
            group = []
        if _is_update(operation):
            group.append(operation)
        else:
            operations.append(operation)
    if group:
        operations.append(_merged(group))
    return program.with_operations(operations)


def _is_update(operation: Operation) -> bool:
    """Whether it is in place and pointwise, on memory that stays where it is from call to call."""
    windows = (*operation.inputs, *operation.outputs)
    stays = all(window.buffer.kind not in (INPUT, OUTPUT) for window in windows)
    return operation.into and isinstance(operation.primitive, Pointwise) and not operation.parts and stays


def _goes_with(operation: Operation, group: list[Operation]) -> bool:
    first = group[0].primitive
    if not _is_update(operation) or operation.primitive.params != first.params:
        return False
    reads, writes = _buffers(operation)
    for other in group:
        others_reads, others_writes = _buffers(other)
        if not writes.isdisjoint(others_reads | others_writes) or not reads.isdisjoint(others_writes):
            return False
    return True


def _buffers(operation: Operation) -> tuple[set[Buffer], set[Buffer]]:
    return {window.buffer for window in operation.inputs}, {window.buffer for window in operation.outputs}


def _merged(group: list[Operation]) -> Operation:
    if len(group) == 1:
        return group[0]
    inputs = dict.fromkeys(window for operation in group for window in operation.inputs)
    outputs = [window for operation in group for window in operation.outputs]
    return Operation(group[0].primitive, inputs, outputs, into=True, parts=tuple(group))
