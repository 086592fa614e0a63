"""Plans of the kernels along one axis (`nbdl.kernels.cpu.lines`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.loops import Strides, element_strides, memory_order, merge, row_major, tasks_for
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import lines as kernel

__all__ = ["Lines", "line_kernel", "line_plan", "lines_along", "output_strides", "plain_dtype"]

Array = NDArray[Any]

_FEW_COLUMNS = 8  # neighbouring lines below which a kernel runs along them
_PLAIN = frozenset("?bhilqBHILQfd")


class Lines(NamedTuple):
    """Operands as lines along one axis.

    Attributes:
        words: The words of the argument block that describe the loops.
        units: Rows of the kernel.
        across: Whether the kernel runs across neighbouring lines.
    """

    words: dict[int, int]
    units: int
    across: bool


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype under which kernels see elements of ``dtype``: bools are bytes; None if they do not."""
    if dtype.char not in _PLAIN or not dtype.isnative:
        return None
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def output_strides(out: Array | None, shape: tuple[int, ...]) -> Strides | None:
    """Element strides of an output of ``shape``, or as it will be allocated if it is None."""
    return row_major(shape) if out is None else element_strides(out, shape)


def lines_along(
    shape: Sequence[int],
    axis: int,
    strides: Sequence[Strides | None],
    *,
    reverse: bool = False,
    may_run_across: bool = True,
) -> Lines | None:
    """The loops over lines along ``axis``, or None where kernels cannot run them.

    Args:
        shape: Lengths of the loops.
        axis: The axis of the lines.
        strides: Element strides of each operand along all axes; None if there are none.
        reverse: Lines start at their ends.
        may_run_across: Whether there is a kernel that runs across lines.
    """
    if any(stride is None for stride in strides):
        return None
    known: list[Strides] = [stride for stride in strides if stride is not None]
    others = [k for k in range(len(shape)) if k != axis]
    lengths = tuple(shape[k] for k in others)
    order = memory_order(lengths, [tuple(stride[k] for k in others) for stride in known])
    nest, _ = merge([lengths[k] for k in order], [[stride[others[k]] for k in order] for stride in known])
    dims, loop_strides = list(nest.dims), [list(own) for own in nest.strides]
    across = may_run_across and dims[-1] >= _FEW_COLUMNS and all(own[-1] == 1 for own in loop_strides)
    columns = dims.pop() if across else 1
    if len(dims) > kernel.MAX_LOOPS:
        return None
    n = shape[axis]
    words = {kernel.LENGTH: n, kernel.COLUMNS: columns, kernel.LOOPS: len(dims)}
    words |= dict(enumerate(dims, kernel.LENGTHS))
    for k, (stride, own) in enumerate(zip(known, loop_strides, strict=True)):
        words[kernel.STARTS + k] = (n - 1) * stride[axis] if reverse else 0
        words[kernel.AXIS_STRIDES + k] = -stride[axis] if reverse else stride[axis]
        words |= dict(enumerate(own[: len(dims)], kernel.LOOP_STRIDES + k * kernel.MAX_LOOPS))
    return Lines(words, math.prod(dims) * -(-columns // kernel.BLOCK), across)


def line_kernel(name: str, across: bool, make: Callable[[], Callable[..., Any]]) -> int:
    """The address of a line kernel; ``name`` says all that determines it."""
    full = f"{name}_{'across' if across else 'along'}"
    return compile_kernel(full, make, full)


def line_plan(
    address: int,
    lines: Lines,
    *,
    inputs: int,
    outputs: Sequence[OutputSpec],
    work: float,
    words: dict[int, int] | None = None,
    keep: Any = None,
) -> Plan:
    """The plan of a line kernel.

    Args:
        address: The kernel.
        lines: Its loops.
        inputs: Number of inputs.
        outputs: The outputs.
        work: What it costs, in additions.
        words: Further words of the argument block.
        keep: What they refer to.
    """
    return Plan(
        address,
        inputs=inputs,
        outputs=outputs,
        arguments=block_words(lines.words | (words or {}), inputs + len(outputs)),
        rows=lines.units,
        tasks=tasks_for(work, lines.units),
        keep=keep,
    )
