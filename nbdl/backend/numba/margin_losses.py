"""Margin losses of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.margin_losses`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.native import failure_address
from nbdl.backend.numba.stages import Stage, scratch_memory, staged_plan
from nbdl.kernels.cpu import margin_losses as kernel

__all__ = [
    "plan_multi_margin_loss",
    "plan_multi_margin_loss_input",
    "plan_multilabel_margin_loss",
    "plan_multilabel_margin_loss_input",
]

Array = NDArray[Any]
Make = Callable[[Any], Callable[..., Any]]


def plan_multi_margin_loss(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, p: int, margin: float, mean: bool
) -> Plan | None:
    """Plans the loss of (scores, classes), and those of all rows, or returns None: NumPy's."""
    make = partial(kernel.make_multi_margin, squared=p == 2)
    return _plan(f"multi_margin_{p}", make, inputs, outputs, inputs, margin, mean)


def plan_multi_margin_loss_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, p: int, margin: float, mean: bool
) -> Plan | None:
    """Plans the gradient from (g, scores, classes), or returns None where NumPy has to do it."""
    make = partial(kernel.make_multi_margin_input, squared=p == 2)
    return _plan(f"multi_margin_input_{p}", make, inputs, outputs, inputs[1:], margin, mean)


def plan_multilabel_margin_loss(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, mean: bool
) -> Plan | None:
    """Plans the loss of (scores, classes), and those of all rows, or returns None: NumPy's."""
    return _plan("multilabel_margin", kernel.make_multilabel_margin, inputs, outputs, inputs, 1.0, mean)


def plan_multilabel_margin_loss_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, mean: bool
) -> Plan | None:
    """Plans the gradient from (g, scores, classes), or returns None where NumPy has to do it."""
    make = kernel.make_multilabel_margin_input
    return _plan("multilabel_margin_input", make, inputs, outputs, inputs[1:], 1.0, mean)


def _plan(
    name: str,
    make: Make,
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    operands: Sequence[Array],
    margin: float,
    mean: bool,
) -> Plan | None:
    """A plan over the rows of (scores, classes), of the gradient where one stands in front of them."""
    (x, classes), dtype = operands, operands[0].dtype
    if outputs is not None or dtype not in (np.float32, np.float64):
        return None
    if not is_plain([x, *inputs[: len(inputs) - 2]], dtype) or not is_plain([classes], np.dtype(np.int64)):
        return None
    if not x.flags.c_contiguous or not classes.flags.c_contiguous:
        return None
    rows, count = x.shape
    tasks = tasks_for(3.0 * x.size, rows)
    scratch = scratch_memory(tasks * count * dtype.itemsize)
    factor = 1.0 / rows if mean else 1.0
    words = {
        kernel.ROWS: rows,
        kernel.CLASSES: count,
        kernel.MARGIN: int(np.float64(margin).view(np.int64)),
        kernel.FACTOR: int(np.float64(factor).view(np.int64)),
        kernel.MASKS: scratch.ctypes.data,
        kernel.FAILED: failure_address(),
    }
    stages = [Stage(_kernel(name, dtype, make), rows, tasks)]
    specs = [OutputSpec(x.shape, dtype)]
    if operands is inputs:
        total = partial(kernel.make_total, places=3)
        stages.append(Stage(_kernel("margin_total", dtype, total), 1, 1))
        specs = [OutputSpec((), dtype), OutputSpec((rows,), dtype)]
    return staged_plan(stages, inputs=len(inputs), outputs=specs, words=words, keep=scratch)


def _kernel(name: str, dtype: np.dtype[Any], make: Make) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
