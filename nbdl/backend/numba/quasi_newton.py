"""Quasi-Newton memory of the Numba backend: plans for the kernel of `nbdl.kernels.cpu.quasi_newton`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.kernels.cpu import quasi_newton as kernel

__all__ = ["plan_two_loop"]


def plan_two_loop(
    inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]] | None, *, oldest: int, count: int
) -> Plan | None:
    """Plans the product with the L-BFGS inverse Hessian, or returns None where NumPy has to do it."""
    gradient = inputs[0]
    if outputs is not None or count > kernel.MAX_COUNT or gradient.dtype not in (np.float32, np.float64):
        return None
    if not is_plain(inputs, gradient.dtype) or not all(x.flags.c_contiguous for x in inputs):
        return None
    name = f"two_loop_{gradient.dtype}"
    return Plan(
        compile_kernel(name, lambda: kernel.make_two_loop(gradient.dtype), name),
        inputs=len(inputs),
        outputs=[OutputSpec(gradient.shape, gradient.dtype)],
        arguments=[gradient.size, len(inputs[1]), oldest, count],
        rows=1,
    )
