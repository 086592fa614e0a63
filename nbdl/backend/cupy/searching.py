"""Places on the GPU: of largest and smallest elements, running ones too, and of values among rising ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import kernel_of, of_real_numbers, shape_of_rows, types_of
from nbdl.backend.cupy.launch import MAX_BLOCKS, THREADS, Kernels, blocks
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.reduction import BUSY_BLOCKS, MAX_PARTS, SERIAL
from nbdl.backend.cupy.scanning import lanes_of_scan
from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes

_INDEX = np.dtype(np.int64)


class CupySearching:
    """See :class:`~nbdl.backend.numpy.sorting.Sorting` and :class:`~nbdl.backend.numpy.scanning.Scanning`."""

    xp: Any
    cast: Any
    _kernels: Kernels
    _row_major: Any

    @of_real_numbers
    def argreduce(self, x: Any, *, kind: str, axis: int | None, keepdims: bool, out: Any = None) -> Any:
        """Index of the first maximum or minimum (``argmax``, ``argmin``), a NaN counting as both; int64.

        Few long rows are searched in two stages, of which the second compares the best of all parts.
        """
        front, n, inner = (1, x.size, 1) if axis is None else _rows_along(x.shape, axis)
        if n == 0:
            raise ValueError(f"{kind}: there is no element along axis {axis} of shape {x.shape}")
        kept = [1 if axis in (None, k) else length for k, length in enumerate(x.shape)]
        shape = tuple(kept) if keepdims else () if axis is None else (*x.shape[:axis], *x.shape[axis + 1 :])
        result = target(self.xp, out, shape, _INDEX, x)
        rows = front * inner
        if rows == 0:
            return delivered(result, out)
        block, (grid,) = shape_of_rows(rows, n, inner)
        lanes = block[0] if inner == 1 else block[1]
        parts = max(1, min(-(-n // (lanes * SERIAL)), BUSY_BLOCKS // grid, MAX_PARTS))
        source, part = self._row_major(x), -(-n // parts)
        kernel = self._search_kernel("argreduce", x.dtype, inner)
        sizes, largest = tuple(map(np.int64, (rows, n, inner))), np.int32(kind == "argmax")
        found = result if parts == 1 else self.xp.empty((parts, rows), _INDEX)
        several = (np.int64(n), np.int64(part), np.int32(0), largest)
        kernel((grid, parts), block, (source, found, found, *sizes, *several))
        if parts > 1:
            block, grids = shape_of_rows(rows, parts, inner)
            several = (np.int64(parts), np.int64(parts), np.int32(1), largest)
            kernel(grids, block, (source, found, result, *sizes, *several))
        return delivered(result, out)

    @of_real_numbers
    def argscan(self, x: Any, *, kind: str, axis: int, out: Any = None) -> Any:
        """Index of the running ``max`` or ``min``, int64: the last of equal ones; the last NaN beats all."""
        result = target(self.xp, out, x.shape, _INDEX, x)
        if x.size:
            front, n, inner = _rows_along(x.shape, axis) if x.ndim else (1, 1, 1)
            rows = front * inner
            block, grid = lanes_of_scan(rows, n, inner)
            kernel = self._search_kernel("argscan", x.dtype, inner)
            sizes = map(np.int64, (rows, n, inner))
            kernel(grid, block, (self._row_major(x), result, *sizes, np.int32(kind == "max")))
        return delivered(result, out)

    @of_real_numbers
    def searchsorted(self, boundaries: Any, values: Any, *, right: bool, out: Any = None) -> Any:
        """How many of rising ``boundaries`` are below ``values`` (or equal, if ``right``); int64.

        Boundaries are (n,), or (..., n) with the leading axes of the values.
        """
        if boundaries.ndim != 1 and boundaries.shape[:-1] != values.shape[:-1]:
            raise ValueError("there are boundaries for other rows")
        if boundaries.dtype != values.dtype:
            boundaries, values = (
                self.cast(x, dtype=dtypes.FLOAT32) if dtypes.is_bfloat16(x.dtype) else x
                for x in (boundaries, values)
            )
            kind = np.promote_types(boundaries.dtype, values.dtype)
            boundaries, values = (self.cast(x, dtype=kind) for x in (boundaries, values))
        result = target(self.xp, out, values.shape, _INDEX, boundaries, values)
        if result.size:
            each = result.size if boundaries.ndim == 1 else values.shape[-1]
            operands = self._row_major(boundaries), self._row_major(values), result
            sizes = map(np.int64, (result.size, boundaries.shape[-1], each))
            kernel = self._search_kernel("searchsorted", boundaries.dtype, 1)
            grid = (blocks(result.size, THREADS, MAX_BLOCKS),)
            kernel(grid, (THREADS,), (*operands, *sizes, np.int32(right)))
        return delivered(result, out)

    def _search_kernel(self, name: str, dtype: np.dtype, inner: int) -> Any:
        return kernel_of(
            self._kernels, f"nbdl_{name}", "searching.cu", types_of(dtype), (dtype,),
            parts=("rows.cuh",), flags={"NBDL_ACROSS": int(inner > 1)},
        )  # fmt: skip


def _rows_along(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Numbers of rows in front of an axis, of elements along it, and of elements behind it."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
