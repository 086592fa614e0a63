"""Fusion: pointwise operations in a row become one loop, and so does a sum with what it adds up.

Two operations merge if one reads, element by element, what the other wrote, and if nothing that lies between
them in the program stands in the way of bringing them together. The result is again a pointwise operation or
a reduction, of a formula that is composed of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbdl.compiler.formulas import dtypes_of, formula_of
from nbdl.compiler.program import Buffer, Operation, Program, Window, read_counts
from nbdl.formula import Expr, Formula, var
from nbdl.formula.dtypes import BOOL
from nbdl.formula.expr import substitute, topological, variables
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.reduction import Reduce

# A loop with more operands or longer formulas runs out of registers and takes long to compile.
MAX_OPERANDS = 16
MAX_NODES = 160
# What was made longer ago has left the cache, and looking further back takes long in long programs.
MAX_DISTANCE = 100


def fuse(program: Program) -> Program:
    """Merge pointwise operations with the operations that made their operands, as far as it goes."""
    last_reads = _last_reads(program)
    operations: list[Operation] = []
    for position, operation in enumerate(program.operations):
        operations.append(operation)
        if isinstance(operation.primitive, Pointwise):
            while _merge_last(operations, lambda buffer: last_reads.get(buffer, -1) > position):  # noqa: B023
                pass
    return program.with_operations(_sums_of_formulas(operations, program))


def _last_reads(program: Program) -> dict[Buffer, int]:
    """The position of the last operation that reads a buffer; behind all of them for results."""
    found: dict[Buffer, int] = {}
    for position, operation in enumerate(program.operations):
        found.update((window.buffer, position) for window in operation.inputs)
    found.update((window.buffer, len(program.operations)) for window in program.outputs)
    return found


def _merge_last(operations: list[Operation], is_needed: Callable[[Buffer], bool]) -> bool:
    """Merge the last operation with a producer of one of its operands; whether there was one.

    Args:
        operations: changed in place; the merged operation stands last.
        is_needed: whether a buffer is read behind the last operation.
    """
    last = operations[-1]
    reads = {window.buffer for window in last.inputs}
    for k in range(len(operations) - 2, max(-1, len(operations) - 2 - MAX_DISTANCE), -1):
        producer = operations[k]
        if not any(window.buffer in reads for window in producer.outputs):
            continue
        if not isinstance(producer.primitive, Pointwise) or not _fit(producer, last):
            continue
        if can_be_delayed(producer, operations[k + 1 : -1]):
            merged = _merged(producer, last, is_needed)
            if merged is not None:
                del operations[k]
                operations[-1] = merged
                return True
    return False


def _fit(producer: Operation, consumer: Operation) -> bool:
    """Whether, element by element, one loop can do both: what they share, they share at the same places."""
    if _domain(producer) != _domain(consumer):
        return False
    written = {window.buffer: window.place for window in (*producer.outputs, *consumer.outputs)}
    touched = (*producer.inputs, *producer.outputs, *consumer.inputs, *consumer.outputs)
    return all(window.place == written.get(window.buffer, window.place) for window in touched)


def _domain(operation: Operation) -> tuple[int, ...]:
    """The lengths of the loops."""
    return operation.outputs[0].shape


def can_be_delayed(operation: Operation, between: Sequence[Operation]) -> bool:
    """Whether ``operation`` may run after the operations that follow it."""
    reads = {window.buffer for window in operation.inputs}
    writes = {window.buffer for window in operation.outputs}
    for other in between:
        if any(window.buffer in writes for window in other.inputs):
            return False
        if any(window.buffer in reads or window.buffer in writes for window in other.outputs):
            return False
    return True


class _Composer:
    """Builds the formula of two operations that run element by element, one after the other."""

    def __init__(self) -> None:
        self.operands: dict[tuple[Window, bool], int] = {}
        self._values: dict[object, Expr] = {}

    def operand(self, window: Window, weak: bool) -> Expr:
        """What an operation reads: a value computed before, or memory."""
        value = self._values.get(window.place)
        if value is not None and not weak:
            return value
        position = self.operands.setdefault((window, weak), len(self.operands))
        return var(f"x{position}")

    def add(self, operation: Operation) -> tuple[Expr, ...]:
        """Append an operation; its outputs."""
        primitive = operation.primitive
        assert isinstance(primitive, (Pointwise, Reduce))
        renamed = {
            var(f"x{k}"): self.operand(window, bool(primitive.weak >> k & 1))
            for k, window in enumerate(operation.inputs)
        }
        return tuple(substitute(primitive.formula.outputs, renamed))

    def written(self, operation: Operation, outputs: Sequence[Expr]) -> None:
        """From here on these windows hold these values."""
        for window, value in zip(operation.outputs, outputs, strict=True):
            self._values[window.place] = value

    @property
    def windows(self) -> list[Window]:
        """The operands."""
        return [window for window, _ in self.operands]

    @property
    def weak(self) -> int:
        """Which operands are Python numbers."""
        return sum(int(weak) << k for k, (_, weak) in enumerate(self.operands))


def _merged(
    producer: Operation, consumer: Operation, is_needed: Callable[[Buffer], bool]
) -> Operation | None:
    """The two as one operation; None if it would compute something else, or be too long."""
    composer = _Composer()
    first = composer.add(producer)
    composer.written(producer, first)
    second = composer.add(consumer)
    results = dict(zip(producer.outputs, first, strict=True))
    overwritten = {window.place for window in consumer.outputs}
    results = {
        window: value
        for window, value in results.items()
        if window.place not in overwritten and (is_needed(window.buffer) or not window.buffer.is_private)
    }
    results |= dict(zip(consumer.outputs, second, strict=True))
    into = producer.into or consumer.into
    name = f"{consumer.primitive.label}_of_{producer.primitive.label}"
    return _operation(name, composer, list(results), list(results.values()), (producer, consumer), into)


def _operation(
    name: str,
    composer: _Composer,
    windows: list[Window],
    outputs: list[Expr],
    parts: tuple[Operation, Operation],
    into: bool,
) -> Operation | None:
    used = {node.name for node in variables(outputs)}
    kept = [k for k in range(len(composer.operands)) if f"x{k}" in used]
    renamed = {var(f"x{k}"): var(f"x{position}") for position, k in enumerate(kept)}
    inputs = [composer.windows[k] for k in kept]
    weak = sum((composer.weak >> k & 1) << position for position, k in enumerate(kept))
    if len(inputs) + len(windows) > MAX_OPERANDS or len(topological(outputs)) > MAX_NODES:
        return None
    formula = formula_of(_short(name), tuple(substitute(outputs, renamed)), len(kept))
    if not _same_arithmetic(formula, inputs, weak, windows, parts):
        return None
    return Operation(Pointwise.of(formula, weak), inputs, windows, into)


def _dtypes_of(operation: Operation) -> tuple[np.dtype, np.dtype, tuple[np.dtype, ...]]:
    primitive = operation.primitive
    assert isinstance(primitive, (Pointwise, Reduce))
    return dtypes_of(primitive.formula, operation.inputs, primitive.weak)


def _short(name: str) -> str:
    """Names of long chains keep their end."""
    parts = name.split("_of_")
    return "_of_".join(parts) if len(parts) <= 4 else "_of_".join([*parts[:3], "more"])


def _same_arithmetic(
    formula: Formula,
    inputs: Sequence[Window],
    weak: int,
    outputs: Sequence[Window],
    parts: Sequence[Operation],
) -> bool:
    """Whether the fused formula computes in the same precision as its parts, and gives the same dtypes."""
    _, precision, _ = _dtypes_of(parts[0])
    for part in parts:
        _, own, own_wanted = _dtypes_of(part)
        # Masks are combined as bools: what does that may not even be defined for the floats they come from.
        if own != precision or own.kind != "f":
            return False
        # A value that was rounded or cast when it was stored must not go on unrounded.
        if any(window.dtype not in (own, BOOL) for window in part.outputs):
            return False
        if any(given != window.dtype for given, window in zip(own_wanted, part.outputs)):
            return False
    _, computed, wanted = dtypes_of(formula, inputs, weak)
    if computed != precision:
        return False
    return all(given == window.dtype for given, window in zip(wanted, outputs, strict=True))


# ------------------------------------------------------------------------------------------------------ sums
def _sums_of_formulas(operations: Sequence[Operation], program: Program) -> list[Operation]:
    """Pointwise operations whose only reader is a sum or mean become a part of it."""
    readers = read_counts(program.with_operations(operations))
    kept: list[Operation] = []
    for operation in operations:
        kept.append(operation)
        primitive = operation.primitive
        if not isinstance(primitive, Reduce) or primitive.kind not in ("sum", "mean"):
            continue
        for k in range(len(kept) - 2, max(-1, len(kept) - 2 - MAX_DISTANCE), -1):
            merged = _sum_of(kept[k], kept[-1], kept[k + 1 : -1], readers)
            if merged is not None:
                del kept[k]
                kept[-1] = merged
                break
    return kept


def _sum_of(
    producer: Operation, reduction: Operation, between: Sequence[Operation], readers: dict[Buffer, int]
) -> Operation | None:
    """The reduction of the producer's formula, if the producer serves nothing else."""
    if not isinstance(producer.primitive, Pointwise) or len(producer.outputs) > 1 or producer.into:
        return None
    (out,) = producer.outputs
    domain = _broadcast([window.shape for window in reduction.inputs])
    reads = [window for window in reduction.inputs if window.buffer is out.buffer]
    if not reads or readers.get(out.buffer, 0) != 1 or not out.buffer.is_private or out.shape != domain:
        return None
    if any(window != out for window in reads) or not can_be_delayed(producer, between):
        return None
    composer = _Composer()
    composer.written(producer, composer.add(producer))
    (value,) = composer.add(reduction)
    inputs = composer.windows
    formula = formula_of(
        _short(f"{reduction.primitive.label}_of_{producer.primitive.label}"), (value,), len(inputs)
    )
    if len(inputs) > MAX_OPERANDS or len(topological([value])) > MAX_NODES:
        return None
    if _broadcast([window.shape for window in inputs]) != domain:
        return None
    if not _same_arithmetic(formula, inputs, composer.weak, reduction.outputs, (producer, reduction)):
        return None
    primitive = reduction.primitive
    assert isinstance(primitive, Reduce)
    summed = Reduce.of(formula, primitive.kind, primitive.axes, primitive.keepdims, composer.weak)
    return Operation(summed, inputs, reduction.outputs, reduction.into)


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return np.broadcast_shapes(*shapes)
