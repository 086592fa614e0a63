"""Dead code: what nobody reads is not computed."""

from __future__ import annotations

from nbdl.compiler.program import Buffer, Operation, Program


def remove_dead_code(program: Program) -> Program:
    """The operations that a result or memory from outside depends on, and those that may raise an error.

    Temporaries are alive from a write to the last read; walking backwards, an operation is kept if something
    that it writes is alive behind it.
    """
    alive: set[Buffer] = set()
    kept: list[Operation] = []
    for operation in reversed(program.operations):
        written = [window.buffer for window in operation.outputs]
        is_read = any(buffer in alive or not buffer.is_private for buffer in written)
        if not is_read and not operation.primitive.has_effect:
            continue
        kept.append(operation)
        # Who writes only some elements of a window, reads it: the window is among the inputs then.
        alive.difference_update(w.buffer for w in operation.outputs if w.nbytes == w.buffer.nbytes)
        alive.update(window.buffer for window in operation.inputs)
    return program.with_operations(kept[::-1])
