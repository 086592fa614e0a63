"""Sorting and searching of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.sorting`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.lines import Lines, line_kernel, line_plan, lines_along, output_strides, plain_dtype
from nbdl.backend.numba.loops import element_strides, tasks_for
from nbdl.backend.numba.stages import scratch_memory
from nbdl.kernels.cpu import lines as line_words
from nbdl.kernels.cpu import sorting as kernel

__all__ = ["plan_argsort", "plan_argtopk", "plan_searchsorted"]

Array = NDArray[Any]

_INT64 = np.dtype(np.int64)
_MAX_SCRATCH = 1 << 28  # bytes; what needs more is left to NumPy
_SORTING_WORK = 40.0  # of an element, in additions


def plan_argsort(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int, descending: bool
) -> Plan | None:
    """Plans the order of (x,) along an axis, or returns None where NumPy has to do it."""
    (x,) = inputs
    lines = _lines(x, outputs, axis, x.shape)
    return lines and _plan(x, lines, x.shape, axis, "argsort", kernel.make_argsort, int(descending))


def plan_argtopk(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, k: int, axis: int, largest: bool
) -> Plan | None:
    """Plans the places of the best k of (x,) along an axis, or returns None where NumPy has to do it."""
    (x,) = inputs
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    lines = _lines(x, outputs, axis, shape)
    return lines and _plan(x, lines, shape, axis, "argtopk", kernel.make_argtopk, int(largest))


def _lines(x: Array, outputs: Sequence[Array] | None, axis: int, shape: tuple[int, ...]) -> Lines | None:
    """The lines of x and of a result of ``shape``."""
    if plain_dtype(x.dtype) is None or x.ndim == 0 or not is_plain([x], x.dtype) or math.prod(shape) == 0:
        return None
    if outputs is not None and not is_plain(outputs, _INT64):
        return None
    strides = [element_strides(x, x.shape), output_strides(None if outputs is None else outputs[0], shape)]
    return lines_along(x.shape, axis, strides, may_run_across=False)


def _plan(
    x: Array, lines: Lines, shape: tuple[int, ...], axis: int, name: str, make: Any, flag: int
) -> Plan | None:
    dtype = plain_dtype(x.dtype)
    n = x.shape[axis]
    work = _SORTING_WORK * x.size
    per_task = -(-kernel.PAIR_BYTES * n // 64) * 64
    if per_task * tasks_for(work, lines.units) > _MAX_SCRATCH:
        return None
    scratch = scratch_memory(per_task * tasks_for(work, lines.units))
    words = {
        line_words.SIZE: shape[axis],
        line_words.FLAG: flag,
        line_words.SCRATCH: scratch.ctypes.data,
        line_words.SCRATCH_STRIDE: per_task,
    }
    return line_plan(
        line_kernel(f"{name}_{dtype}", False, lambda: make(dtype)),
        lines,
        inputs=1,
        outputs=[OutputSpec(shape, _INT64)],
        work=work,
        words=words,
        keep=scratch,
    )


def plan_searchsorted(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, right: bool
) -> Plan | None:
    """Plans the search of values in boundaries from (boundaries, values), or returns None: NumPy's."""
    boundaries, values = inputs
    dtype = boundaries.dtype
    if dtype not in (np.float32, np.float64, np.int32, np.int64) or values.ndim == 0:
        return None
    if not is_plain([boundaries, values], dtype) or (outputs is not None and not is_plain(outputs, _INT64)):
        return None
    n, shape = boundaries.shape[-1], values.shape
    out = None if outputs is None else outputs[0]
    own, found = element_strides(values, shape), output_strides(out, shape)
    if own is None or found is None:
        return None
    if boundaries.ndim == 1:  # every value is a line
        shared = [(boundaries.strides[0] // boundaries.itemsize, *own), (0, *own), (0, *found)]
        lines = lines_along((1, *shape), 0, shared)
    else:
        rows = [stride // boundaries.itemsize for stride in boundaries.strides]
        lines = lines_along(shape, values.ndim - 1, [tuple(rows), own, found], may_run_across=False)
    if lines is None or (boundaries.ndim == 1 and not lines.across):
        return None
    across = lines.across
    name = f"searchsorted_{'right' if right else 'left'}_{dtype}"
    return line_plan(
        line_kernel(name, across, lambda: kernel.make_searchsorted(dtype, right, across)),
        lines,
        inputs=2,
        outputs=[OutputSpec(shape, _INT64)],
        work=4.0 * values.size * math.log2(n + 1),
        words={line_words.SIZE: n},
    )
