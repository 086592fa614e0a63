"""Common subexpressions: what is computed twice from the same memory is computed once."""

from __future__ import annotations

from typing import Any

from nbdl.compiler.program import TEMPORARY, Buffer, Operation, Program, write_counts


def merge_common(program: Program) -> Program:
    """Of two equal operations on unchanged operands the second is dropped, and the first one's result read.

    Results must be temporaries that are written once, and the operation no draw of random numbers: these read
    a counter that has another value the second time.
    """
    counts = write_counts(program.operations)
    versions: dict[Buffer, int] = {}
    first: dict[Any, Operation] = {}
    replaced: dict[Buffer, Buffer] = {}
    kept: list[Operation] = []
    for recorded in program.operations:
        operation = recorded.replaced(replaced)
        pure = not operation.into and all(
            out.buffer.kind == TEMPORARY and counts[out.buffer] == 1 for out in operation.outputs
        )
        key = (
            operation.primitive,
            tuple((window, versions.get(window.buffer, 0)) for window in operation.inputs),
            tuple((w.offset, w.shape, w.strides, w.dtype) for w in operation.outputs),
        )
        known = first.get(key) if pure else None
        if known is not None:
            for mine, theirs in zip(operation.outputs, known.outputs, strict=True):
                replaced[mine.buffer] = theirs.buffer
            continue
        if pure:
            first[key] = operation
        for out in operation.outputs:
            versions[out.buffer] = versions.get(out.buffer, 0) + 1
        kept.append(operation)
    return program.with_operations(kept)
