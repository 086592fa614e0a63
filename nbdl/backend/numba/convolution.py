"""Convolutions of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.convolution`.

All three products of a convolution are planned as jobs over three axes, missing ones having length 1. Results lie
channels-last in memory, which is the layout that the kernels read in place; their shape is NumPy's. What the kernels do
not do (half precision, empty operands, an output given with channels apart) is left to NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.layout import Image, fresh_image, image_of, is_plain, three_axes
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.loops import row_major
from nbdl.backend.numba.matmul import tile_table
from nbdl.backend.numba.stages import Stage, block_words, scratch_memory, staged_plan
from nbdl.backend.windows import Pairs, Sizes, window_counts
from nbdl.kernels.cpu import convolution as kernel
from nbdl.kernels.cpu import convolution_weight
from nbdl.kernels.cpu.microkernel import tile_shape

__all__ = ["plan_convolution", "plan_convolution_input", "plan_convolution_weight"]

Array = NDArray[Any]

_REGION_BYTES = 256 * 1024  # of the input that a unit reads: half of a second-level cache
_BLOCK_BYTES = 512 * 1024  # of packed weights
_PARTIAL_BYTES = 256 * 1024 * 1024  # of the partial sums of all tasks
_TASK_FLOPS = 1_000_000  # work that is worth a task
_PAGE = 4096


class Axis(NamedTuple):
    """One axis of a job; the fields are the words of `nbdl.kernels.cpu.convolution`."""

    outputs: int
    output_first: int
    output_step: int
    input_first: int
    input_step: int
    taps: int
    tap_step: int
    weight_first: int
    weight_step: int

    @property
    def span(self) -> int:
        """Length of the input that the taps of one output cover."""
        return (self.taps - 1) * self.tap_step + 1


Job = tuple[Axis, Axis, Axis]


def has_taps(job: Job) -> bool:
    """Whether any tap meets the job's outputs."""
    return all(axis.taps for axis in job)


# ---- Planners ----


def plan_convolution(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
) -> Plan | None:
    """Plans the convolution of (x, weight) or (x, weight, bias), or returns None where NumPy has to do it."""
    if not _is_supported(inputs, outputs):
        return None
    x, weight, *bias = inputs
    if bias and bias[0].strides != (bias[0].itemsize,):
        return None
    counts = window_counts(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    shape = (x.shape[0], weight.shape[0], *counts)
    job = _forward_job(weight.shape[2:], stride, padding, dilation, counts)
    return _plan_correlation(inputs, outputs, shape, [job], groups, bool(bias))


def plan_convolution_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    size: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
) -> Plan | None:
    """Plans the transposed convolution of (y, weight), or returns None where NumPy has to do it."""
    if not _is_supported(inputs, outputs) or 0 in size:
        return None
    y, weight = inputs
    shape = (y.shape[0], weight.shape[1] * groups, *size)
    depth, height, width = (
        _phases(*axis) for axis in _three_axes(weight.shape[2:], stride, padding, dilation, size)
    )
    jobs = list(itertools.product(depth, height, width))
    return _plan_correlation(inputs, outputs, shape, jobs, groups, has_bias=False, swapped=True)


