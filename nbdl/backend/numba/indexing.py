"""Scattering of the Numba backend: plans for the kernel of `nbdl.kernels.cpu.indexing`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import element_strides, merge, row_major, tasks_for
from nbdl.kernels.cpu import indexing as kernel

__all__ = ["plan_index_put"]

Array = NDArray[Any]

_INDEX, _ROW = 0, 1  # groups of axes


def plan_index_put(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axes: tuple[int, ...], accumulate: bool
) -> Plan | None:
    """Plans adding to rows of x in place from (x, values, index); None where NumPy has to do it."""
    x, values, *indices = inputs
    if outputs is None or outputs[0] is not x or axes != (0,) or not accumulate:
        return None
    (index,) = indices
    if x.dtype not in (np.float32, np.float64) or not is_plain([x, values], x.dtype):
        return None
    if not is_plain([index], np.dtype(np.int64)) or not index.flags.c_contiguous:
        return None
    row = x.shape[1:]
    x_row, *x_columns = element_strides(x, x.shape) or ()
    if any(step != own for step, own, n in zip(x_columns, row_major(row), row, strict=True) if n > 1):
        return None
    selected = (*index.shape, *row)
    groups = (_INDEX,) * index.ndim + (_ROW,) * len(row)
    nest, found = merge(selected, [element_strides(values, selected) or ()], groups)
    if len(set(found)) < len(found):
        return None  # several loops over the indices, or over a row
    strides = dict(zip(found, nest.strides[0], strict=True))
    columns = math.prod(row)
    words = {
        kernel.ROWS: x.shape[0],
        kernel.COLUMNS: columns,
        kernel.X_ROW: x_row,
        kernel.COUNT: index.size,
        kernel.VALUES_ROW: strides.get(_INDEX, 0),
        kernel.VALUES_COLUMN: strides.get(_ROW, 1),
    }
    blocks = -(-columns // kernel.BLOCK)
    name = f"add_rows_{x.dtype}"
    return Plan(
        compile_kernel(name, lambda: kernel.make_add_rows(x.dtype), name),
        inputs=3,
        outputs=[OutputSpec(x.shape, x.dtype)],
        arguments=[words[k] for k in sorted(words)],
        rows=blocks,
        tasks=tasks_for(index.size * columns, blocks),
    )
