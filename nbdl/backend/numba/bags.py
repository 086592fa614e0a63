"""Bags of indices of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.bags`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.native import failure_address
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import bags as kernel

__all__ = ["plan_embedding_bag", "plan_embedding_bag_input"]

Array = NDArray[Any]


def plan_embedding_bag(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, mean: bool, padding: int | None
) -> Plan | None:
    """Plans the bags of (table, indices, starts?), or returns None where NumPy has to do it."""
    table, indices, *starts = inputs
    if outputs is not None or not _is_supported(table, indices, *starts):
        return None
    bags = starts[0].size if starts else indices.shape[0]
    words = _words(indices, bags, table.shape, mean, padding)
    return Plan(
        _kernel(kernel.make_embedding_bag, table.dtype, bool(starts)),
        inputs=len(inputs),
        outputs=[OutputSpec((bags, table.shape[1]), table.dtype)],
        arguments=block_words(words, len(inputs) + 1),
        rows=bags,
        tasks=tasks_for(indices.size * table.shape[1], bags),
    )


def plan_embedding_bag_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    mean: bool,
    padding: int | None,
    rows: int,
) -> Plan | None:
    """Plans the gradient by a table of so many rows of (g, indices, starts?); None: NumPy's."""
    g, indices, *starts = inputs
    if outputs is not None or not rows or not _is_supported(g, indices, *starts):
        return None
    shape = (rows, g.shape[1])
    words = _words(indices, g.shape[0], shape, mean, padding)
    blocks = -(-shape[1] // kernel.BLOCK)
    return Plan(
        _kernel(kernel.make_embedding_bag_input, g.dtype, bool(starts)),
        inputs=len(inputs),
        outputs=[OutputSpec(shape, g.dtype)],
        arguments=block_words(words, len(inputs) + 1),
        rows=blocks,
        tasks=tasks_for((indices.size + rows) * shape[1], blocks),
    )


def _is_supported(values: Array, *integers: Array) -> bool:
    """Whether kernels can read them: floats and int64, not empty, in row-major order."""
    fits = values.dtype in (np.float32, np.float64) and is_plain([values], values.dtype)
    fits = fits and is_plain(integers, np.dtype(np.int64))
    return fits and all(array.flags.c_contiguous for array in (values, *integers))


def _words(
    indices: Array, bags: int, table: tuple[int, ...], mean: bool, padding: int | None
) -> dict[int, int]:
    return {
        kernel.COUNT: indices.size,
        kernel.BAGS: bags,
        kernel.LENGTH: indices.size // bags,
        kernel.ROWS: table[0],
        kernel.COLUMNS: table[1],
        kernel.PADDING: -1 if padding is None else padding,
        kernel.MEAN: int(mean),
        kernel.FAILED: failure_address(),
    }


@cache
def _kernel(make: Callable[..., Callable[..., Any]], dtype: np.dtype[Any], has_starts: bool) -> int:
    name = make.__name__.removeprefix("make_") + ("_of_starts" if has_starts else "")
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype, has_starts), f"{name} {dtype}")