def plan_convolution_weight(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    kernel: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
) -> Plan | None:
    """Plans the gradient of the weight from (x, y), or returns None where NumPy has to do it."""
    if not _is_supported(inputs, outputs) or 0 in kernel:
        return None
    x, y = inputs
    shape = (y.shape[1], x.shape[1] // groups, *kernel)
    job = _forward_job(kernel, stride, padding, dilation, y.shape[2:])
    return _plan_weight(x, y, outputs, shape, job, groups)


# ---- Geometry ----


def _three_axes(kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, counts: Sizes) -> Iterator[tuple]:
    """(taps, stride, padding, dilation, count) of three axes."""
    values = (three_axes(kernel, 1), three_axes(stride, 1), three_axes(padding, (0, 0)), three_axes(dilation, 1))
    return zip(*values, three_axes(counts, 1), strict=True)


def _forward_job(kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, counts: Sizes) -> Job:
    """The windows as they are."""
    depth, height, width = (
        Axis(count, 0, 1, -pad[0], step, taps, gap, 0, 1)
        for taps, step, pad, gap, count in _three_axes(kernel, stride, padding, dilation, counts)
    )
    return depth, height, width


def _phases(taps: int, stride: int, padding: tuple[int, int], dilation: int, size: int) -> list[Axis]:
    """The transposed windows: elements of one phase of the stride meet the same taps, in descending order.

    Element i meets tap t of window o where i + padding = o * stride + t * dilation.
    """
    common = math.gcd(stride, dilation)
    phases = []
    for phase in range(min(stride, size)):
        met = [t for t in range(taps) if (phase + padding[0] - t * dilation) % stride == 0]
        last = met[-1] if met else 0
        phases.append(
            Axis(
                outputs=-(-(size - phase) // stride),
                output_first=phase,
                output_step=stride,
                input_first=(phase + padding[0] - last * dilation) // stride,
                input_step=1,
                taps=len(met),
                tap_step=dilation // common,
                weight_first=last,
                weight_step=-(stride // common),
            )
        )
    return phases


def _is_supported(inputs: Sequence[Array], outputs: Sequence[Array] | None) -> bool:
    dtype = inputs[0].dtype
    if dtype not in (np.float32, np.float64) or inputs[0].ndim > 5:
        return False
    return is_plain((*inputs, *(outputs or ())), dtype) and not any(x is out for out in outputs or () for x in inputs)


# ---- Splitting the work ----


class Parts(NamedTuple):
    """Into how many parts the outputs of every axis are cut."""

    depth: int
    height: int
    width: int


def _parts(jobs: Sequence[Job], item_bytes: int, groups: int, wanted: int) -> Parts:
    """Parts whose input stays in the cache, and enough of them to keep all tasks busy.

    Args:
        jobs: the jobs.
        item_bytes: bytes that are read for each position of the input.
        groups: into how many units the work falls anyway: images times blocks of filters.
        wanted: number of units that is enough.
    """
    depth, height, width = (max(job[axis].outputs for job in jobs) for axis in range(3))
    limit = _REGION_BYTES // item_bytes
    parts = Parts(depth, 1, 1)
    while parts.height < height and math.prod(_region(jobs, parts)) > limit:
        parts = parts._replace(height=min(height, 2 * parts.height))
    while parts.width < width and math.prod(_region(jobs, parts)) > limit:
        parts = parts._replace(width=min(width, 2 * parts.width))
    missing = -(-wanted // (groups * math.prod(parts)))
    if missing > 1:
        parts = parts._replace(height=min(height, missing * parts.height))
        missing = -(-wanted // (groups * math.prod(parts)))
    if missing > 1:
        parts = parts._replace(width=min(width, missing * parts.width))
    return parts


def _bounds(axis: Axis, parts: int) -> list[tuple[int, int]]:
    """First output of every part, and the one behind its last."""
    return [(k * axis.outputs // parts, (k + 1) * axis.outputs // parts) for k in range(parts)]


def _reaches(jobs: Sequence[Job], axis: int, parts: int) -> list[tuple[int, int]]:
    """For every part the range of the input along an axis that its outputs read; (0, 0) if nothing."""
    reaches = []
    for part in range(parts):
        low, high = [], []
        for job in jobs:
            first, end = _bounds(job[axis], parts)[part]
            if first < end and has_taps(job):
                low.append(job[axis].input_first + first * job[axis].input_step)
                high.append(job[axis].input_first + (end - 1) * job[axis].input_step + job[axis].span)
        reaches.append((min(low, default=0), max(high, default=0)))
    return reaches


def _region(jobs: Sequence[Job], parts: Parts) -> Sizes:
    """Sizes of the largest box of the input that a piece reads."""
    return tuple(max(end - first for first, end in _reaches(jobs, axis, parts[axis])) for axis in range(3))


def _tasks(flops: float, units: int) -> int:
    return max(1, min(threads.get_num_threads(), units, int(flops // _TASK_FLOPS)))


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _is_direct(image: Image, jobs: Sequence[Job]) -> bool:
    """Whether the kernel can read the input in place."""
    return image.has_adjacent_channels and all(
        first >= 0 and end <= image.size[axis] for axis in range(3) for first, end in _reaches(jobs, axis, 1)
    )


# ---- Tables ----


class Source(NamedTuple):
    """The input as the micro-kernel sees it: the array, or a copy of the part that a piece reads."""

    is_direct: bool
    strides: Sizes  # depth, height, width
    bytes: int  # of the copy


def _source(image: Image, jobs: Sequence[Job], parts: Parts, channels: int, itemsize: int) -> Source:
    if _is_direct(image, jobs):
        return Source(True, image.strides[2:], 0)
    region = _region(jobs, parts)
    strides = (region[1] * region[2] * channels, region[2] * channels, channels)
    return Source(False, strides, _pages(region[0] * strides[0] * itemsize))


def _piece_table(
    jobs: Sequence[Job], parts: Parts, image: Image, source: Source, result: Image
) -> NDArray[np.int64]:
    """One row a piece, see `PIECE_...` and `PART_...`."""
    reaches = [_reaches(jobs, axis, parts[axis]) for axis in range(3)]
    bounds = [[_bounds(job[axis], parts[axis]) for axis in range(3)] for job in jobs]
    region_size = source.strides[0] * _region(jobs, parts)[0]
    rows = []
    for piece in itertools.product(*map(range, parts)):
        lows, ends = zip(*(reaches[axis][part] for axis, part in enumerate(piece)), strict=True)
        inside = [(max(low, 0), min(end, n)) for low, end, n in zip(lows, ends, image.size, strict=True)]
        box = [max(0, end - low) for low, end in inside]
        is_whole = all(low == inner[0] and end == inner[1] for low, end, inner in zip(lows, ends, inside, strict=True))
        row = [0 if is_whole or source.is_direct else region_size]
        row += [dot([low for low, _ in inside], image.strides[2:])]
        row += [dot([inner[0] - low for inner, low in zip(inside, lows, strict=True)], source.strides)]
        row += box if min(box) > 0 else [0, 0, 0]
        origin = (0, 0, 0) if source.is_direct else lows
        for job, job_bounds in zip(jobs, bounds, strict=True):
            first, end = zip(*(job_bounds[axis][part] for axis, part in enumerate(piece)), strict=True)
            taps = [a.input_first + k * a.input_step - low for a, k, low in zip(job, first, origin, strict=True)]
            outputs = [a.output_first + k * a.output_step for a, k in zip(job, first, strict=True)]
            row += [dot(taps, source.strides), dot(outputs, result.strides[2:])]
            row += [e - f for f, e in zip(first, end, strict=True)]
        rows.append(row)
    return np.array(rows, np.int64)


def dot(x: Sequence[int], y: Sequence[int]) -> int:
    """The offset of a position."""
    return sum(a * b for a, b in zip(x, y, strict=True))


class _JobTable(NamedTuple):
    words: NDArray[np.int64]
    passes: list[NDArray[np.int64]]  # the words refer to them


def _job_table(
    jobs: Sequence[Job], channels: int, source: Source, result: Image, sums_runs: bool
) -> _JobTable:
    """One row a job, see `JOB_...`.

    Args:
        jobs: the jobs.
        channels: of a group of the input.
        source: the input.
        result: the output.
        sums_runs: whether the micro-kernel sums several runs of taps; otherwise each is a pass.
    """
    rows, tables = [], []
    for job in jobs:
        steps = [axis.tap_step * stride for axis, stride in zip(job, source.strides, strict=True)]
        taps = [axis.taps for axis in job]
        # The taps of a row are one run if they are neighbours; the runs of the next axis are summed by the micro-kernel.
        run = channels
        if steps[2] == channels or taps[2] == 1:
            run, taps, steps = channels * taps[2], taps[:2], steps[:2]
        runs, run_stride = (taps.pop(), steps.pop()) if sums_runs else (1, 0)
        passes = [dot(position, steps) for position in itertools.product(*map(range, taps))]
        if not has_taps(job):
            passes = []
        table = np.array(passes or [0], np.int64)
        row = [axis.input_step * stride for axis, stride in zip(job, source.strides, strict=True)]
        row += [axis.output_step * stride for axis, stride in zip(job, result.strides[2:], strict=True)]
        rows.append([*row, run, runs, run_stride, table.ctypes.data, len(passes)])
        tables.append(table)
    return _JobTable(np.array(rows, np.int64), tables)


def _weight_taps(jobs: Sequence[Job], strides: Sizes) -> NDArray[np.int64]:
    """Offsets in the weight of the taps of all jobs, in the order in which the jobs take them."""
    offsets = []
    for job in jobs:
        for position in itertools.product(*(range(axis.taps) for axis in job)):
            tap = [axis.weight_first + k * axis.weight_step for axis, k in zip(job, position, strict=True)]
            offsets.append(dot(tap, strides))
    return np.array(offsets or [0], np.int64)


# ---- Plans ----


def _plan_correlation(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    shape: Sizes,
    jobs: Sequence[Job],
    groups: int,
    has_bias: bool,
    swapped: bool = False,
) -> Plan | None:
    """The convolution; with ``swapped`` filters and channels of the weight change places."""
    x, weight = inputs[0], inputs[1]
    dtype, itemsize = x.dtype, x.itemsize
    image = image_of(x)
    result, spec = fresh_image(shape, dtype, channels_last=True)
    if outputs is not None:
        result = image_of(outputs[0])
    if not result.has_adjacent_channels:
        return None
    weight_filter, weight_channel, *tap_strides = (stride // itemsize for stride in weight.strides)
    weight_group = weight.shape[0] // groups * weight_filter
    if swapped:
        weight_filter, weight_channel = weight_channel, weight_filter
    channels, filters = image.channels // groups, result.channels // groups
    taps = _weight_taps(jobs, three_axes(tap_strides, 0))
    tap_count = sum(math.prod(axis.taps for axis in job) for job in jobs)
    panel = tile_shape(dtype).columns
    panel_bytes = tap_count * channels * panel * itemsize
    block = min(-(-filters // panel), max(1, _BLOCK_BYTES // max(1, panel_bytes))) * panel
    blocks = -(-filters // block)
    flops = _flops(jobs, image.batch * channels * result.channels)
    most = _tasks(flops, 1 << 30)
    images = image.batch * groups * blocks
    parts = _parts(jobs, channels * itemsize, images, 4 * most if most > 1 else 1)
    units = images * math.prod(parts)
    tasks = _tasks(flops, units)
    source = _source(image, jobs, parts, channels, itemsize)
    packed_bytes = _pages(block // panel * panel_bytes)
    scratch = scratch_memory(tasks * (packed_bytes + source.bytes))
    words, keep = _common_words(jobs, parts, groups, image, source, result, sums_runs=True)
    words |= {
        kernel.FILTERS: filters,
        kernel.BLOCK: block,
        kernel.BLOCKS: blocks,
        kernel.WEIGHT_GROUP: weight_group,
        kernel.WEIGHT_FILTER: weight_filter,
        kernel.WEIGHT_CHANNEL: weight_channel,
        kernel.TAPS: taps.ctypes.data,
        kernel.TAP_COUNT: tap_count,
        kernel.HAS_BIAS: int(has_bias),
        kernel.TILES: tile_table(dtype).ctypes.data,
        kernel.SCRATCH: scratch.ctypes.data,
        kernel.SCRATCH_STRIDE: packed_bytes + source.bytes,
        kernel.REGION: packed_bytes,
    }
    return Plan(
        _kernel("correlation", kernel.make_correlation, dtype),
        inputs=len(inputs),
        outputs=[spec],
        arguments=block_words(words, len(inputs) + 1),
        rows=units,
        tasks=tasks,
        keep=(keep, taps, scratch),
    )


def _plan_weight(
    x: Array, y: Array, outputs: Sequence[Array] | None, shape: Sizes, job: Job, groups: int
) -> Plan:
    """The gradient of the weight."""
    dtype, itemsize = x.dtype, x.itemsize
    image, gradient = image_of(x), image_of(y)
    channels, filters, size = image.channels // groups, gradient.channels // groups, math.prod(shape)
    flops = _flops([job], image.batch * channels * gradient.channels)
    most = max(1, min(_tasks(flops, 1 << 30), _PARTIAL_BYTES // (size * itemsize)))
    parts = _parts([job], (channels + filters) * itemsize, image.batch, 4 * most if most > 1 else 1)
    units = image.batch * math.prod(parts)
    tasks = min(most, units)
    source = _source(image, [job], parts, channels, itemsize)
    outputs_of_piece = math.prod(-(-axis.outputs // count) for axis, count in zip(job, parts, strict=True))
    y_bytes = 0 if gradient.has_adjacent_channels else _pages(outputs_of_piece * filters * itemsize)
    partial_bytes = _pages(size * itemsize)
    scratch = scratch_memory(tasks * (source.bytes + y_bytes + partial_bytes))
    strides = row_major(shape) if outputs is None else [stride // itemsize for stride in outputs[0].strides]
    taps = _weight_taps([job], three_axes(strides[2:], 0))
    words, keep = _common_words([job], parts, groups, image, source, gradient, sums_runs=False)
    words |= {
        kernel.FILTERS: filters,
        kernel.Y_GROUP: filters * gradient.strides[1],
        kernel.Y_CHANNEL: gradient.strides[1],
        kernel.IS_Y_DIRECT: int(gradient.has_adjacent_channels),
        kernel.WEIGHT_GROUP: filters * strides[0],
        kernel.WEIGHT_FILTER: strides[0],
        kernel.WEIGHT_CHANNEL: strides[1],
        kernel.TAPS: taps.ctypes.data,
        kernel.TAP_COUNT: len(taps),
        kernel.TILES: tile_table(dtype).ctypes.data,
        kernel.SCRATCH: scratch.ctypes.data + tasks * partial_bytes,
        kernel.SCRATCH_STRIDE: source.bytes + y_bytes,
        kernel.REGION_Y: source.bytes,
        kernel.PARTIALS: scratch.ctypes.data,
        kernel.PARTIAL_COUNT: tasks,
        kernel.PARTIAL_SIZE: size,
    }
    stages = [
        Stage(_kernel("weight_partial_sums", convolution_weight.make_partial_sums, dtype), units, tasks),
        Stage(_kernel("weight_total", convolution_weight.make_total, dtype), groups * filters, tasks),
    ]
    spec = OutputSpec(shape, dtype)
    return staged_plan(stages, inputs=2, outputs=[spec], words=words, keep=(keep, taps, scratch))


def _common_words(
    jobs: Sequence[Job], parts: Parts, groups: int, image: Image, source: Source, result: Image, *, sums_runs: bool
) -> tuple[dict[int, int], Any]:
    """The words of input, output, jobs and pieces, and what they refer to."""
    channels = image.channels // groups
    pieces = _piece_table(jobs, parts, image, source, result)
    table = _job_table(jobs, channels, source, result, sums_runs)
    words = {
        kernel.BATCH: image.batch,
        kernel.GROUPS: groups,
        kernel.CHANNELS: channels,
        kernel.X_IMAGE: image.strides[0],
        kernel.X_GROUP: channels * image.strides[1],
        kernel.X_CHANNEL: 1 if image.has_adjacent_channels else image.strides[1],
        kernel.IS_DIRECT: int(source.is_direct),
        kernel.COPY_DEPTH: source.strides[0],
        kernel.COPY_HEIGHT: source.strides[1],
        kernel.Y_IMAGE: result.strides[0],
        kernel.PIECES: pieces.ctypes.data,
        kernel.PIECE_COUNT: len(pieces),
        kernel.JOBS: table.words.ctypes.data,
        kernel.JOB_COUNT: len(jobs),
    }
    words |= dict(enumerate(image.strides[2:], kernel.X_DEPTH)) | dict(enumerate(result.strides[2:], kernel.Y_DEPTH))
    return words, (pieces, table)


def _flops(jobs: Sequence[Job], products: int) -> float:
    return 2.0 * products * sum(math.prod(axis.taps * axis.outputs for axis in job) for job in jobs)


@cache
def _kernel(name: str, make: Callable[[Any], Callable[..., Any]], dtype: np.dtype) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
