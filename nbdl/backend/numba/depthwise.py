"""Depthwise convolutions of adjacent channels: plans for the kernels of `nbdl.kernels.cpu.depthwise`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.convolution_geometry import Axis, Job, dot, flops_of, pages, weight_taps
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import Image, three_axes
from nbdl.backend.numba.loops import row_major
from nbdl.backend.numba.stages import block_words, scratch_memory
from nbdl.backend.windows import Sizes
from nbdl.kernels.cpu import depthwise as kernel
from nbdl.kernels.cpu.microkernel import tile_shape

__all__ = ["has_lanes", "plan_channel_outputs", "plan_channel_weight"]

Array = NDArray[Any]

_CHUNK = 256  # channels whose weights stay in the first-level cache
_TASK_FLOPS = 100_000  # work that is worth a task


def has_lanes(x: Image, y: Image, dtype: np.dtype[Any]) -> bool:
    """Whether channels are adjacent in both, and fill a vector."""
    return x.strides[1] == y.strides[1] == 1 and x.channels >= tile_shape(dtype).lanes


def plan_channel_outputs(
    jobs: Sequence[Job], x: Image, y: Image, weight: Array, spec: OutputSpec, has_bias: bool = False
) -> Plan:
    """Plans the outputs y of x.

    Args:
        jobs: The convolution, or the phases of its transpose.
        x: What the windows are read from.
        y: The result.
        weight: The weight, (channels, 1, *kernel).
        spec: What the plan allocates.
        has_bias: Whether the operands are (x, weight, bias) instead of (x, weight).
    """
    strides = [stride // spec.dtype.itemsize for stride in weight.strides]
    address = _kernel("depthwise_outputs", kernel.make_outputs, spec.dtype)
    return _plan(address, jobs, x, y, strides, spec, 2 + has_bias, _outputs_inside, x.batch)


def plan_channel_weight(x: Image, y: Image, shape: Sizes, job: Job, dtype: np.dtype[Any]) -> Plan:
    """Plans the gradient of a weight of this shape, from the input and the gradient y of the output."""
    address = _kernel("depthwise_weight", kernel.make_weight, dtype)
    return _plan(address, [job], x, y, row_major(shape), OutputSpec(shape, dtype), 2, _taps_inside, 1)


def _plan(
    address: int,
    jobs: Sequence[Job],
    x: Image,
    y: Image,
    weight: Sequence[int],
    spec: OutputSpec,
    inputs: int,
    inside: Callable[[Axis, int], NDArray[np.int64]],
    images: int,
) -> Plan:
    """A plan with rows for so many images; `weight` are its strides, `inside` makes the tables of an axis."""
    dtype, size = spec.dtype, spec.dtype.itemsize
    lanes = tile_shape(dtype).lanes
    flops = flops_of(jobs, x.batch * x.channels)
    tasks = max(1, min(threads.get_num_threads(), int(flops // _TASK_FLOPS)))
    chunks = max(-(-tasks // images), -(-x.channels // _CHUNK))
    chunk = -(-x.channels // (chunks * lanes)) * lanes
    rows = -(-x.channels // chunk) * images
    tasks = min(tasks, rows)
    taps = weight_taps(jobs, three_axes(weight[2:], 0))
    count = sum(math.prod(axis.taps for axis in job) for job in jobs)
    scratch_bytes = pages(len(taps) * chunk * size)
    scratch = scratch_memory(tasks * scratch_bytes)
    table, keep = _job_table(jobs, x, y, size, inside)
    vectors = np.arange(kernel.TILE) * (lanes * size)
    words = {
        kernel.BATCH: x.batch,
        kernel.CHANNELS: x.channels,
        kernel.CHUNK: chunk,
        kernel.X_IMAGE: x.strides[0],
        kernel.Y_IMAGE: y.strides[0],
        kernel.WEIGHT_CHANNEL: weight[0],
        kernel.TAPS: taps.ctypes.data,
        kernel.TAP_COUNT: count,
        kernel.HAS_BIAS: inputs - 2,
        kernel.JOBS: table.ctypes.data,
        kernel.JOB_COUNT: len(jobs),
        kernel.VECTORS: vectors.ctypes.data,
        kernel.SCRATCH: scratch.ctypes.data,
        kernel.SCRATCH_STRIDE: scratch_bytes,
    }
    return Plan(
        address,
        inputs=inputs,
        outputs=[spec],
        arguments=block_words(words, inputs + 1),
        rows=rows,
        tasks=tasks,
        keep=(taps, table, keep, vectors, scratch),
    )


def _job_table(
    jobs: Sequence[Job], x: Image, y: Image, size: int, inside: Callable[[Axis, int], NDArray[np.int64]]
) -> tuple[NDArray[np.int64], Any]:
    """The words of all jobs, and what they refer to."""
    x_steps, y_steps = ([stride * size for stride in image.strides[2:]] for image in (x, y))
    rows, keep, first_tap = [], [], 0
    for job in jobs:
        tables = [inside(axis, extent) for axis, extent in zip(job, x.size, strict=True)]
        gaps = [axis.tap_step * step for axis, step in zip(job, x_steps, strict=True)]
        places = list(itertools.product(*(range(axis.taps) for axis in job)))
        offsets = np.array([dot(place, gaps) for place in places] or [0], np.int64)
        keep.append((tables, offsets))
        rows.append(
            [
                *(axis.outputs for axis in job),
                *(table.ctypes.data for table in tables),
                dot([axis.input_first for axis in job], x_steps),
                *(axis.input_step * step for axis, step in zip(job, x_steps, strict=True)),
                dot([axis.output_first for axis in job], y_steps),
                *(axis.output_step * step for axis, step in zip(job, y_steps, strict=True)),
                *(axis.taps for axis in job),
                offsets.ctypes.data,
                first_tap,
            ]
        )
        first_tap += len(places)
    return np.array(rows, np.int64), keep


def _met(axis: Axis, size: int) -> NDArray[np.bool_]:
    """Whether an output, by row, meets the input with a tap, by column."""
    positions = np.arange(axis.outputs)[:, None] * axis.input_step + axis.input_first
    positions = positions + np.arange(axis.taps) * axis.tap_step
    return (positions >= 0) & (positions < size)


def _outputs_inside(axis: Axis, size: int) -> NDArray[np.int64]:
    """(first tap that meets the input, number of these) of every output."""
    return _runs(_met(axis, size))


def _taps_inside(axis: Axis, size: int) -> NDArray[np.int64]:
    """(first output that meets the input, number of these) of every tap."""
    return _runs(_met(axis, size).T)


def _runs(met: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Start and length of the one run of every row."""
    if not met.shape[1]:
        return np.zeros((len(met), 2), np.int64)
    return np.stack([met.argmax(1), met.sum(1)], 1).astype(np.int64)


@cache
def _kernel(name: str, make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
