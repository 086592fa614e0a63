"""Plans of several stages or plans, and the scratch memory of kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.native import state
from nbdl.kernels.cpu import stages as kernel

__all__ = ["Stage", "plans_in_a_row", "plans_side_by_side", "scratch_memory", "staged_plan"]

_HUGE_PAGE = 1 << 21  # kernels that transform tiles walk across hundreds of small ones


class Stage(NamedTuple):
    """A kernel whose rows `[0, rows)` are split over `tasks`."""

    kernel: int
    rows: int
    tasks: int


def staged_plan(
    stages: Sequence[Stage],
    *,
    inputs: int,
    outputs: Iterable[OutputSpec],
    words: dict[int, int],
    keep: Any = None,
) -> Plan:
    """A plan that runs kernels one after the other.

    Args:
        stages: The kernels; all read the same argument block (`nbdl.kernels.cpu.stages`).
        inputs: Number of input operands; with the outputs at most `MAX_OPERANDS`.
        outputs: The output operands.
        words: Value of each word of the block from `FIRST_WORD` on; others are 0.
        keep: Objects whose memory the words refer to.
    """
    outputs = tuple(outputs)
    table = [state().ctypes.data, len(stages)]
    for stage in stages:
        table += [stage.kernel, stage.rows, max(1, min(stage.tasks, stage.rows))]
    regions = sum(stage.tasks > 1 and stage.rows > 1 for stage in stages)
    words = words | dict(enumerate(table, kernel.STATE))
    return Plan(
        _run_stages(),
        inputs=inputs,
        outputs=outputs,
        arguments=block_words(words, inputs + len(outputs)),
        rows=1,
        regions=regions,
        keep=(state(), keep),
    )


def block_words(words: dict[int, int], operands: int) -> list[int]:
    """The words of an argument block behind the addresses of its operands."""
    return [words.get(k, 0) for k in range(operands, 1 + max(words))]


def plans_in_a_row(
    parts: Sequence[tuple[Plan, Sequence[int]]], inputs: int, scratch: NDArray[Any] | None = None
) -> Plan:
    """A plan that runs plans one after the other.

    Args:
        parts: The plans, each with the positions of its first operands among those of the whole; its last
            ones are new outputs of the whole.
        inputs: Number of input operands; with the outputs at most `MAX_OPERANDS`.
        scratch: Memory that is at position `SCRATCH`; there is one operand less then.
    """
    table = [state().ctypes.data, len(parts)]
    outputs: list[OutputSpec] = []
    for plan, positions in parts:
        first = inputs + len(outputs)
        outputs += plan.outputs[len(plan.outputs) + len(positions) - plan.operands :]
        table += [plan.block.ctypes.data, *positions, *range(first, inputs + len(outputs))]
    words = dict(enumerate(table, kernel.STATE))
    if scratch is not None:
        words[kernel.SCRATCH] = scratch.ctypes.data
    return Plan(
        _run_plans(),
        inputs=inputs,
        outputs=outputs,
        arguments=block_words(words, inputs + len(outputs)),
        rows=1,
        regions=sum(plan.regions for plan, _ in parts),
        keep=(state(), parts, scratch),
    )


def plans_side_by_side(parts: Sequence[tuple[Plan, Sequence[NDArray[Any]]]], tasks: int) -> Plan:
    """A plan, without operands, that computes the rows of plans together.

    Args:
        parts: The plans with their operands, which stay where they are and are independent of each other.
        tasks: Into how many tasks all rows are split.
    """
    words, rows = [len(parts)], 0
    for plan, operands in parts:
        addresses = [operand.ctypes.data for operand in operands]
        plan.arguments[: len(addresses)] = addresses
        words += [plan.kernel, plan.arguments.ctypes.data, rows]
        rows += plan.rows
    words += [0, 0, rows]
    return Plan(_run_side_by_side(), inputs=0, arguments=words, rows=rows, tasks=tasks, keep=parts)


@cache
def _run_side_by_side() -> int:
    return compile_kernel("side_by_side", lambda: kernel.run_side_by_side, "plans side by side")


@cache
def _run_plans() -> int:
    return compile_kernel("plans", lambda: kernel.run_plans, "plans in a row")


@cache
def _run_stages() -> int:
    return compile_kernel("stages", lambda: kernel.run_stages, "stages")


_memory: list[NDArray[np.uint8]] = []


def scratch_memory(size: int) -> NDArray[np.uint8]:
    """At least `size` bytes for kernels to work in, aligned so that the system can give huge pages.

    All plans share it, since they run one at a time; whoever refers to it by address keeps it alive.
    """
    if not _memory or _memory[0].size < size:
        size = -(-size // _HUGE_PAGE) * _HUGE_PAGE
        memory = np.empty(size + _HUGE_PAGE, np.uint8)
        offset = -memory.ctypes.data % _HUGE_PAGE
        _memory[:] = [memory[offset : offset + size]]
    return _memory[0]
