"""The gated linear unit of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.gating`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import gating as kernel

__all__ = ["plan_glu", "plan_glu_input"]

Array = NDArray[Any]
_ELEMENT_WORK = 15.0  # of an element, in additions


def plan_glu(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans the unit of (x,), or returns None where NumPy has to do it."""
    (x,) = inputs
    shape = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
    return _plan(kernel.make_glu, inputs, outputs, shape, x, axis)


def plan_glu_input(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans the gradient from (g, x), or returns None where NumPy has to do it."""
    return _plan(kernel.make_glu_input, inputs, outputs, inputs[1].shape, inputs[1], axis)


def _plan(
    make: Callable[[Any], Any],
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    shape: tuple[int, ...],
    x: Array,
    axis: int,
) -> Plan | None:
    if outputs is not None or x.dtype not in (np.float32, np.float64) or not is_plain(inputs, x.dtype):
        return None
    if not all(array.flags.c_contiguous for array in inputs):
        return None
    rows = math.prod(x.shape[:axis])
    return Plan(
        _kernel(make, x.dtype),
        inputs=len(inputs),
        outputs=[OutputSpec(shape, x.dtype)],
        arguments=block_words({kernel.WIDTH: x.size // (2 * rows)}, len(inputs) + 1),
        rows=rows,
        tasks=tasks_for(_ELEMENT_WORK * x.size, rows),
    )


@cache
def _kernel(make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    name = make.__name__.removeprefix("make_")
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
