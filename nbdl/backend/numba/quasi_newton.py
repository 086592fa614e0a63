"""Vectors of quasi-Newton methods on the Numba backend: plans for `nbdl.kernels.cpu.quasi_newton`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.stages import Stage, scratch_memory, staged_plan
from nbdl.kernels.cpu import quasi_newton as kernel

__all__ = ["plan_remember_pair", "plan_slope_and_size", "plan_two_loop"]

Arrays = Sequence[NDArray[Any]]


def plan_two_loop(
    inputs: Arrays, outputs: Arrays | None, *, oldest: int, count: int, negative: bool
) -> Plan | None:
    """Plans the product with the L-BFGS inverse Hessian, or returns None where NumPy has to do it."""
    gradient = inputs[0]
    if outputs is not None or count > kernel.MAX_COUNT or not _is_supported(inputs):
        return None
    name = f"two_loop_{gradient.dtype}"
    return Plan(
        compile_kernel(name, lambda: kernel.make_two_loop(gradient.dtype), name),
        inputs=len(inputs),
        outputs=[OutputSpec(gradient.shape, gradient.dtype)],
        arguments=[gradient.size, len(inputs[1]), oldest, count, int(negative)],
        rows=1,
    )


def plan_remember_pair(inputs: Arrays, outputs: Arrays | None) -> Plan | None:
    """Plans a pair of L-BFGS and its products, or returns None where NumPy has to do it."""
    if not _is_supported([*inputs, *(outputs or ())]):
        return None
    scalar, vector = ((), inputs[4].dtype), (inputs[4].shape, inputs[4].dtype)
    specs = [OutputSpec(*spec) for spec in (vector, vector, scalar, scalar)]
    return _plan_sums("remember_pair", kernel.make_remember_pair, inputs, specs, inputs[4].size)


def plan_slope_and_size(inputs: Arrays, outputs: Arrays | None) -> Plan | None:
    """Plans an inner product and a largest magnitude, or returns None where NumPy has to do it."""
    x = inputs[0]
    if not _is_supported([*inputs, *(outputs or ())]) or x.size == 0:
        return None
    specs = [OutputSpec((2,), x.dtype)]
    return _plan_sums("slope_and_size", kernel.make_slope_and_size, inputs, specs, x.size)


def _is_supported(arrays: Arrays) -> bool:
    dtype = arrays[0].dtype
    if dtype not in (np.float32, np.float64) or not is_plain(arrays, dtype):
        return False
    return all(x.flags.c_contiguous for x in arrays)


def _plan_sums(
    name: str, make: Callable[[Any], Sequence[Callable[..., Any]]], inputs: Arrays, specs: Any, n: int
) -> Plan:
    """A plan of two kernels: over blocks of the vectors, and over the sums of the blocks."""
    dtype, blocks = inputs[0].dtype, -(-n // kernel.BLOCK)
    addresses = [
        compile_kernel(f"{name}_{k}_{dtype}", lambda k=k: make(dtype)[k], f"{name} {k} {dtype}")  # type: ignore[misc]
        for k in range(2)
    ]
    sums = scratch_memory(16 * blocks)
    return staged_plan(
        [Stage(addresses[0], blocks, tasks_for(len(inputs) * n, blocks)), Stage(addresses[1], 1, 1)],
        inputs=len(inputs),
        outputs=specs,
        words={kernel.LENGTH: n, kernel.SUMS: sums.ctypes.data},
        keep=sums,
    )
