"""Plans for sparse linear maps along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.resampling import Taps
from nbdl.kernels.cpu import resampling as kernel

__all__ = ["plan_resample"]

Array = NDArray[Any]


def plan_resample(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int, taps: Taps
) -> Plan | None:
    """Plans the weighted sums of (x,) along an axis, or returns None where NumPy has to do it."""
    (x,) = inputs
    if outputs is not None or x.dtype not in (np.float32, np.float64) or x.size == 0:
        return None
    if not (x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative):
        return None
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    weights = taps.weights_as(x.dtype)
    addresses = [array.ctypes.data for array in (taps.starts, taps.places, weights)]
    return Plan(
        _kernel(x.dtype, inner == 1),
        inputs=1,
        outputs=[OutputSpec((*x.shape[:axis], taps.count, *x.shape[axis + 1 :]), x.dtype)],
        arguments=[taps.length, taps.count, inner, *addresses, *taps.run],
        rows=outer,
        tasks=tasks_for(2.0 * outer * inner * len(taps.places), outer),
        keep=(taps, weights),
    )


@cache
def _kernel(dtype: np.dtype, along: bool) -> int:
    name = f"resample_{dtype}_{'along' if along else 'across'}"
    return compile_kernel(name, lambda: kernel.make_resample(dtype, along), name)
