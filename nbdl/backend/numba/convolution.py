"""Convolutions of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.convolution`.

All three products of a convolution are planned as jobs over three axes, missing ones having length 1.
Results lie channels-last in memory, which is the layout that the kernels read in place; their shape is
NumPy's. What the kernels do not do (half precision, empty operands, an output given with channels apart)
is left to NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import threads, winograd
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.convolution_geometry import (
    Job,
    Parts,
    Source,
    axes_of_windows,
    cut_into_parts,
    flops_of,
    forward_job,
    job_table,
    pages,
    piece_table,
    source_of,
    transposed_axis,
    weight_taps,
)
from nbdl.backend.numba.depthwise import has_lanes, plan_channel_outputs, plan_channel_weight
from nbdl.backend.numba.depthwise_planes import plan_plane_outputs, plan_plane_weight
from nbdl.backend.numba.epilogues import Epilogue
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import Image, fresh_image, image_of, is_plain, three_axes
from nbdl.backend.numba.loops import row_major
from nbdl.backend.numba.matmul import tile_table
from nbdl.backend.numba.stages import Stage, block_words, scratch_memory, staged_plan
from nbdl.backend.windows import Pairs, Sizes, window_counts
from nbdl.kernels.cpu import convolution as kernel
from nbdl.kernels.cpu import convolution_weight
from nbdl.kernels.cpu.microkernel import tile_shape

__all__ = [
    "plan_convolution",
    "plan_convolution_input",
    "plan_convolution_weight",
    "plan_ending_convolution",
    "plan_ending_convolution_input",
]

Array = NDArray[Any]

_BLOCK_BYTES = 512 * 1024  # of packed weights
_PARTIAL_BYTES = 256 * 1024 * 1024  # of the partial sums of all tasks
_TASK_FLOPS = 1_000_000  # work that is worth a task


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
    return plan_ending_convolution(
        inputs, outputs, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


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
    return plan_ending_convolution_input(
        inputs, outputs, size=size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def plan_ending_convolution(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
    epilogue: Epilogue | None = None,
) -> Plan | None:
    """As `plan_convolution`, with an epilogue; None also where the kernels cannot call it."""
    if not _is_supported(inputs, outputs):
        return None
    x, weight, *bias = inputs
    if bias and bias[0].strides != (bias[0].itemsize,):
        return None
    counts = window_counts(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    shape = (x.shape[0], weight.shape[0], *counts)
    job = forward_job(weight.shape[2:], stride, padding, dilation, counts)
    if outputs is None and 1 < groups == x.shape[1] == weight.shape[0]:
        return None if epilogue else _plan_depthwise([job], x, shape, weight, bool(bias))
    return _plan_correlation(inputs, outputs, shape, [job], groups, bool(bias), epilogue=epilogue)


def plan_ending_convolution_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    size: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
    epilogue: Epilogue | None = None,
) -> Plan | None:
    """As `plan_convolution_input`, with an epilogue; None also where the kernels cannot call it."""
    if not _is_supported(inputs, outputs) or 0 in size:
        return None
    y, weight = inputs
    shape = (y.shape[0], weight.shape[1] * groups, *size)
    depth, height, width = (
        transposed_axis(*axis) for axis in axes_of_windows(weight.shape[2:], stride, padding, dilation, size)
    )
    jobs = list(itertools.product(depth, height, width))
    if outputs is None and 1 < groups == y.shape[1] == shape[1]:
        return None if epilogue else _plan_depthwise(jobs, y, shape, weight, has_bias=False)
    return _plan_correlation(
        inputs, outputs, shape, jobs, groups, has_bias=False, swapped=True, epilogue=epilogue
    )


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
    job = forward_job(kernel, stride, padding, dilation, y.shape[2:])
    if outputs is None and 1 < groups == x.shape[1] == y.shape[1]:
        image, gradient = image_of(x), image_of(y)
        plan = plan_channel_weight if has_lanes(image, gradient, x.dtype) else plan_plane_weight
        return plan(image, gradient, shape, job, x.dtype)
    return _plan_weight(x, y, outputs, shape, job, groups)


def _is_supported(inputs: Sequence[Array], outputs: Sequence[Array] | None) -> bool:
    dtype = inputs[0].dtype
    if dtype not in (np.float32, np.float64) or inputs[0].ndim > 5:
        return False
    return is_plain((*inputs, *(outputs or ())), dtype) and not any(
        x is out for out in outputs or () for x in inputs
    )


# ---- Splitting the work ----


def _tasks(flops: float, units: int) -> int:
    return max(1, min(threads.get_num_threads(), units, int(flops // _TASK_FLOPS)))


# ---- Plans ----


def _plan_depthwise(jobs: Sequence[Job], x: Array, shape: Sizes, weight: Array, has_bias: bool) -> Plan:
    """A filter a channel: the result lies in memory as x does."""
    image = image_of(x)
    result, spec = fresh_image(shape, x.dtype, channels_last=True)
    if has_lanes(image, result, x.dtype):
        return plan_channel_outputs(jobs, image, result, weight, spec, has_bias)
    result, spec = fresh_image(shape, x.dtype, channels_last=False)
    return plan_plane_outputs(jobs, image, result, weight, spec, has_bias)


def _plan_correlation(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    shape: Sizes,
    jobs: Sequence[Job],
    groups: int,
    has_bias: bool,
    swapped: bool = False,
    epilogue: Epilogue | None = None,
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
    if len(jobs) == 1 and winograd.pays(jobs[0], image, result, groups, dtype):
        return winograd.plan_outputs(jobs[0], image, result, weight, swapped, spec, has_bias, epilogue)
    weight_filter, weight_channel, *tap_strides = (stride // itemsize for stride in weight.strides)
    weight_group = weight.shape[0] // groups * weight_filter
    if swapped:
        weight_filter, weight_channel = weight_channel, weight_filter
    channels, filters = image.channels // groups, result.channels // groups
    taps = weight_taps(jobs, three_axes(tap_strides, 0))
    tap_count = sum(math.prod(axis.taps for axis in job) for job in jobs)
    tile = tile_shape(dtype)
    panel = tile.lanes if filters <= tile.lanes else tile.columns
    panel_bytes = tap_count * channels * panel * itemsize
    block = min(-(-filters // panel), max(1, _BLOCK_BYTES // max(1, panel_bytes))) * panel
    blocks = -(-filters // block)
    flops = flops_of(jobs, image.batch * channels * result.channels)
    most = _tasks(flops, 1 << 30)
    images = image.batch * groups * blocks
    parts = cut_into_parts(jobs, channels * itemsize, images, 4 * most if most > 1 else 1)
    if epilogue is not None and (len(jobs) > 1 or groups * blocks > 1 or parts.width > 1):
        return None  # the lines of the output are not finished at once
    units = images * math.prod(parts)
    tasks = _tasks(flops, units)
    source = source_of(image, jobs, parts, channels, itemsize)
    packed_bytes = pages(block // panel * panel_bytes)
    scratch = scratch_memory(tasks * (packed_bytes + source.bytes))
    words, keep = _common_words(jobs, parts, groups, image, source, result, sums_runs=True)
    words |= {
        kernel.FILTERS: filters,
        kernel.BLOCK: block,
        kernel.PANEL: panel,
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
        **dict(enumerate(epilogue or (0, 0, 0), kernel.EPILOGUE)),
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
    strides = row_major(shape) if outputs is None else [stride // itemsize for stride in outputs[0].strides]
    spec = OutputSpec(shape, dtype)
    if winograd.pays(job, image, gradient, groups, dtype, of_weight=True):
        return winograd.plan_weight(job, image, gradient, strides, spec)
    channels, filters, size = image.channels // groups, gradient.channels // groups, math.prod(shape)
    flops = flops_of([job], image.batch * channels * gradient.channels)
    most = max(1, min(_tasks(flops, 1 << 30), _PARTIAL_BYTES // (size * itemsize)))
    parts = cut_into_parts([job], (channels + filters) * itemsize, image.batch, 4 * most if most > 1 else 1)
    units = image.batch * math.prod(parts)
    tasks = min(most, units)
    source = source_of(image, [job], parts, channels, itemsize)
    outputs_of_piece = math.prod(-(-axis.outputs // count) for axis, count in zip(job, parts, strict=True))
    y_bytes = 0 if gradient.has_adjacent_channels else pages(outputs_of_piece * filters * itemsize)
    partial_bytes = pages(size * itemsize)
    scratch = scratch_memory(tasks * (source.bytes + y_bytes + partial_bytes))
    taps = weight_taps([job], three_axes(strides[2:], 0))
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
    return staged_plan(stages, inputs=2, outputs=[spec], words=words, keep=(keep, taps, scratch))


def _common_words(
    jobs: Sequence[Job],
    parts: Parts,
    groups: int,
    image: Image,
    source: Source,
    result: Image,
    *,
    sums_runs: bool,
) -> tuple[dict[int, int], Any]:
    """The words of input, output, jobs and pieces, and what they refer to."""
    channels = image.channels // groups
    pieces = piece_table(jobs, parts, image, source, result)
    table = job_table(jobs, channels, source, result, sums_runs)
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
    words |= dict(enumerate(image.strides[2:], kernel.X_DEPTH)) | dict(
        enumerate(result.strides[2:], kernel.Y_DEPTH)
    )
    return words, (pieces, table)


@cache
def _kernel(name: str, make: Callable[[Any], Callable[..., Any]], dtype: np.dtype) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
