"""Normalisation of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.normalization`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import memory_order, merge, tasks_for
from nbdl.backend.numba.stages import Stage, scratch_memory, staged_plan
from nbdl.backend.numpy.normalization import spread_out
from nbdl.kernels.cpu import normalization as kernel

__all__ = ["plan_normalize", "plan_normalize_input"]

Array = NDArray[Any]

_KEPT, _REDUCED = 0, 1
_ELEMENT_WORK = 4.0  # of an element, in additions
_LINE = 64  # bytes of a cache line, which two tasks should not write to


class _Layout(NamedTuple):
    """How x is walked, see `nbdl.kernels.cpu.normalization`.

    Attributes:
        by_columns: as a matrix whose rows are reduced; else as lines.
        means: number of means.
        rows: of the matrix; lines behind one mean.
        columns: of the matrix; elements of a line.
        line_stride: from line to line of one mean.
        mean_stride: from mean to mean.
        axes: how results like x are allocated (`OutputSpec.axes`).
    """

    by_columns: bool
    means: int
    rows: int
    columns: int
    line_stride: int
    mean_stride: int
    axes: tuple[int, ...] | None


def plan_normalize(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    axes: tuple[int, ...],
    eps: float,
    centred: bool,
    has_weight: bool,
    by_channel: bool = False,
    groups: int = 0,
) -> Plan | None:
    """Plans the normalisation of (x, weight?, bias?), or returns None where NumPy has to do it."""
    found = None if outputs is not None else _arrange(inputs[0], inputs[1:], axes, by_channel, groups)
    if found is None or (found.layout.by_columns and not centred):
        return None
    x, layout, runs = inputs[0], found.layout, found.runs
    if runs == kernel.ALONG and not has_weight:
        return None
    specs = [OutputSpec(x.shape, x.dtype, layout.axes)]
    specs += [OutputSpec(found.statistics, x.dtype)] * (1 + centred)
    places = {kernel.X: 0}
    if has_weight:
        places[kernel.WEIGHT] = 1
    if len(inputs) > 1 + has_weight:
        places[kernel.BIAS] = len(inputs) - 1
    places[kernel.RESULT] = len(inputs)
    if centred:
        places[kernel.MEAN] = len(inputs) + 1
    places[kernel.VARIANCE] = len(inputs) + len(specs) - 1
    if layout.by_columns:
        makers = (kernel.make_column_sums, kernel.make_column_statistics, kernel.make_column_result)
        return _plan_columns(makers, x, len(inputs), specs, places, layout, eps)
    tasks = tasks_for(_ELEMENT_WORK * x.size, layout.means)
    words = _words(places, layout, eps) | {kernel.WEIGHT_RUNS: runs, kernel.PERIOD: max(groups, 1)}
    stages = [Stage(_kernel(kernel.make_line_result, x.dtype), layout.means, tasks)]
    return staged_plan(stages, inputs=len(inputs), outputs=specs, words=words)


def plan_normalize_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    axes: tuple[int, ...],
    eps: float,
    centred: bool,
    has_weight: bool,
    by_channel: bool = False,
    groups: int = 0,
) -> Plan | None:
    """Plans the gradient from (g, x, weight?, mean?, variance), or returns None where NumPy has to do it."""
    g, x, *rest = inputs
    affine = rest[:has_weight]
    found = None if outputs is not None else _arrange(x, affine, axes, by_channel, groups)
    if (
        found is None
        or not _same_strides(g, x)
        or not _is_supported(inputs)
        or not _are_vectors(rest)
        or (found.layout.by_columns and not centred)
    ):
        return None
    layout, runs = found.layout, found.runs
    specs = [OutputSpec(x.shape, x.dtype, layout.axes)]
    specs += [OutputSpec(weight.shape, x.dtype) for weight in affine for _ in range(2)]
    places = {kernel.G: 0, kernel.X: 1, kernel.VARIANCE: len(inputs) - 1, kernel.GX: len(inputs)}
    if has_weight:
        places |= {kernel.WEIGHT: 2, kernel.GW: len(inputs) + 1, kernel.GB: len(inputs) + 2}
    if centred:
        places[kernel.MEAN] = len(inputs) - 2
    if layout.by_columns:
        makers = (
            kernel.make_column_gradient_sums,
            kernel.make_column_gradient_coefficients,
            kernel.make_column_gradient,
        )
        return _as_tuple(_plan_columns(makers, x, len(inputs), specs, places, layout, eps))
    tasks = tasks_for(_ELEMENT_WORK * x.size, layout.means)
    words = _words(places, layout, eps) | {kernel.WEIGHT_RUNS: runs, kernel.PERIOD: max(groups, 1)}
    stages = [Stage(_kernel(kernel.make_line_gradient, x.dtype), layout.means, tasks)]
    scratch = None
    if runs != kernel.BY_MEAN:
        shared = affine[0].size
        scratch = scratch_memory(tasks * shared * 16)
        words |= {kernel.SUMS: scratch.ctypes.data, kernel.TASKS: tasks, kernel.WEIGHTS: shared}
        stages.append(Stage(_kernel(kernel.make_weight_gradient, x.dtype), shared, 1))
    return _as_tuple(staged_plan(stages, inputs=len(inputs), outputs=specs, words=words, keep=scratch))


def _as_tuple(plan: Plan) -> Plan:
    """The plan, whose result is a tuple even if there is only one."""
    if len(plan.outputs) == 1:
        allocate = plan.allocate
        plan.allocate_by(lambda: (allocate(),))
    return plan


def _plan_columns(
    makers: Sequence[Callable[[Any], Callable[..., Any]]],
    x: Array,
    inputs: int,
    specs: Sequence[OutputSpec],
    places: dict[int, int],
    layout: _Layout,
    eps: float,
) -> Plan:
    """Sums by task, coefficients by column, the result by row."""
    tasks = tasks_for(_ELEMENT_WORK * x.size, layout.rows)
    sums_bytes = tasks * layout.columns * 16
    coefficients = -(-sums_bytes // _LINE) * _LINE
    scratch = scratch_memory(coefficients + 3 * layout.columns * x.itemsize)
    words = _words(places, layout, eps)
    words |= {
        kernel.SUMS: scratch.ctypes.data,
        kernel.TASKS: tasks,
        kernel.COEFFICIENTS: scratch.ctypes.data + coefficients,
    }
    splits = ((layout.rows, tasks), (layout.columns, 1), (layout.rows, tasks))
    stages = [Stage(_kernel(make, x.dtype), *split) for make, split in zip(makers, splits, strict=True)]
    return staged_plan(stages, inputs=inputs, outputs=specs, words=words, keep=scratch)


def _words(places: dict[int, int], layout: _Layout, eps: float) -> dict[int, int]:
    absent = dict.fromkeys(range(kernel.X, kernel.GB + 1), -1)
    return (
        absent
        | places
        | {
            kernel.EPS: int(np.float64(eps).view(np.int64)),
            kernel.ROWS: layout.rows,
            kernel.COLUMNS: layout.columns,
            kernel.LINE_STRIDE: layout.line_stride,
            kernel.MEAN_STRIDE: layout.mean_stride,
            kernel.WEIGHTS: 0,
            kernel.SUMS: 0,
        }
    )


# ---- Layouts ----


def _is_supported(arrays: Sequence[Array]) -> bool:
    dtype = arrays[0].dtype
    return dtype in (np.float32, np.float64) and is_plain(arrays, dtype)


class _Arrangement(NamedTuple):
    """How operand, weight and bias lie.

    Attributes:
        layout: of the operand.
        runs: where weight and bias run to, see `nbdl.kernels.cpu.normalization`.
        statistics: shape of mean and variance.
    """

    layout: _Layout
    runs: int
    statistics: tuple[int, ...]


def _arrange(
    x: Array, affine: Sequence[Array], axes: tuple[int, ...], by_channel: bool, groups: int
) -> _Arrangement | None:
    """The arrangement of x and its vectors, or None if no kernel takes it."""
    if not _is_supported([x, *affine]) or not _are_vectors(affine):
        return None
    wide, vectors, averaged = spread_out(x, affine, axes, by_channel, groups)
    statistics = tuple(1 if axis in averaged else n for axis, n in enumerate(wide.shape))
    if groups:
        if not x.size or not x.flags.c_contiguous:
            return None
        samples, _, lines, columns = wide.shape
        layout = _Layout(False, samples * groups, lines, columns, columns, lines * columns, None)
        return _Arrangement(layout, kernel.BY_LINE if affine else kernel.BY_MEAN, statistics)
    found = _layout(wide, averaged)
    if found is None or not _is_dense(wide, found):
        return None
    runs = _runs([vector.shape for vector in vectors], wide.shape, averaged, found)
    return None if runs is None else _Arrangement(found, runs, statistics)


def _layout(x: Array, axes: tuple[int, ...]) -> _Layout | None:
    """The layout of x, or None if its axes lie otherwise in memory."""
    strides = tuple(stride // x.itemsize for stride in x.strides)
    order = memory_order(x.shape, [strides])
    kept = [axis for axis in order if axis not in axes and x.shape[axis] > 1]
    reduced = [axis for axis in order if axis in axes and x.shape[axis] > 1]
    if kept != sorted(kept) or reduced != sorted(reduced):
        return None
    groups = [_REDUCED if axis in axes else _KEPT for axis in order]
    nest, found = merge([x.shape[axis] for axis in order], [[strides[axis] for axis in order]], groups)
    (steps,) = nest.strides
    spec_axes = None if order == tuple(range(x.ndim)) else tuple(int(axis) for axis in np.argsort(order))
    if steps[-1] not in (0, 1):
        return None
    dims = nest.dims
    if found == (_REDUCED, _KEPT) and steps[0] == dims[1]:
        return _Layout(True, dims[1], dims[0], dims[1], 0, 0, spec_axes)
    if found == (_REDUCED,):
        return _Layout(False, 1, 1, dims[0], 0, 0, spec_axes)
    if found == (_KEPT, _REDUCED):
        return _Layout(False, dims[0], 1, dims[1], 0, steps[0], spec_axes)
    if found == (_REDUCED, _KEPT, _REDUCED):
        return _Layout(False, dims[1], dims[0], dims[2], steps[0], steps[1], spec_axes)
    return None


def _is_dense(x: Array, layout: _Layout) -> bool:
    """Whether a result allocated in the order of x has its strides."""
    memory = x if layout.axes is None else x.transpose(np.argsort(layout.axes))
    return bool(memory.flags.c_contiguous)


def _same_strides(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape lie alike in memory."""
    return a.shape == b.shape and all(
        s == t or n == 1 for s, t, n in zip(a.strides, b.strides, a.shape, strict=True)
    )


def _are_vectors(arrays: Sequence[Array]) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def _runs(
    shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...], axes: tuple[int, ...], layout: _Layout
) -> int | None:
    """Whether weight and bias run from mean to mean or along the line; None if neither."""
    by_mean = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    by_element = tuple(n if axis in axes else 1 for axis, n in enumerate(shape))
    if all(own == by_mean for own in shapes):
        return kernel.BY_MEAN
    if all(own == by_element for own in shapes) and not layout.by_columns and layout.rows == 1:
        return kernel.ALONG
    return None


@cache
def _kernel(make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    name = make.__name__.removeprefix("make_")
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
