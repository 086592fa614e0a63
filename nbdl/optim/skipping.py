"""Steps that leave everything as it is where a flag on the device says so, without reading it.

A compiled step cannot branch on a value. So each output of an update rule, and of the rule that counts steps,
becomes a choice between what it overwrites and what it would be, as in PyTorch's fused optimizers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.formula.expr import var
from nbdl.ops.pointwise import Pointwise


@contextmanager
def skipped_if(flag: Tensor) -> Iterator[None]:
    """Update rules that run meanwhile change nothing if ``flag``, a 0-d bool, is true."""
    before, mode.skipped = mode.skipped, flag
    try:
        yield
    finally:
        mode.skipped = before


def device_of_counters() -> Any:
    """Where new step counts are: on the host, but beside the flag of a step that may be skipped."""
    return "cpu" if mode.skipped is None else mode.skipped.device


def overwrite_arrays(
    backend: Any, primitive: Pointwise, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
) -> None:
    """``backend.overwrite``, or nothing if the running step is skipped."""
    if mode.skipped is not None:
        primitive, rows = _choosing(primitive, positions), [[*row, mode.skipped.array] for row in rows]
    backend.overwrite(primitive, rows, positions)


@functools.lru_cache(maxsize=256)
def _choosing(primitive: Pointwise, positions: tuple[int, ...]) -> Pointwise:
    """The primitive with one more operand, a flag: where it is true, what is overwritten stays."""
    rule = primitive.formula
    flag = var(f"x{rule.arity}")
    outputs = tuple(
        [f.where(flag, var(f"x{k}"), new) for k, new in zip(positions, rule.outputs, strict=True)]
    )
    choice = Formula.of(f"{rule.name}_or_skip", outputs, rule.arity + 1)
    return Pointwise.of(choice, primitive.weak | 1 << rule.arity)
