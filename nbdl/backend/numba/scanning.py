"""Scans and places of extrema of the Numba backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.lines import line_kernel, line_plan, lines_along, output_strides, plain_dtype
from nbdl.backend.numba.loops import element_strides
from nbdl.backend.numpy.reduction import reduced_dtype
from nbdl.kernels.cpu import extrema
from nbdl.kernels.cpu import scanning as kernel

__all__ = ["plan_argreduce", "plan_argscan", "plan_linear_scan", "plan_scan"]

Array = NDArray[Any]

_INT64 = np.dtype(np.int64)
_WORK = {"sum": 3.0, "prod": 3.0, "max": 3.0, "min": 3.0, "logsumexp": 40.0}  # of an element, in additions


def plan_scan(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, kind: str, axis: int, reverse: bool = False
) -> Plan | None:
    """Plans the running sum, product and so on of (x,), or returns None where NumPy has to do it.

    Sums and products of float32 are accumulated in float64.
    """
    (x,) = inputs
    dtype, result = plain_dtype(x.dtype), reduced_dtype(kind, x.dtype)
    if dtype is None or x.ndim == 0 or not is_plain([x], x.dtype) or result.kind == "b":
        return None
    if kind == "logsumexp" and result.kind != "f":
        return None
    out = _single(outputs, result)
    if outputs is not None and out is None:
        return None
    strides = [element_strides(x, x.shape), output_strides(out, x.shape)]
    lines = lines_along(x.shape, axis, strides, reverse=reverse)
    if lines is None:
        return None
    accumulates_wide = kind in ("sum", "prod") and result == np.float32
    accumulator = np.dtype(np.float64) if accumulates_wide else result
    across = lines.across
    address = line_kernel(
        f"scan_{kind}_{dtype}_{result}",
        across,
        lambda: kernel.make_scan(kind, dtype, result, accumulator, across),
    )
    return line_plan(
        address, lines, inputs=1, outputs=[OutputSpec(x.shape, result)], work=_WORK[kind] * x.size
    )


def plan_argscan(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, kind: str, axis: int
) -> Plan | None:
    """Plans the places of running extrema of (x,), or returns None where NumPy has to do it."""
    (x,) = inputs
    dtype, out = plain_dtype(x.dtype), _single(outputs, _INT64)
    if dtype is None or x.ndim == 0 or not is_plain([x], x.dtype) or (outputs is not None and out is None):
        return None
    lines = lines_along(x.shape, axis, [element_strides(x, x.shape), output_strides(out, x.shape)])
    if lines is None:
        return None
    across = lines.across
    address = line_kernel(f"argscan_{kind}_{dtype}", across, lambda: kernel.make_argscan(kind, dtype, across))
    return line_plan(address, lines, inputs=1, outputs=[OutputSpec(x.shape, _INT64)], work=4.0 * x.size)


def plan_linear_scan(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int, reverse: bool = False
) -> Plan | None:
    """Plans the linear recurrence of (a, b), or returns None where NumPy has to do it."""
    a, b = inputs
    dtype, out = a.dtype, _single(outputs, a.dtype)
    if dtype not in (np.float32, np.float64) or not is_plain([a, b], dtype) or a.ndim == 0:
        return None
    if outputs is not None and out is None:
        return None
    strides = [element_strides(a, a.shape), element_strides(b, a.shape), output_strides(out, a.shape)]
    lines = lines_along(a.shape, axis, strides, reverse=reverse)
    if lines is None:
        return None
    across = lines.across
    address = line_kernel(f"linear_scan_{dtype}", across, lambda: kernel.make_linear_scan(dtype, across))
    return line_plan(address, lines, inputs=2, outputs=[OutputSpec(a.shape, dtype)], work=5.0 * a.size)


def plan_argreduce(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, kind: str, axis: int | None, keepdims: bool
) -> Plan | None:
    """Plans the place of the extremum of (x,), or returns None where NumPy has to do it."""
    (x,) = inputs
    dtype, rank = plain_dtype(x.dtype), x.ndim
    if dtype is None or rank == 0 or outputs is not None or not is_plain([x], x.dtype):
        return None
    if axis is None:
        if not x.flags.c_contiguous:
            return None
        spec = OutputSpec((1,) * rank if keepdims else (), _INT64)
        lines = lines_along((x.size,), 0, [(1,), (0,)])
    else:
        kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        spec = OutputSpec(kept if keepdims else (*x.shape[:axis], *x.shape[axis + 1 :]), _INT64)
        lines = lines_along(x.shape, axis, [element_strides(x, x.shape), output_strides(None, kept)])
    if lines is None:
        return None
    across = lines.across
    address = line_kernel(f"{kind}_{dtype}", across, lambda: extrema.make_argreduce(kind, dtype, across))
    return line_plan(address, lines, inputs=1, outputs=[spec], work=0.5 * x.size)


def _single(outputs: Sequence[Array] | None, dtype: np.dtype[Any]) -> Array | None:
    """The only output, if there is one that kernels can write elements of ``dtype`` to."""
    if outputs is None or not is_plain(outputs, dtype):
        return None
    return outputs[0]
