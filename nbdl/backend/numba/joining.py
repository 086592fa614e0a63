"""Joining and padding of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.joining`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import element_strides, memory_order, merge, tasks_for
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import joining as kernel

if TYPE_CHECKING:
    from nbdl.ops.primitive import View

__all__ = ["plan_concatenate", "plan_pad", "plan_view_scatter"]

Array = NDArray[Any]

_ITEM_SIZES = (1, 2, 4, 8)
_MAX_INPUTS = 8  # arrays that are joined by one kernel
_CHUNK_BYTES = 1 << 16


def _is_supported(arrays: Sequence[Array], outputs: Sequence[Array] | None) -> bool:
    dtype = arrays[0].dtype
    if dtype.itemsize not in _ITEM_SIZES or not is_plain(arrays, dtype):
        return False
    return outputs is None or (is_plain(outputs, dtype) and outputs[0].flags.c_contiguous)


def plan_concatenate(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans joining arrays along an axis, or returns None where NumPy has to do it."""
    if len(inputs) > _MAX_INPUTS or not _is_supported(inputs, outputs):
        return None
    lengths, steps = [], []
    rows = math.prod(inputs[0].shape[:axis])
    for x in inputs:
        strides = element_strides(x, x.shape) or ()
        inner, _ = merge(x.shape[axis:], [strides[axis:]])
        outer, _ = merge(x.shape[:axis], [strides[:axis]])
        if (
            len(outer.dims) > 1
            or len(inner.dims) > 1
            or inner.strides[0][0] not in ((0, 1) if x.size == rows else (1,))
        ):
            return None
        lengths.append(inner.dims[0])
        steps.append(outer.strides[0][0])
    length = sum(lengths)
    itemsize = inputs[0].itemsize
    spec = OutputSpec(
        (*inputs[0].shape[:axis], sum(x.shape[axis] for x in inputs), *inputs[0].shape[axis + 1 :]),
        inputs[0].dtype,
    )
    if length == len(inputs):
        name = f"interleave_{itemsize}_{len(inputs)}"
        return Plan(
            compile_kernel(name, lambda: kernel.make_interleave(itemsize, len(inputs)), name),
            inputs=len(inputs),
            outputs=[spec],
            arguments=steps,
            rows=rows,
            tasks=tasks_for(rows * length, rows),
        )
    chunk = min(length, _CHUNK_BYTES // itemsize)
    chunks = -(-length // chunk)
    arguments = [chunks, length, chunk]
    begin = 0
    for own, step in zip(lengths, steps, strict=True):
        arguments += [begin, step]
        begin += own
    name = f"concatenate_{itemsize}_{len(inputs)}"
    return Plan(
        compile_kernel(name, lambda: kernel.make_concatenate(itemsize, len(inputs)), name),
        inputs=len(inputs),
        outputs=[spec],
        arguments=arguments,
        rows=rows * chunks,
        tasks=tasks_for(rows * length, rows * chunks),
    )


class _Axis(NamedTuple):
    """An axis of a padded array.

    Attributes:
        length: Of the result.
        before: What lies before the operand.
        size: Of the operand.
        stride: Of the operand, in elements.
    """

    length: int
    before: int
    size: int
    stride: int


def plan_pad(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    widths: tuple[tuple[int, int], ...],
    value: bool | int | float,
) -> Plan | None:
    """Plans a frame around (x,), or returns None where NumPy has to do it."""
    (x,) = inputs
    if not _is_supported(inputs, outputs):
        return None
    strides = element_strides(x, x.shape) or ()
    order = memory_order(x.shape, [strides])
    axes = [
        _Axis(widths[k][0] + x.shape[k] + widths[k][1], widths[k][0], x.shape[k], strides[k]) for k in order
    ]
    natural = order == tuple(range(x.ndim))
    if outputs is not None and not natural:
        return None
    shape = tuple([before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)])
    layout = None if natural else tuple(int(axis) for axis in np.argsort(order))
    return _pad_plan(x, axes, OutputSpec(shape, x.dtype, layout), value)


def plan_view_scatter(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    views: tuple[View, ...],
    shape: tuple[int, ...],
) -> Plan | None:
    """Plans (x,) as a window of zeros, or returns None where NumPy has to do it: windows that have steps."""
    (x,) = inputs
    strides = element_strides(x, x.shape) if x.ndim else ()
    if strides is None or not _is_supported(inputs, outputs) or math.prod(shape) == 0:
        return None
    if x.ndim == len(shape) and memory_order(x.shape, [strides]) != tuple(range(x.ndim)):
        return None  # the result would have the layout of x
    axes = _window_axes(x, strides, views, shape)
    return None if axes is None else _pad_plan(x, axes, OutputSpec(shape, x.dtype), 0)


def _window_axes(
    x: Array, strides: Sequence[int], views: tuple[View, ...], shape: tuple[int, ...]
) -> list[_Axis] | None:
    """Where in an array of ``shape`` the window is; None if it is no box of neighbouring elements."""
    whole = np.empty(shape, x.dtype)  # never touched: it only tells where views lead
    window = whole
    for view in views:
        window = view.view(window)
    if window.shape != x.shape:
        return None
    start = (window.ctypes.data - whole.ctypes.data) // x.itemsize
    lines = {window.strides[k]: k for k in range(window.ndim) if window.shape[k] > 1}
    axes = []
    for n, stride in zip(shape, whole.strides, strict=True):
        step = stride // x.itemsize
        before, start = divmod(start, step)
        k = lines.pop(stride, None) if n > 1 else None
        axes.append(_Axis(n, before, 1, 0) if k is None else _Axis(n, before, x.shape[k], strides[k]))
    return None if lines else axes


def _pad_plan(x: Array, axes: Sequence[_Axis], spec: OutputSpec, value: bool | int | float) -> Plan | None:
    merged: list[_Axis] = []
    for axis in axes:
        last = merged[-1] if merged else None
        if last and axis.size == axis.length and last.stride == axis.stride * axis.size:
            n = axis.length
            merged[-1] = _Axis(last.length * n, last.before * n, last.size * n, axis.stride)
        elif last and last.length == 1:
            merged[-1] = axis
        else:
            merged.append(axis)
    *outer, line = merged or [_Axis(1, 0, 1, 1)]
    if len(outer) > kernel.MAX_AXES:
        return None
    words = {
        kernel.VALUE: int(np.array(value, x.dtype).view(f"u{x.itemsize}").astype(np.uint64).view(np.int64)),
        kernel.AXES: len(outer),
        kernel.WIDTH: line.length,
        kernel.BEFORE: line.before,
        kernel.COLUMNS: line.size,
        kernel.X_COLUMN: line.stride,
    }
    for k, axis in enumerate(outer):
        words |= dict(
            zip(range(kernel.LENGTHS + k, kernel.LENGTHS + 4 * kernel.MAX_AXES, kernel.MAX_AXES), axis)
        )
    lines = math.prod(axis.length for axis in outer)
    name = f"pad_{x.itemsize}"
    return Plan(
        compile_kernel(name, lambda: kernel.make_pad(x.itemsize), name),
        inputs=1,
        outputs=[spec],
        arguments=block_words(words, 2),
        rows=lines,
        tasks=tasks_for(lines * line.length, lines),
    )
