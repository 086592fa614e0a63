"""Reductions and scans on NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.backend.numpy.elementwise import evaluate
from nbdl.backend.numpy.precision import narrowed
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes

_UFUNCS: dict[str, Any] = {
    "sum": np.add,
    "mean": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}
_SCANS: dict[str, Any] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "logsumexp": np.logaddexp,
}
_BLOCK = 1 << 20  # elements that a formula makes at a time where it may be cut


def reduced_dtype(kind: str, dtype: np.dtype) -> np.dtype:
    """Dtype of a reduction of ``dtype``: sums and products of integers are int64, as in PyTorch."""
    if kind in ("any", "all"):
        return dtypes.BOOL
    if kind in ("sum", "prod") and dtypes.category(dtype) < 2:
        return dtypes.INT64
    return dtype


def _parts(inputs: Sequence[Any], axes: tuple[int, ...]) -> tuple[int, list[list[Any]]] | None:
    """An axis that is kept, and the operands cut along it, if broadcasting makes much more of them.

    What a formula makes of (m, 1, k) and (1, n, k) operands may be too large for the memory.
    """
    first = inputs[0].shape
    if all(x.shape == first or not x.ndim for x in inputs):
        return None
    shape = np.broadcast_shapes(*[x.shape for x in inputs])
    size = math.prod(shape)
    axis = next((k for k, length in enumerate(shape) if length > 1 and k not in axes), None)
    if axis is None or size <= max(_BLOCK, 2 * max(x.size for x in inputs)):
        return None
    rows = max(1, _BLOCK * shape[axis] // size)
    parts = []
    for start in range(0, shape[axis], rows):
        part = []
        for x in inputs:
            own = axis - len(shape) + x.ndim
            cut = own >= 0 and x.shape[own] > 1
            part.append(x[(slice(None),) * own + (slice(start, start + rows),)] if cut else x)
        parts.append(part)
    return axis, parts


class Reduction:
    """Reducing and scanning primitives."""

    def reduce(
        self,
        *inputs: Any,
        formula: Formula,
        kind: str,
        axes: tuple[int, ...],
        keepdims: bool,
        weak: int = 0,
        out: Any = None,
    ) -> Any:
        """A formula on broadcast operands, reduced over some axes in the same loop.

        Args:
            inputs: the operands.
            formula: what is reduced; one output.
            kind: ``sum``, ``mean``, ``prod``, ``max``, ``min`` (NaN wins), ``any`` or ``all``.
            axes: the axes that are reduced, not negative.
            keepdims: leave them with length 1.
            weak: bit k is set where operand k was a Python number.
            out: receives the result.
        """
        parts = None if formula.is_identity else _parts(inputs, axes)
        if parts is not None:
            axis, slices = parts
            done = [
                self.reduce(*part, formula=formula, kind=kind, axes=axes, keepdims=keepdims, weak=weak)
                for part in slices
            ]
            place = axis if keepdims else axis - sum(reduced < axis for reduced in axes)
            return delivered(np.concatenate(done, place), out)
        if formula.is_identity:
            value, dtype = inputs[0], inputs[0].dtype
        else:
            (value,), (dtype,), fills = evaluate(formula, inputs, weak)
            if not fills:
                value = np.broadcast_to(value, np.broadcast_shapes(*[x.shape for x in inputs]))
        result_dtype = reduced_dtype(kind, dtype)
        accumulator = dtypes.arithmetic_dtype(result_dtype)
        if kind in ("any", "all"):
            value = value.astype(bool, copy=False)
        with np.errstate(all="ignore"):
            total = _UFUNCS[kind].reduce(value, axis=axes, keepdims=keepdims, dtype=accumulator)
            if kind == "mean":
                count = math.prod(value.shape[axis] for axis in axes)
                total = np.divide(total, count, dtype=accumulator)
        result = narrowed(np.asarray(total), result_dtype)
        # A reduction over no axes hands the operand back.
        return delivered(result.copy() if result is inputs[0] or result.base is not None else result, out)

    def argreduce(self, x: Any, *, kind: str, axis: int | None, keepdims: bool, out: Any = None) -> Any:
        """Index of the first maximum or minimum (``argmax``, ``argmin``), a NaN counting as both; int64."""
        find = np.argmax if kind == "argmax" else np.argmin
        return delivered(np.asarray(find(x, axis=axis, keepdims=keepdims)).astype(np.int64, copy=False), out)

    def scan(self, x: Any, *, kind: str, axis: int, reverse: bool = False, out: Any = None) -> Any:
        """Running ``sum``, ``prod``, ``max``, ``min`` or ``logsumexp`` along an axis, or from its end."""
        dtype = reduced_dtype(kind, x.dtype)
        accumulator = dtypes.arithmetic_dtype(dtype)
        source = np.flip(x, axis) if reverse else x
        if x.ndim == 0:
            source = source.reshape(1)
        with np.errstate(all="ignore"):
            result = _SCANS[kind].accumulate(source, axis=axis, dtype=accumulator)
        result = np.flip(result, axis) if reverse else result
        result = narrowed(result.reshape(x.shape), dtype)
        return delivered(np.ascontiguousarray(result) if reverse else result, out)
