"""Gathering and scattering of the Numba backend: plans for kernels that read and write at computed places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.lines import line_kernel, line_plan, lines_along, output_strides, plain_dtype
from nbdl.backend.numba.loops import Strides, element_strides, merge, tasks_for
from nbdl.backend.numba.native import failure_address
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import gathering, indexing
from nbdl.kernels.cpu import lines as line_words

__all__ = ["plan_gather", "plan_index", "plan_index_put", "plan_scatter"]

Array = NDArray[Any]

_INT64 = np.dtype(np.int64)
_ITEM_SIZES = (1, 2, 4, 8)
_LEAST_COLUMNS = 16  # that a task writes


# ---- Index tensors ----


class _Selection(NamedTuple):
    """What index tensors select, as a nest of outer axes of x, places, and inner axes of x.

    Attributes:
        shape: Of the selected part.
        words: Of the argument block.
        outer: Steps of the outer loops.
        places: How many.
        columns: Elements of the inner loop.
    """

    shape: tuple[int, ...]
    words: dict[int, int]
    outer: int
    places: int
    columns: int


def _selection(
    x: Array, indices: Sequence[Array], axes: tuple[int, ...], values: Array | None
) -> _Selection | None:
    """The loops over a selection; None if they are too many. ``values`` broadcast to what is selected."""
    if len(indices) > gathering.MAX_INDICES or not is_plain(indices, _INT64):
        return None
    indexed = np.broadcast_shapes(*[index.shape for index in indices])
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    together = axes[-1] - axes[0] == len(axes) - 1
    outer_axes = [axis for axis in rest if together and axis < axes[0]]
    inner_axes = rest[len(outer_axes) :]
    outer_shape, inner_shape = [x.shape[axis] for axis in outer_axes], [x.shape[axis] for axis in inner_axes]
    shape = (*outer_shape, *indexed, *inner_shape)
    x_strides = element_strides(x, x.shape)
    value_strides: Strides | None = (0,) * len(shape)
    if values is not None:
        value_strides = element_strides(values, shape)
    index_strides = [element_strides(index, indexed) for index in indices]
    if x_strides is None or value_strides is None or None in index_strides:
        return None
    first, last = len(outer_shape), len(outer_shape) + len(indexed)
    outer, _ = merge(outer_shape, [[x_strides[axis] for axis in outer_axes], value_strides[:first]])
    places, _ = merge(
        indexed, [value_strides[first:last], *[own for own in index_strides if own is not None]]
    )
    inner, _ = merge(inner_shape, [[x_strides[axis] for axis in inner_axes], value_strides[last:]])
    if len(outer.dims) > gathering.MAX_LOOPS or len(places.dims) > 1 or len(inner.dims) > 1:
        return None
    words = {
        gathering.COUNT: places.dims[0],
        gathering.COLUMNS: inner.dims[0],
        gathering.X_COLUMN: inner.strides[0][0],
        gathering.OUTER: len(outer.dims),
        gathering.FAILED: failure_address(),
        gathering.VALUES_PLACE: places.strides[0][0],
        gathering.VALUES_COLUMN: inner.strides[1][0],
    }
    for k, axis in enumerate(axes):
        words[gathering.INDEX_STRIDES + k] = places.strides[1 + k][0]
        words[gathering.INDEX_SIZES + k] = x.shape[axis]
        words[gathering.INDEX_STEPS + k] = x_strides[axis]
    words |= dict(enumerate(outer.dims, gathering.OUTER_LENGTHS))
    words |= dict(enumerate(outer.strides[0], gathering.X_OUTER))
    words |= dict(enumerate(outer.strides[1], gathering.VALUES_OUTER))
    return _Selection(shape, words, math.prod(outer.dims), places.dims[0], inner.dims[0])


def plan_index(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axes: tuple[int, ...]
) -> Plan | None:
    """Plans x at index tensors from (x, *indices), or returns None where NumPy has to do it."""
    x, *indices = inputs
    if x.itemsize not in _ITEM_SIZES or not is_plain([x], x.dtype):
        return None
    chosen = _selection(x, indices, axes, None)
    if chosen is None or (outputs is not None and not _is_contiguous(outputs[0], x.dtype)):
        return None
    name = f"select_{x.itemsize}_{len(indices)}"
    units = chosen.outer * chosen.places
    return Plan(
        compile_kernel(name, lambda: gathering.make_select(x.itemsize, len(indices)), name),
        inputs=len(inputs),
        outputs=[OutputSpec(chosen.shape, x.dtype)],
        arguments=block_words(chosen.words, len(inputs) + 1),
        rows=units,
        tasks=tasks_for(units * (4 + chosen.columns), units),
    )


def _is_contiguous(out: Array, dtype: np.dtype[Any]) -> bool:
    return is_plain([out], dtype) and out.flags.c_contiguous


def plan_index_put(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axes: tuple[int, ...], accumulate: bool
) -> Plan | None:
    """Plans writing, or adding, in place from (x, values, *indices); None where NumPy has to do it."""
    x, values, *indices = inputs
    dtype = plain_dtype(x.dtype)
    if outputs is None or outputs[0] is not x or dtype is None or not is_plain([x, values], x.dtype):
        return None
    if x.dtype == bool and accumulate:
        return None
    chosen = _selection(x, indices, axes, values)
    if chosen is None:
        return None
    kind = "add" if accumulate else "set"
    name = f"put_{kind}_{dtype}_{len(indices)}"
    # Every task reads all indices, so there are no more blocks than tasks
    work = chosen.outer * chosen.places * (4 + chosen.columns)
    tasks = tasks_for(work, chosen.outer * -(-chosen.columns // _LEAST_COLUMNS))
    block = max(_LEAST_COLUMNS, -(-chosen.columns // max(1, tasks // chosen.outer)))
    units = chosen.outer * -(-chosen.columns // block)
    return Plan(
        compile_kernel(name, lambda: indexing.make_put(kind, dtype, len(indices)), name),
        inputs=len(inputs),
        outputs=[OutputSpec(x.shape, x.dtype)],
        arguments=block_words(chosen.words | {gathering.BLOCK: block}, len(inputs) + 1),
        rows=units,
        tasks=tasks,
    )


# ---- An index for every element ----


def plan_gather(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans result[i, j] = x[i, index[i, j]] from (x, index), or returns None where NumPy has to do it."""
    x, index = inputs
    if x.itemsize not in _ITEM_SIZES or not is_plain([x], x.dtype) or not is_plain([index], _INT64):
        return None
    if x.ndim == 0 or (outputs is not None and not is_plain(outputs, x.dtype)):
        return None
    out = None if outputs is None else outputs[0]
    strides = [element_strides(x, x.shape), element_strides(index, index.shape)]
    lines = lines_along(index.shape, axis, [*strides, output_strides(out, index.shape)])
    if lines is None:
        return None
    across = lines.across
    address = line_kernel(f"gather_{x.itemsize}", across, lambda: gathering.make_gather(x.itemsize, across))
    return line_plan(
        address,
        lines,
        inputs=2,
        outputs=[OutputSpec(index.shape, x.dtype)],
        work=2.0 * index.size,
        words={line_words.SIZE: x.shape[axis], line_words.FAILURE: failure_address()},
    )


def plan_scatter(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int, kind: str
) -> Plan | None:
    """Plans combining in place from (x, index, source), or returns None where NumPy has to do it."""
    x, index, source = inputs
    dtype = plain_dtype(x.dtype)
    if outputs is None or outputs[0] is not x or dtype is None or not is_plain([x, source], x.dtype):
        return None
    if x.ndim == 0 or not is_plain([index], _INT64) or (x.dtype == bool and kind in ("add", "prod")):
        return None
    window = source[tuple([slice(n) for n in index.shape])] if source.ndim else source
    strides = [element_strides(array, index.shape) for array in (index, window)]
    lines = lines_along(index.shape, axis, [element_strides(x, x.shape), *strides])
    if lines is None:
        return None
    across = lines.across
    address = line_kernel(
        f"scatter_{kind}_{dtype}", across, lambda: indexing.make_scatter(kind, dtype, across)
    )
    return line_plan(
        address,
        lines,
        inputs=3,
        outputs=[OutputSpec(x.shape, x.dtype)],
        work=3.0 * index.size,
        words={line_words.SIZE: x.shape[axis], line_words.FAILURE: failure_address()},
    )
