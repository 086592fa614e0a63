"""Windows as columns, of the Numba backend: plans for the kernel of `nbdl.kernels.cpu.unfolding`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.windows import Sizes
from nbdl.kernels.cpu import unfolding as cpu

__all__ = ["plan_columns_of_windows", "plan_windows_of_columns"]

Array = NDArray[Any]


def plan_columns_of_windows(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    counts: Sizes,
) -> Plan | None:
    """Plans the columns of (images,), or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None or not _is_supported(x):
        return None
    spec = OutputSpec((x.shape[0], x.shape[1] * math.prod(kernel), math.prod(counts)), x.dtype)
    words = [*size, *kernel, *stride, *padding, *dilation, *counts]
    return _plan(spec, x.shape[0] * x.shape[1], spec.shape[1] * spec.shape[2], words, False)


def plan_windows_of_columns(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    counts: Sizes,
) -> Plan | None:
    """Plans the images of (columns,), or returns None where NumPy has to do it."""
    (y,) = inputs
    if outputs is not None or not _is_supported(y):
        return None
    channels = y.shape[1] // math.prod(kernel)
    spec = OutputSpec((y.shape[0], channels, *size), y.dtype)
    words = [*size, *kernel, *stride, *padding, *dilation, *counts]
    return _plan(spec, y.shape[0] * channels, y.shape[1] * y.shape[2], words, True)


def _is_supported(x: Array) -> bool:
    fits = x.dtype in (np.float32, np.float64) and is_plain([x], x.dtype)
    return bool(fits and x.flags.c_contiguous)


def _plan(spec: OutputSpec, planes: int, columns: int, words: Sequence[int], transposed: bool) -> Plan:
    """A plan over planes; an image has so many elements of columns."""
    return Plan(
        _kernel(spec.dtype, transposed),
        inputs=1,
        outputs=[spec],
        arguments=words,
        rows=planes,
        tasks=tasks_for(spec.shape[0] * columns, planes),
    )


@cache
def _kernel(dtype: np.dtype[Any], transposed: bool) -> int:
    name = f"{'fold' if transposed else 'unfold'}_{dtype}"
    return compile_kernel(name, lambda: cpu.make_unfold(dtype, transposed), name)
