"""Depthwise convolutions of planes: plans for the kernels of `nbdl.kernels.cpu.depthwise_planes`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.convolution_geometry import Job, flops_of, pages, weight_taps
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import Image, three_axes
from nbdl.backend.numba.loops import row_major
from nbdl.backend.numba.stages import block_words, scratch_memory
from nbdl.backend.windows import Sizes
from nbdl.kernels.cpu import depthwise_planes as kernel
from nbdl.kernels.cpu.microkernel import tile_shape

__all__ = ["plan_plane_outputs", "plan_plane_weight"]

Array = NDArray[Any]

_TASK_FLOPS = 100_000  # work that is worth a task


class _Copy(NamedTuple):
    """The copy of a plane: its words, strides and bytes; `first` is the position that it begins with."""

    words: dict[int, int]
    strides: Sizes
    first: Sizes
    pitch: int  # bytes of a phase of a line
    bytes: int
    keep: Any


def plan_plane_outputs(
    jobs: Sequence[Job], x: Image, y: Image, weight: Array, spec: OutputSpec, has_bias: bool = False
) -> Plan:
    """Plans the outputs y of x, whose lines are adjacent in memory.

    Args:
        jobs: The convolution, or the phases of its transpose.
        x: What the windows are read from.
        y: The result.
        weight: The weight, (channels, 1, *kernel).
        spec: What the plan allocates.
        has_bias: Whether the operands are (x, weight, bias) instead of (x, weight).
    """
    dtype, size = spec.dtype, spec.dtype.itemsize
    step = jobs[0][2].output_step
    source = _copy_of_input(jobs, x, size)
    target = _copy_of_lines(y, step, size)
    strides = target.strides if step > 1 else tuple(stride * size for stride in y.strides[2:])
    table, keep = _job_table(jobs, source, strides, target.pitch if step > 1 else size, size)
    channel, _, *steps = (stride // size for stride in weight.strides)
    taps = weight_taps(jobs, three_axes(steps, 0))
    count = sum(math.prod(axis.taps for axis in job) for job in jobs)
    words = {
        kernel.WEIGHT_CHANNEL: channel,
        kernel.HAS_BIAS: int(has_bias),
        kernel.JOB_COUNT: len(jobs),
        kernel.COPIES_Y: int(step > 1),
    }
    return _plan(
        _kernel("depthwise_plane_outputs", kernel.make_plane_outputs, dtype), words,
        (x, source), (y, target), (table, keep), (taps, count), count + 1, spec, 2 + has_bias,
        x.batch * x.channels, flops_of(jobs, x.batch * x.channels))  # fmt: skip


def plan_plane_weight(x: Image, y: Image, shape: Sizes, job: Job, dtype: np.dtype[Any]) -> Plan:
    """Plans the gradient of a weight of this shape, from the input and the gradient y of the output."""
    size = dtype.itemsize
    source, target = _copy_of_input([job], x, size), _copy_of_lines(y, 1, size)
    is_direct = y.strides[4] == 1 or y.size[2] == 1
    strides = tuple(stride * size for stride in y.strides[2:]) if is_direct else target.strides
    table, keep = _job_table([job], source, strides, size, size)
    channel, _, *steps = row_major(shape)
    taps = weight_taps([job], three_axes(steps, 0))
    words = {kernel.WEIGHT_CHANNEL: channel, kernel.COPIES_Y: int(not is_direct)}
    return _plan(
        _kernel("depthwise_plane_weight", kernel.make_plane_weight, dtype), words,
        (x, source), (y, target), (table, keep), (taps, len(taps)), len(taps) * x.channels,
        OutputSpec(shape, dtype), 2, x.channels, flops_of([job], x.batch * x.channels))  # fmt: skip


def _plan(
    address: int,
    words: dict[int, int],
    x: tuple[Image, _Copy],
    y: tuple[Image, _Copy],
    jobs: tuple[Array, Any],
    taps: tuple[Array, int],
    vectors: int,
    spec: OutputSpec,
    inputs: int,
    rows: int,
    flops: float,
) -> Plan:
    """A plan whose tasks have so many vectors of scratch memory, and the copies."""
    tasks = max(1, min(threads.get_num_threads(), rows, int(flops // _TASK_FLOPS)))
    copy_y = pages(x[1].bytes)
    sums = copy_y + pages(y[1].bytes)
    scratch_bytes = sums + pages(vectors * tile_shape(spec.dtype).lanes * spec.dtype.itemsize)
    scratch = scratch_memory(tasks * scratch_bytes)
    words |= {
        kernel.CHANNELS: x[0].channels,
        kernel.BATCH: x[0].batch,
        kernel.TAPS: taps[0].ctypes.data,
        kernel.TAP_COUNT: taps[1],
        kernel.JOBS: jobs[0].ctypes.data,
        kernel.SCRATCH: scratch.ctypes.data,
        kernel.SCRATCH_STRIDE: scratch_bytes,
        kernel.COPY_BYTES: x[1].bytes,
        kernel.COPY_Y: copy_y,
        kernel.SUMS: sums,
    }
    for first, (image, plane) in ((kernel.X, x), (kernel.Y, y)):
        words |= dict(enumerate(image.strides, first + kernel.IMAGE))
        words |= {first + word: value for word, value in plane.words.items()}
    return Plan(
        address,
        inputs=inputs,
        outputs=[spec],
        arguments=block_words(words, inputs + 1),
        rows=rows,
        tasks=tasks,
        keep=(x[1].keep, y[1].keep, jobs, taps, scratch),
    )


def _copy_of_input(jobs: Sequence[Job], x: Image, size: int) -> _Copy:
    """A copy of all that windows meet, zeros outside of the plane included."""
    axes = list(zip(*jobs, strict=True))
    first = tuple(min(axis.input_first for axis in group) for group in axes)
    last = [
        max(a.input_first + (a.outputs - 1) * a.input_step + max(a.span, 1) for a in group) for group in axes
    ]
    depths, heights, widths = (end - begin for begin, end in zip(first, last, strict=True))
    step = jobs[0][2].input_step
    pitch = -(-widths // step) * size
    strides = (heights * step * pitch, step * pitch, size)
    begin = [max(0, place) for place in first]
    count = [max(0, min(end, extent) - start) for end, extent, start in zip(last, x.size, begin, strict=True)]
    before = [start - place for start, place in zip(begin, first, strict=True)]
    phases = []
    for phase in range(step):
        element = (phase - before[2]) % step
        place = before[0] * strides[0] + before[1] * strides[1] + phase * pitch
        place += (before[2] + element) // step * size
        phases.append((element, max(0, -(-(count[2] - element) // step)), place))
    table = np.array(phases, np.int64)
    offset = sum(start * stride for start, stride in zip(begin, x.strides[2:], strict=True))
    # Vectors at the end of the last line reach beyond it.
    extent = depths * strides[0] + tile_shape(np.dtype(f"f{size}")).lanes * size
    return _Copy(_words_of(offset, count, table, strides), strides, first, pitch, extent, table)


def _copy_of_lines(y: Image, step: int, size: int) -> _Copy:
    """A copy of nothing but the plane, its columns by their remainder of `step`."""
    depth, height, width = y.size
    pitch = -(-width // step) * size
    strides = (height * step * pitch, step * pitch, size)
    phases = [(phase, max(0, -(-(width - phase) // step)), phase * pitch) for phase in range(step)]
    table = np.array(phases, np.int64)
    return _Copy(_words_of(0, y.size, table, strides), strides, (0, 0, 0), pitch, depth * strides[0], table)


def _words_of(offset: int, count: Sequence[int], table: Array, strides: Sizes) -> dict[int, int]:
    return {
        kernel.FIRST: offset,
        kernel.DEPTHS: count[0],
        kernel.HEIGHTS: count[1],
        kernel.PHASES: table.ctypes.data,
        kernel.STEP: len(table),
        kernel.COPY_DEPTH: strides[0],
        kernel.COPY_HEIGHT: strides[1],
    }


def _job_table(
    jobs: Sequence[Job], source: _Copy, strides: Sizes, phase_bytes: int, size: int
) -> tuple[NDArray[np.int64], Any]:
    """The words of all jobs; `strides`, and `phase_bytes` between phases of the width, are those of y."""
    rows, keep, weights = [], [], 0
    for job in jobs:
        depth, height, width = job
        offsets = [
            _offset(source, job, place, size) for place in itertools.product(*(range(a.taps) for a in job))
        ]
        table = np.array(offsets or [0], np.int64)
        keep.append(table)
        to = (
            depth.output_first * strides[0]
            + height.output_first * strides[1]
            + width.output_first * phase_bytes
        )
        rows.append(
            (
                *(axis.outputs for axis in job),
                depth.input_step * source.strides[0],
                height.input_step * source.strides[1],
                to,
                depth.output_step * strides[0],
                height.output_step * strides[1],
                len(offsets),
                table.ctypes.data,
                weights,
            )
        )
        weights += len(offsets) * tile_shape(np.dtype(f"f{size}")).lanes * size
    return np.array(rows, np.int64), keep


def _offset(source: _Copy, job: Job, tap: Sequence[int], size: int) -> int:
    """Bytes from the first element of the copy to what the first window meets at a tap."""
    d, h, w = (
        axis.input_first - first + k * axis.tap_step
        for axis, first, k in zip(job, source.first, tap, strict=True)
    )
    step = job[2].input_step
    return d * source.strides[0] + h * source.strides[1] + w % step * source.pitch + w // step * size


@cache
def _kernel(name: str, make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
