"""Many small matrices of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.small_matrices`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.native import failure_address
from nbdl.kernels.cpu import small_matrices as cpu

__all__ = ["plan_inverse", "plan_lu", "plan_solve", "plan_solve_triangular"]

Array = NDArray[Any]

_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)


def plan_lu(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, label: str) -> Plan | None:
    """Plans the factors of (x,), or returns None where LAPACK has to do it: large ones, and errors."""
    (x,) = inputs
    if label or outputs is not None or not _is_supported(inputs) or not x.flags.c_contiguous:
        return None
    *batch, rows, columns = x.shape
    steps, matrices = min(rows, columns), math.prod(batch)
    name = f"lu_{x.dtype}"
    return Plan(
        compile_kernel(name, lambda: cpu.make_lu(x.dtype), name),
        inputs=1,
        outputs=[
            OutputSpec(x.shape, x.dtype),
            OutputSpec((*batch, steps), _INT32),
            OutputSpec(tuple(batch), _INT32),
            OutputSpec((*batch, rows), _INT64),
        ],
        arguments=[rows, columns],
        rows=matrices,
        tasks=tasks_for(matrices * steps * rows * (10.0 + columns), matrices),
    )


def plan_inverse(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, label: str) -> Plan | None:
    """Plans the inverse of (x,), or returns None where LAPACK has to do it."""
    (x,) = inputs
    return None if outputs is not None else _plan_systems(inputs, x.shape, label)


def plan_solve(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, label: str) -> Plan | None:
    """Plans the solutions of (a, b), or returns None where LAPACK has to do it."""
    a, b = inputs
    if outputs is not None or a.shape[:-2] != b.shape[:-2]:
        return None
    return _plan_systems(inputs, b.shape, label)


def _plan_systems(inputs: Sequence[Array], shape: tuple[int, ...], label: str) -> Plan | None:
    """A plan for results of a shape; with a label singular matrices are failures."""
    if not _is_supported(inputs) or not all(x.flags.c_contiguous for x in inputs):
        return None
    *batch, rows, columns = shape
    dtype, matrices, inverts = inputs[0].dtype, math.prod(batch), len(inputs) == 1
    name = f"{'inverse' if inverts else 'solve'}_{dtype}"
    return Plan(
        compile_kernel(name, lambda: cpu.make_solve(dtype, inverts), name),
        inputs=len(inputs),
        outputs=[OutputSpec(shape, dtype), OutputSpec(tuple(batch), _INT32)],
        arguments=[rows, columns, failure_address() if label else 0],
        rows=matrices,
        tasks=tasks_for(matrices * rows * rows * (10.0 + rows + columns), matrices),
    )


def plan_solve_triangular(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, upper: bool, unit: bool
) -> Plan | None:
    """Plans the solutions of (a, b), or returns None where BLAS has to do it."""
    a, b = inputs
    if outputs is not None or not _is_supported(inputs) or a.shape[:-2] != b.shape[:-2]:
        return None
    rows, columns = b.shape[-2:]
    is_transposed = not a.flags.c_contiguous
    if not b.flags.c_contiguous or (is_transposed and not a.swapaxes(-1, -2).flags.c_contiguous):
        return None
    strides = (1, rows) if is_transposed else (rows, 1)
    matrices = math.prod(b.shape[:-2])
    name = f"solve_triangular_{b.dtype}"
    return Plan(
        compile_kernel(name, lambda: cpu.make_solve_triangular(b.dtype), name),
        inputs=2,
        outputs=[OutputSpec(b.shape, b.dtype)],
        arguments=[rows, columns, *strides, int(upper), int(unit)],
        rows=matrices,
        tasks=tasks_for(matrices * rows * rows * (3.0 + columns), matrices),
    )


def _is_supported(arrays: Sequence[Array]) -> bool:
    dtype = arrays[0].dtype
    small = all(x.ndim > 1 and max(x.shape[-2:]) <= cpu.LARGEST for x in arrays)
    return small and dtype in (np.float32, np.float64) and is_plain(arrays, dtype)
