"""Frames of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.framing`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain, three_axes
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.stages import block_words
from nbdl.backend.windows import Pairs, frame_places
from nbdl.kernels.cpu import framing as cpu

__all__ = ["plan_extend", "plan_extend_input"]

Array = NDArray[Any]

_ITEM_SIZES = (1, 2, 4, 8)
_INT64 = np.dtype(np.int64)


def plan_extend(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, widths: Pairs, mode: str
) -> Plan | None:
    """Plans (x,) in its frame, or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None or x.itemsize not in _ITEM_SIZES or not _is_supported(x):
        return None
    shape = tuple([before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)])
    name = f"extend_{x.itemsize}"
    return _plan(
        name, lambda: cpu.make_extend(x.itemsize), OutputSpec(shape, x.dtype), x.shape, widths, mode, False
    )


def plan_extend_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, widths: Pairs, mode: str
) -> Plan | None:
    """Plans the transpose for (y,), or returns None where NumPy has to do it."""
    (y,) = inputs
    if outputs is not None or y.dtype not in (np.float32, np.float64) or not _is_supported(y):
        return None
    shape = tuple([n - before - after for n, (before, after) in zip(y.shape, widths, strict=True)])
    name = f"extend_input_{y.dtype}"
    return _plan(
        name, lambda: cpu.make_extend_input(y.dtype), OutputSpec(shape, y.dtype), shape, widths, mode, True
    )


def _is_supported(x: Array) -> bool:
    return bool(x.flags.c_contiguous and is_plain([x], x.dtype))


def _plan(
    name: str,
    make: Callable[[], Callable[..., Any]],
    output: OutputSpec,
    shape: tuple[int, ...],
    widths: Pairs,
    mode: str,
    transposed: bool,
) -> Plan | None:
    """A plan for a frame around an array of ``shape``; None if more than three axes are between frames."""
    framed = [axis for axis, pair in enumerate(widths) if pair != (0, 0)]
    first, last = (framed[0], framed[-1]) if framed else (0, 0)
    if last - first > 2 or 0 in shape:
        return None
    sizes = three_axes(shape[first : last + 1], 1)
    pairs = three_axes(widths[first : last + 1], (0, 0))
    tables = [frame_places(n, *pair, mode) for n, pair in zip(sizes, pairs, strict=True)]
    # for every line of the result the lines of the operand
    sources = [_inverse(table, n) if transposed else (table, table) for table, n in zip(tables[:2], sizes)]
    wide = [len(table) for table in tables]
    results, operands = (sizes, wide) if transposed else (wide, sizes)
    planes, run = math.prod(shape[:first]), math.prod(shape[last + 1 :])
    words = {
        cpu.RESULT_DEPTH: results[0], cpu.RESULT_HEIGHT: results[1], cpu.DEPTH: operands[0],
        cpu.HEIGHT: operands[1], cpu.WIDTH: sizes[2], cpu.BEFORE: pairs[2][0], cpu.FRAMED_WIDTH: wide[2],
        cpu.PLACES_WIDTH: tables[2].ctypes.data, cpu.RUN: run,
    }  # fmt: skip
    addresses = [array.ctypes.data for source in sources for array in source]
    rows = planes * results[0] * results[1]
    return Plan(
        compile_kernel(name, make, name),
        inputs=1,
        outputs=[output],
        arguments=block_words(words | dict(enumerate(addresses, cpu.STARTS_DEPTH)), 2),
        rows=rows,
        tasks=tasks_for(planes * math.prod(wide) * run, rows),
        keep=(tables, sources),
    )


def _inverse(places: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of n elements where the places begin that repeat it, and these."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=n))]).astype(_INT64)
    return starts, np.argsort(places, kind="stable").astype(_INT64)
