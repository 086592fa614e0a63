"""Copies of the Numba backend: transposes by a kernel of their own, all else as a pointwise loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from numpy.typing import NDArray

from nbdl.backend.numba import pool
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.loops import element_strides, memory_order, merge, row_major, tasks_for
from nbdl.backend.numba.pointwise import plan_pointwise
from nbdl.formula import Formula
from nbdl.kernels.cpu import copying as kernel

__all__ = ["plan_copy"]

Array = NDArray[Any]

_IDENTITY = Formula("copy", lambda x: x, 1)
_BLOCK_BYTES = 32 * 1024  # of a transposed block, in the first-level cache


def plan_copy(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, order: str) -> Plan | None:
    """Plans the copy of (x,), or returns None where NumPy has to do it.

    Args:
        inputs: the operand.
        outputs: where to copy to, or None to allocate.
        order: ``C`` for a row-major result, ``K`` for the layout of the operand.
    """
    (x,) = inputs
    strides = element_strides(x, x.shape)
    if strides is None or not x.flags.aligned or not x.dtype.isnative:
        return None
    natural = tuple(range(x.ndim))
    if outputs is not None or order == "K" or memory_order(x.shape, [strides]) == natural:
        return plan_pointwise(inputs, outputs, formula=_IDENTITY, weak=0)
    if x.itemsize not in (4, 8) or x.size == 0:
        return None
    nest, _ = merge(x.shape, [strides, row_major(x.shape)])
    x_strides, y_strides = nest.strides
    if len(nest.dims) < 2 or len(nest.dims) > kernel.MAX_OUTER + 2:
        return None
    column_axis = len(nest.dims) - 1
    row_axis = x_strides.index(1) if 1 in x_strides[:-1] else column_axis - 1
    rows, columns = nest.dims[row_axis], nest.dims[column_axis]
    lanes = 64 // x.itemsize
    block = max(lanes, min(-(-rows // lanes), _BLOCK_BYTES // (x.itemsize * columns * lanes)) * lanes)
    outer = [axis for axis in range(column_axis) if axis != row_axis]
    words = {
        kernel.COLUMNS: columns,
        kernel.ROWS: rows,
        kernel.X_ROW: x_strides[row_axis],
        kernel.X_COLUMN: x_strides[column_axis],
        kernel.Y_ROW: y_strides[row_axis],
        kernel.BLOCK: block,
        kernel.OUTER: len(outer),
    }
    for k, axis in enumerate(outer):
        words[kernel.DIMS + k] = nest.dims[axis]
        words[kernel.DIMS + kernel.MAX_OUTER + k] = x_strides[axis]
        words[kernel.DIMS + 2 * kernel.MAX_OUTER + k] = y_strides[axis]
    units = math.prod(nest.dims[axis] for axis in outer) * -(-rows // block)
    return Plan(
        _kernel(x.itemsize),
        inputs=1,
        outputs=[OutputSpec(x.shape, x.dtype)],
        arguments=[words.get(k, 0) for k in range(kernel.COLUMNS, kernel.DIMS + 3 * kernel.MAX_OUTER)],
        rows=units,
        tasks=tasks_for(x.size, units),
    )


def plan_rearrange(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    split: tuple[int, ...],
    axes: tuple[int, ...],
    shape: tuple[int, ...],
) -> Plan | None:
    """Plans the copy of (x,) with its axes rearranged, or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None:
        return None
    plan = plan_copy((x.reshape(split).transpose(axes),), None, order="C")  # splitting axes never copies
    if plan is not None:
        plan.outputs = (OutputSpec(shape, x.dtype),)
        plan.allocate_by(pool.allocator(shape, x.dtype))
    return plan


@cache
def _kernel(itemsize: int) -> int:
    return compile_kernel(f"copy_{itemsize}", lambda: kernel.make_copy(itemsize), f"copy {itemsize}")
