"""Pooling by positions of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.window_places`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain, three_axes
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.native import failure_address
from nbdl.backend.windows import Sizes
from nbdl.kernels.cpu import window_places as cpu

__all__ = ["plan_fractional_max_pool", "plan_window_gather", "plan_window_put"]

Array = NDArray[Any]

_INT64 = np.dtype(np.int64)
_ITEM_SIZES = (1, 2, 4, 8)


def plan_window_gather(inputs: Sequence[Array], outputs: Sequence[Array] | None) -> Plan | None:
    """Plans the elements of (x, positions), or returns None where NumPy has to do it."""
    x, positions = inputs
    if outputs is not None or not _is_supported(x, positions):
        return None
    name = f"window_gather_{x.itemsize}"
    address = compile_kernel(name, lambda: cpu.make_window_gather(x.itemsize), name)
    return _plan(address, inputs, OutputSpec(positions.shape, x.dtype), x.shape[2:])


def plan_window_put(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, size: Sizes) -> Plan | None:
    """Plans the zeros with (y, positions) in them, or returns None where NumPy has to do it."""
    y, positions = inputs
    if outputs is not None or 0 in size or not _is_supported(y, positions):
        return None
    name = f"window_put_{y.itemsize}"
    address = compile_kernel(name, lambda: cpu.make_window_put(y.itemsize), name)
    return _plan(address, inputs, OutputSpec((*y.shape[:2], *size), y.dtype), size)


def plan_fractional_max_pool(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, kernel: Sizes, counts: Sizes
) -> Plan | None:
    """Plans the maxima of (x, samples), or returns None where NumPy has to do it."""
    x, samples = inputs
    if outputs is not None or x.dtype not in (np.float32, np.float64) or not is_plain(inputs, x.dtype):
        return None
    if not (x.flags.c_contiguous and samples.flags.c_contiguous):
        return None
    rank = len(counts)
    columns = range(rank - 1, -1, -1) if rank == 2 else range(rank)
    words = [*three_axes(x.shape[2:], 1), *three_axes(kernel, 1), *three_axes(counts, 1)]
    words += [*three_axes(tuple(columns), 0), rank]
    shape = (*x.shape[:2], *counts)
    planes = math.prod(x.shape[:2])
    name = f"fractional_max_pool_{x.dtype}"
    return Plan(
        compile_kernel(name, lambda: cpu.make_fractional_max_pool(x.dtype), name),
        inputs=2,
        outputs=[OutputSpec(shape, x.dtype), OutputSpec(shape, _INT64)],
        arguments=words,
        rows=planes,
        tasks=tasks_for(math.prod(shape) * (10.0 + 4.0 * math.prod(kernel)), planes),
    )


def _is_supported(values: Array, positions: Array) -> bool:
    plain = is_plain([values], values.dtype) and is_plain([positions], _INT64)
    contiguous = values.flags.c_contiguous and positions.flags.c_contiguous
    return values.dtype.itemsize in _ITEM_SIZES and plain and contiguous


def _plan(address: int, inputs: Sequence[Array], output: OutputSpec, size: Sizes) -> Plan:
    """A plan over planes of ``size``."""
    positions = inputs[1]
    planes, plane = math.prod(positions.shape[:2]), math.prod(size)
    return Plan(
        address,
        inputs=2,
        outputs=[output],
        arguments=[plane, positions.size // planes, failure_address()],
        rows=planes,
        tasks=tasks_for(3.0 * positions.size + math.prod(output.shape), planes),
    )
