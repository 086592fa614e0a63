"""Connectionist temporal classification of the Numba backend: plans for `nbdl.kernels.cpu.alignments`."""

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
from nbdl.backend.numba.stages import Stage, scratch_memory, staged_plan
from nbdl.kernels.cpu import alignments as kernel

__all__ = ["plan_ctc_loss", "plan_ctc_loss_input"]

Array = NDArray[Any]
_STATE_WORK = 10.0  # additions that a state costs at one step; samples are shorter than the longest


def plan_ctc_loss(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, blank: int, mean: bool, zero_infinity: bool
) -> Plan | None:
    """Plans the losses and their total, or returns None where NumPy has to do it."""
    found = _words(inputs, outputs, 2, blank, mean, zero_infinity)
    if found is None:
        return None
    words, tasks, scratch = found
    x, samples = inputs[0], inputs[0].shape[1]
    stages = [
        Stage(_kernel(kernel.make_ctc_loss, x.dtype), samples, tasks),
        Stage(_kernel(kernel.make_total, x.dtype), 1, 1),
    ]
    specs = [OutputSpec((samples,), x.dtype), OutputSpec((), x.dtype)]
    return staged_plan(stages, inputs=4, outputs=specs, words=words, keep=scratch)


def plan_ctc_loss_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, blank: int, mean: bool, zero_infinity: bool
) -> Plan | None:
    """Plans the gradient by the log-probabilities, or returns None where NumPy has to do it."""
    *operands, g = inputs
    x = operands[0]
    found = _words(operands, outputs, x.shape[0], blank, mean, zero_infinity)
    if found is None or not is_plain([g], x.dtype):
        return None
    words, tasks, scratch = found
    words[kernel.G_STRIDE] = g.strides[0] // g.itemsize if g.ndim else -1
    stages = [Stage(_kernel(kernel.make_ctc_loss_input, x.dtype), x.shape[1], tasks)]
    return staged_plan(stages, inputs=5, outputs=[OutputSpec(x.shape, x.dtype)], words=words, keep=scratch)


def _words(
    operands: Sequence[Array],
    outputs: Sequence[Array] | None,
    rows: int,
    blank: int,
    mean: bool,
    zero_infinity: bool,
) -> tuple[dict[int, int], int, Array] | None:
    """The words of the kernels, the tasks, and memory for so many rows of forward variables; or None."""
    x, *integers = operands
    if outputs is not None or x.dtype not in (np.float32, np.float64) or not is_plain([x], x.dtype):
        return None
    if x.strides[2] != x.itemsize or not is_plain(integers, np.dtype(np.int64)):
        return None
    if not all(array.flags.c_contiguous for array in integers):
        return None
    steps, samples, classes = x.shape
    columns = 2 * integers[0].shape[1] + 1 + kernel.PADDING
    tasks = tasks_for(steps * samples * (columns * _STATE_WORK + classes), samples)
    stride = -(-(kernel.ROWS + rows) * columns * 8 // 64) * 64
    scratch = scratch_memory(tasks * stride)
    words = {
        kernel.STEPS: steps,
        kernel.SAMPLES: samples,
        kernel.CLASSES: classes,
        kernel.LABELS: integers[0].shape[1],
        kernel.STEP_STRIDE: x.strides[0] // x.itemsize,
        kernel.SAMPLE_STRIDE: x.strides[1] // x.itemsize,
        kernel.BLANK: blank,
        kernel.MEAN: int(mean),
        kernel.ZERO_INFINITY: int(zero_infinity),
        kernel.G_STRIDE: 0,
        kernel.SCRATCH: scratch.ctypes.data,
        kernel.SCRATCH_STRIDE: stride,
        kernel.FAILED: failure_address(),
    }
    return words, tasks, scratch


@cache
def _kernel(make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    name = "ctc_total" if make is kernel.make_total else make.__name__.removeprefix("make_")
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
