"""A program as text: operations, buffers, kernels, bytes and FLOPs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nbdl.compiler.memory import plan_memory
from nbdl.compiler.program import TEMPORARY, Operation, Program
from nbdl.compiler.replay import Replay

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend


class Report:
    """A recorded program and its improved form; ``print`` it.

    Args:
        recorded: as it was written down.
        improved: after the passes.
        backend: what runs it.

    Attributes:
        recorded: as above.
        improved: as above.
    """

    def __init__(self, recorded: Program, improved: Program, backend: NumpyBackend):
        self.recorded, self.improved = recorded, improved
        self._backend = backend
        self._steps = len(Replay(improved, backend).steps)

    @property
    def recorded_bytes(self) -> int:
        """Bytes of all temporaries of the recorded program, had each its own memory."""
        buffers = self.recorded.buffers
        return sum(buffer.nbytes for buffer in buffers if buffer.kind == TEMPORARY)

    @property
    def planned_bytes(self) -> int:
        """Bytes of the arena in which the temporaries of the improved program lie."""
        return plan_memory(self.improved).size

    @property
    def flops(self) -> int:
        """Floating-point operations of the improved program, roughly."""
        return sum(map(flops_of, self.improved.operations))

    def __str__(self) -> str:
        return "\n".join(
            [
                f"recorded: {len(self.recorded.operations)} operations, "
                f"{_amount(self.recorded_bytes)}B of temporaries",
                *_lines(self.recorded),
                "",
                f"improved on {self._backend.name}: {len(self.improved.operations)} operations in "
                f"{self._steps} calls, {_amount(self.planned_bytes)}B of temporaries, "
                f"{_amount(self.flops)}FLOP",
                *_lines(self.improved),
            ]
        )

    __repr__ = __str__


def _lines(program: Program) -> list[str]:
    lines = [f"  inputs  {', '.join(map(repr, program.inputs)) or 'none'}"]
    for operation in program.operations:
        moved = sum(window.nbytes for window in (*operation.inputs, *operation.outputs))
        lines.append(f"  {_text(operation)}    # {_amount(moved)}B, {_amount(flops_of(operation))}FLOP")
    lines.append(f"  return  {', '.join(map(repr, program.outputs)) or 'nothing'}")
    return lines


def _text(operation: Operation) -> str:
    outputs = ", ".join(map(repr, operation.outputs))
    inputs = ", ".join(map(repr, operation.inputs))
    formula = operation.primitive.params.get("formula")
    code = "" if formula is None else " {" + "; ".join(map(repr, formula.outputs)) + "}"
    return f"{outputs} {'<-' if operation.into else '='} {operation.primitive.label}({inputs}){code}"


def flops_of(operation: Operation) -> int:
    """Floating-point operations, roughly: products and sums of matrix kernels, nodes of formulas."""
    primitive, inputs, outputs = operation.primitive, operation.inputs, operation.outputs
    formula: Any = primitive.params.get("formula")
    if formula is not None:
        size = max([math.prod(window.shape) for window in (*inputs, *outputs)], default=0)
        count = sum(node.function is not None for node in formula.nodes)
        return size * (count + (primitive.name == "reduce"))
    if primitive.name in ("matmul", "linear"):
        a = inputs[0]
        depth = a.shape[-2 if primitive.params.get("transpose_a") else -1] if a.shape else 1
        return 2 * outputs[0].size * depth
    if primitive.name == "convolution":
        return 2 * outputs[0].size * math.prod(inputs[1].shape[1:])
    if primitive.name == "convolution_input":
        return 2 * inputs[0].size * math.prod(inputs[1].shape[1:])
    if primitive.name == "convolution_weight":
        gradient = next((w for w in inputs if w.shape[1] == outputs[0].shape[0]), inputs[0])
        return 2 * gradient.size * math.prod(outputs[0].shape[1:])
    return sum(window.size for window in outputs)


def _amount(number: float) -> str:
    """1234567 as ``1.23 M``."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 1000 or unit == "T":
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} "
