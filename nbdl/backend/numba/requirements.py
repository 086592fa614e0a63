"""What elements have to fulfil, on the Numba backend: plans for `nbdl.kernels.cpu.requirements`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.native import failure_address
from nbdl.kernels.cpu import requirements as kernel

__all__ = ["plan_requirement"]

Arrays = Sequence[NDArray[Any]]


def plan_requirement(inputs: Arrays, outputs: Arrays | None) -> Plan | None:
    """Plans a look at the number of violations, or returns None where NumPy has to do it."""
    violations = inputs[0]
    if outputs is not None or violations.itemsize != kernel.ITEM_BYTES:
        return None
    return Plan(
        compile_kernel("requirement", lambda: kernel.requirement, "requirement"),
        inputs=2,
        outputs=[OutputSpec((), violations.dtype)],
        arguments=[failure_address()],
        rows=1,
    )
