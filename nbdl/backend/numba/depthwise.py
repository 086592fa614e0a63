"""Depthwise convolutions of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.depthwise`."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.convolution_geometry import Axis, Job, flops_of, pages
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import Image, three_axes
from nbdl.backend.numba.loops import row_major
from nbdl.backend.numba.stages import block_words, scratch_memory
from nbdl.backend.windows import Sizes
from nbdl.kernels.cpu import depthwise as kernel
from nbdl.kernels.cpu.depthwise import FORWARD, INPUT, WEIGHT
from nbdl.kernels.cpu.microkernel import tile_shape

__all__ = ["FORWARD", "INPUT", "WEIGHT", "is_depthwise", "plan_depthwise"]

Array = NDArray[Any]

_CHUNK = 256  # channels whose weights stay in the first-level cache
_TASK_FLOPS = 100_000  # work that is worth a task


def is_depthwise(x: Image, y: Image, groups: int) -> bool:
    """Whether it is one of these from x to y: a filter a channel, and the channels adjacent in both."""
    return 1 < groups == x.channels == y.channels and x.strides[1] == y.strides[1] == 1


def plan_depthwise(
    product: int,
    x: Image,
    y: Image,
    weight: Array | Sizes,
    job: Job,
    spec: OutputSpec,
    has_bias: bool = False,
) -> Plan:
    """Plans one of the three products.

    Args:
        product: `FORWARD`, `INPUT` or `WEIGHT`.
        x: The input, or its gradient.
        y: The output, or its gradient.
        weight: The weight, or the shape of its gradient, (channels, 1, *kernel).
        job: The windows as they are.
        spec: What the plan allocates.
        has_bias: Whether the operands are (x, weight, bias) instead of (x, weight).
    """
    dtype = spec.dtype
    if isinstance(weight, np.ndarray):
        shape, strides = weight.shape, tuple(stride // dtype.itemsize for stride in weight.strides)
    else:
        shape, strides = weight, row_major(weight)
    places = np.indices(shape[2:]).reshape(len(shape) - 2, -1)  # of the taps
    taps = np.asarray(strides[2:], np.int64) @ places
    flops = flops_of([job], x.batch * x.channels)
    tasks = max(1, min(threads.get_num_threads(), int(flops // _TASK_FLOPS)))
    chunk = _chunk(x, tasks, product, tile_shape(dtype).lanes)
    rows = -(-x.channels // chunk) * (1 if product == WEIGHT else x.batch)
    tasks = min(tasks, rows)
    scratch_bytes = pages(len(taps) * chunk * dtype.itemsize)
    scratch = scratch_memory(tasks * scratch_bytes)
    tables = [_table(axis, size) for axis, size in zip(job, x.size, strict=True)]
    _, kernel_height, kernel_width = three_axes(shape[2:], 1)
    words = {
        kernel.BATCH: x.batch,
        kernel.CHANNELS: x.channels,
        kernel.CHUNK: chunk,
        kernel.X_IMAGE: x.strides[0],
        kernel.X_SIZE: math.prod(x.size),
        kernel.Y_IMAGE: y.strides[0],
        kernel.KERNEL_HEIGHT: kernel_height,
        kernel.KERNEL_WIDTH: kernel_width,
        kernel.WEIGHT_CHANNEL: strides[0],
        kernel.TAPS: taps.ctypes.data,
        kernel.TAP_COUNT: len(taps),
        kernel.HAS_BIAS: int(has_bias),
        kernel.SCRATCH: scratch.ctypes.data,
        kernel.SCRATCH_STRIDE: scratch_bytes,
    }
    for first, values in (
        (kernel.X_DEPTH, x.strides[2:]),
        (kernel.Y_DEPTH, y.strides[2:]),
        (kernel.COUNT_DEPTH, [axis.outputs for axis in job]),
        (kernel.TABLE_DEPTH, [table.ctypes.data for table in tables]),
        (kernel.DILATION_DEPTH, [axis.tap_step for axis in job]),
    ):
        words |= dict(enumerate(values, first))
    inputs = 2 + has_bias
    return Plan(
        _kernel(product, dtype),
        inputs=inputs,
        outputs=[spec],
        arguments=block_words(words, inputs + 1),
        rows=rows,
        tasks=tasks,
        keep=(taps, tables, scratch),
    )


def _chunk(x: Image, tasks: int, product: int, lanes: int) -> int:
    """Channels of a row, such that there are rows for all tasks."""
    rows = 1 if product == WEIGHT else x.batch
    chunks = max(-(-tasks // rows), -(-x.channels // _CHUNK))
    return min(x.channels, -(-x.channels // (chunks * lanes)) * lanes)


def _table(axis: Axis, size: int) -> NDArray[np.int64]:
    """(first tap inside, taps inside, position of the first) of every output."""
    positions = np.arange(axis.outputs)[:, None] * axis.input_step + axis.input_first
    positions = positions + np.arange(axis.taps) * axis.tap_step
    inside = (positions >= 0) & (positions < size)
    first = inside.argmax(1)
    return np.stack([first, inside.sum(1), positions[np.arange(axis.outputs), first]], 1).astype(np.int64)


@cache
def _kernel(product: int, dtype: np.dtype[Any]) -> int:
    name = f"depthwise_{('forward', 'input', 'weight')[product]}_{dtype}"
    return compile_kernel(name, lambda: kernel.make_depthwise(dtype, product), name)
