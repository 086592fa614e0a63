"""Convolutions of 3x3 taps by Winograd's method: plans for the kernels of `nbdl.kernels.cpu.winograd`.

They need a quarter of the products, and are planned where that pays: float32, stride 1, no dilation, one
group, adjacent channels, and enough channels and filters that the transforms are a small part of the work.

Rounding: on normally distributed data an output differs from the exact one by less than
`8 eps max |x| sum |w|`, with the maximum over the inputs of its tile (2 eps was the most that was seen), and
the largest error is less than five times that of the direct method, mostly 1.1 to 2 times. A value that is
not finite makes all outputs of its tile NaN. `nbdl.backends.numba.winograd = False` plans only direct
convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl import config
from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.convolution_geometry import Job, pages
from nbdl.backend.numba.epilogues import Epilogue
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import Image
from nbdl.backend.numba.matmul import tile_table
from nbdl.backend.numba.stages import Stage, scratch_memory, staged_plan
from nbdl.kernels.cpu import winograd as kernel
from nbdl.kernels.cpu import winograd_tiles as words_of
from nbdl.kernels.cpu.microkernel import tile_shape

__all__ = ["pays", "plan_outputs", "plan_weight"]

Array = NDArray[Any]

# Measured: see `pays`.
_LEAST_CHANNELS = 16  # which is also the longest vector of the kernels
_LEAST_TILES = 32
_WEIGHTS_A_TILE = 2048
_WEIGHT_SUMS_A_TILE = 512
_SUMS_BYTES = 256 * 1024 * 1024  # of all tasks
# Of the transformed tiles of a task: they share its second-level cache with the weight, where that fits.
_TILE_BYTES, _TILE_BYTES_ALONE = 192 * 1024, 768 * 1024
_CACHED_WEIGHT_BYTES = 640 * 1024


def pays(job: Job, x: Image, y: Image, groups: int, dtype: np.dtype[Any], of_weight: bool = False) -> bool:
    """Whether a convolution from x to y, or one of its transposes, is faster this way.

    The direct kernels win with few channels, where the transforms take longer than the products they save,
    and with few tiles, for which the weight, or the sums of its gradient, are not worth transforming. Beyond
    the thresholds, gains of 1.1 to 2.7 were measured (Zen 5, channels 16 to 512, images 5x5 to 64x64).
    """
    depth, *plane = job
    fits = depth.outputs == 1 == depth.taps and all(
        axis.taps == 3 and axis.tap_step == axis.input_step == axis.output_step == 1 for axis in plane
    )
    if not fits or groups > 1 or dtype != np.float32 or not config.WINOGRAD.value:
        return False
    if not x.strides[1] == y.strides[1] == 1 or min(x.channels, y.channels) < _LEAST_CHANNELS:
        return False
    tiles = x.batch * math.prod(axis.outputs for axis in plane) // words_of.TILE**2
    weights = x.channels * y.channels
    if of_weight and words_of.VALUES * weights * dtype.itemsize > _SUMS_BYTES // threads.get_num_threads():
        return False
    most = _WEIGHT_SUMS_A_TILE if of_weight else _WEIGHTS_A_TILE
    return tiles >= _LEAST_TILES and weights <= tiles * most


def plan_outputs(
    job: Job,
    x: Image,
    y: Image,
    weight: Array,
    swapped: bool,
    spec: OutputSpec,
    has_bias: bool,
    epilogue: Epilogue | None = None,
) -> Plan:
    """Plans the outputs y of x; with ``swapped`` filters and channels of the weight change places."""
    dtype = spec.dtype
    steps = [stride // dtype.itemsize for stride in weight.strides]
    if swapped:
        steps[:2] = steps[1::-1]
    panel = tile_shape(dtype).columns
    panels = -(-y.channels // panel)
    values = pages(words_of.VALUES * panels * panel * x.channels * dtype.itemsize)
    words, bands, tasks, task_bytes = _common(job, x, y, dtype)
    scratch = scratch_memory(values + tasks * task_bytes)
    first = [axis.weight_first for axis in job[1:]]
    words |= {
        words_of.WEIGHT_FILTER: steps[0],
        words_of.WEIGHT_CHANNEL: steps[1],
        words_of.WEIGHT_HEIGHT: steps[2] * job[1].weight_step,
        words_of.WEIGHT_WIDTH: steps[3] * job[2].weight_step,
        words_of.WEIGHT_FIRST: first[0] * steps[2] + first[1] * steps[3],
        words_of.HAS_BIAS: int(has_bias),
        **dict(enumerate(epilogue or (0, 0, 0), words_of.EPILOGUE)),
        words_of.WEIGHT_VALUES: scratch.ctypes.data,
        words_of.SCRATCH: scratch.ctypes.data + values,
    }
    stages = [
        Stage(_kernel("winograd_weight_values", kernel.make_weight_values, dtype), panels, tasks),
        Stage(_kernel("winograd_outputs", kernel.make_outputs, dtype), bands, tasks),
    ]
    return staged_plan(stages, inputs=2 + has_bias, outputs=[spec], words=words, keep=scratch)


def plan_weight(job: Job, x: Image, y: Image, strides: Sequence[int], spec: OutputSpec) -> Plan:
    """Plans the gradient of the weight from x and the gradient y of the output.

    Args:
        job: the windows.
        x: the input.
        y: the gradient of the output.
        strides: of the result, in elements.
        spec: the result.
    """
    dtype = spec.dtype
    words, bands, tasks, task_bytes = _common(job, x, y, dtype)
    sums = pages(tasks * words_of.VALUES * x.channels * y.channels * dtype.itemsize)
    scratch = scratch_memory(sums + tasks * task_bytes)
    words |= {
        words_of.WEIGHT_FILTER: strides[0],
        words_of.WEIGHT_CHANNEL: strides[1],
        words_of.WEIGHT_HEIGHT: strides[2],
        words_of.WEIGHT_WIDTH: strides[3],
        words_of.PARTIALS: scratch.ctypes.data,
        words_of.PARTIAL_COUNT: tasks,
        words_of.SCRATCH: scratch.ctypes.data + sums,
    }
    stages = [
        Stage(_kernel("winograd_weight_sums", kernel.make_weight_sums, dtype), bands, tasks),
        Stage(_kernel("winograd_weight_total", kernel.make_weight_total, dtype), x.channels, tasks),
    ]
    return staged_plan(stages, inputs=2, outputs=[spec], words=words, keep=scratch)


def _common(job: Job, x: Image, y: Image, dtype: np.dtype[Any]) -> tuple[dict[int, int], int, int, int]:
    """The words that all have, the number of bands and of tasks, and the bytes of scratch of a task."""
    _, height, width = job
    bands, wide = (-(-axis.outputs // words_of.TILE) for axis in (height, width))
    rows = x.batch * bands
    tasks = min(threads.get_num_threads(), rows)
    value_bytes = words_of.VALUES * dtype.itemsize
    is_cached = value_bytes * x.channels * y.channels <= _CACHED_WEIGHT_BYTES
    limit = _TILE_BYTES if is_cached else _TILE_BYTES_ALONE
    block = max(1, limit // (value_bytes * (x.channels + y.channels) * wide))
    block = min(block, -(-rows // tasks))
    x_bytes, y_bytes = (pages(value_bytes * block * wide * image.channels) for image in (x, y))
    patches = pages((1 + words_of.VALUES) * max(x.channels, y.channels) * dtype.itemsize)
    words = {
        words_of.CHANNELS: x.channels,
        words_of.FILTERS: y.channels,
        words_of.X_IMAGE: x.strides[0],
        words_of.X_HEIGHT: x.strides[3],
        words_of.X_WIDTH: x.strides[4],
        words_of.HEIGHT: x.size[1],
        words_of.WIDTH: x.size[2],
        words_of.FIRST_HEIGHT: height.input_first,
        words_of.FIRST_WIDTH: width.input_first,
        words_of.Y_IMAGE: y.strides[0],
        words_of.Y_HEIGHT: y.strides[3],
        words_of.Y_WIDTH: y.strides[4],
        words_of.OUT_HEIGHT: y.size[1],
        words_of.OUT_WIDTH: y.size[2],
        words_of.BANDS: bands,
        words_of.TILES_WIDE: wide,
        words_of.BLOCK: block,
        words_of.TILES: tile_table(dtype).ctypes.data,
        words_of.SCRATCH_STRIDE: x_bytes + y_bytes + patches,
        words_of.Y_VALUES: x_bytes,
        words_of.PATCHES: x_bytes + y_bytes,
    }
    return words, rows, tasks, x_bytes + y_bytes + patches


@cache
def _kernel(name: str, make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
