"""Scans as CUDA kernels: a block a line, tile by tile, by Hillis and Steele's method in shared memory.

A linear recurrence is walked by a thread a line where there are many, else by several lanes a line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.codegen import Operand, c_type
from nbdl.backend.cupy.files import kernel_of, of_real_numbers, types_of
from nbdl.backend.cupy.launch import THREADS, Kernels, Launch, index_type, power_of_two
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.reduction import COMBINE, IDENTITY
from nbdl.backend.loops import row_major
from nbdl.backend.numpy.results import delivered
from nbdl.formula.dtypes import arithmetic_dtype

# Lines of which there are so many that each is walked by one thread, and steps that a lane has at least.
_MANY_LINES = 1 << 13
_STEPS_OF_A_LANE = 8


class CupyScanning:
    """See :class:`~nbdl.backend.numpy.scanning.Scanning`."""

    xp: Any
    _kernels: Kernels

    @of_real_numbers
    def linear_scan(self, a: Any, b: Any, *, axis: int, reverse: bool = False, out: Any = None) -> Any:
        """The recurrence y[t] = a[t] * y[t-1] + b[t], y[0] = b[0]."""
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError("factors and terms need one shape and dtype")
        result = target(self.xp, out, a.shape, a.dtype, a, b)
        n, inner = a.shape[axis], math.prod(a.shape[axis + 1 :])
        if result.size:
            rows = result.size // n
            kernel = kernel_of(
                self._kernels, "nbdl_linear_scan", "scans.cu", types_of(a.dtype), (a.dtype,),
                parts=("rows.cuh",), flags={"NBDL_ACROSS": int(inner > 1)},
            )  # fmt: skip
            block, grid = lanes_of_scan(rows, n, inner)
            operands = self.xp.ascontiguousarray(a), self.xp.ascontiguousarray(b), result
            sizes = *map(np.int64, (rows, n, inner)), np.int32(reverse)
            kernel(grid, block, (*operands, *sizes))
        return delivered(result, out)


def lanes_of_scan(rows: int, n: int, inner: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(numbers of threads, numbers of blocks) for rows whose lanes have neighbouring steps."""
    neighbours = min(32, power_of_two(inner))
    lanes = 1 if rows >= _MANY_LINES else power_of_two(-(-n // _STEPS_OF_A_LANE))
    lanes = min(THREADS // neighbours, lanes)
    slots = min(THREADS // lanes, power_of_two(rows))
    return (lanes, slots) if inner == 1 else (slots, lanes), (-(-rows // slots),)


def plan_scan(
    kernels: Kernels,
    shape: tuple[int, ...],
    source: np.dtype,
    target: np.dtype,
    kind: str,
    axis: int,
    reverse: bool,
) -> Launch:
    """A scan along ``axis`` of a row-major array into another one.

    Args:
        kernels: makes the kernel.
        shape: of both arrays, without an axis of length 0.
        source: dtype of the operand.
        target: dtype of the result.
        kind: ``sum``, ``prod``, ``max``, ``min`` or ``logsumexp``.
        axis: the axis, not negative.
        reverse: from its end.
    """
    length, step = shape[axis], row_major(shape)[axis]
    lines = int(np.prod(shape, dtype=np.int64)) // length
    index = index_type(shape, [row_major(shape)])
    name = f"nbdl_scan_{kind}"
    text = kernel_source(name, kind, (Operand("x0", source), Operand("y0", target)), reverse, index)
    kernel = kernels.get(name, text, codegen.headers([source, target]))
    arguments = tuple(index(size) for size in (length, step))
    return Launch(kernel, (lines,), (min(THREADS, power_of_two(length)),), arguments)


def kernel_source(name: str, kind: str, operands: Sequence[Operand], reverse: bool, index: type) -> str:
    """The CUDA C source of a scan: block i scans line i of ``length`` elements ``step`` apart.

    Args:
        name: of the kernel.
        kind: a key of ``reduction.COMBINE``.
        operands: the operand and the result.
        reverse: from the end.
        index: type of the indices.
    """
    source, target = operands
    total = arithmetic_dtype(target.dtype)
    neutral, combined = COMBINE[kind]
    position = "length - 1 - i" if reverse else "i"
    lines = [
        f"__shared__ total_t partial[{THREADS}];",
        "const int lane = threadIdx.x, lanes = blockDim.x;",
        "const index_t line = blockIdx.x / step * step * length + blockIdx.x % step;",
        f"total_t carried = {neutral};",
        "for (index_t first = 0; first < length; first += lanes) {",
        "    const index_t i = first + lane;",
        f"    const index_t place = line + ({position}) * step;",
        f"    total_t total = i < length ? nbdl::cast<total_t>(x0[place]) : {neutral};",
        "    if (lane == 0) total = combine(carried, total);",
        "    partial[lane] = total;",
        "    for (int distance = 1; distance < lanes; distance *= 2) {",
        "        __syncthreads();",
        "        if (lane >= distance) total = combine(partial[lane - distance], total);",
        "        __syncthreads();",
        "        partial[lane] = total;",
        "    }",
        f"    if (i < length) y0[place] = nbdl::cast<{c_type(target.dtype)}>(total);",
        "    __syncthreads();",
        "    carried = partial[lanes - 1];",
        "    __syncthreads();",
        "}",
    ]
    functions = [
        f"typedef {c_type(total)} total_t;",
        f"static __device__ __forceinline__ total_t combine(total_t a, total_t b) {{ return {combined}; }}",
    ]
    parameters = [source.parameter, target.parameter, "const index_t length", "const index_t step"]
    entry = codegen.kernel(name, parameters, [f"    {line}" for line in lines])
    return codegen.source(IDENTITY, total, index, functions, entry)
