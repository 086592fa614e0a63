"""The geometry of convolutions as the tables that the kernels of `nbdl.kernels.cpu.convolution` walk.

A convolution is one job over three axes, its input gradient one for every phase of the stride. The
outputs are cut into pieces, each of which reads a box of the input; where a box reaches outside, or the
input lies in another way than the kernels need, the kernels read a copy of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.layout import Image, three_axes
from nbdl.backend.windows import Pairs, Sizes

PAGE = 4096  # alignment of the parts of scratch memory
_REGION_BYTES = 256 * 1024  # of the input that a unit reads: half of a second-level cache


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


def axes_of_windows(
    kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, counts: Sizes
) -> Iterator[tuple]:
    """(taps, stride, padding, dilation, count) of three axes."""
    values = (
        three_axes(kernel, 1),
        three_axes(stride, 1),
        three_axes(padding, (0, 0)),
        three_axes(dilation, 1),
    )
    return zip(*values, three_axes(counts, 1), strict=True)


def forward_job(kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, counts: Sizes) -> Job:
    """The windows as they are."""
    depth, height, width = (
        Axis(count, 0, 1, -pad[0], step, taps, gap, 0, 1)
        for taps, step, pad, gap, count in axes_of_windows(kernel, stride, padding, dilation, counts)
    )
    return depth, height, width


def transposed_axis(taps: int, stride: int, padding: tuple[int, int], dilation: int, size: int) -> list[Axis]:
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


def flops_of(jobs: Sequence[Job], products: int) -> float:
    """Additions and multiplications, for so many pairs of channels and images."""
    return 2.0 * products * sum(math.prod(axis.taps * axis.outputs for axis in job) for job in jobs)


# ---- Pieces ----


class Parts(NamedTuple):
    """Into how many parts the outputs of every axis are cut."""

    depth: int
    height: int
    width: int


def cut_into_parts(jobs: Sequence[Job], item_bytes: int, groups: int, wanted: int) -> Parts:
    """Parts whose input stays in the cache, and enough of them to keep all tasks busy.

    Args:
        jobs: the jobs.
        item_bytes: bytes that are read for each position of the input.
        groups: into how many units the work falls anyway: images times blocks of filters.
        wanted: number of units that is enough.
    """
    depth, height, width = (max(job[axis].outputs for job in jobs) for axis in range(3))
    limit = _REGION_BYTES // item_bytes
    parts = Parts(1, 1, 1)
    while parts.depth < depth and math.prod(region_of(jobs, parts)) > limit:
        parts = parts._replace(depth=min(depth, 2 * parts.depth))
    while parts.height < height and math.prod(region_of(jobs, parts)) > limit:
        parts = parts._replace(height=min(height, 2 * parts.height))
    while parts.width < width and math.prod(region_of(jobs, parts)) > limit:
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


def region_of(jobs: Sequence[Job], parts: Parts) -> Sizes:
    """Sizes of the largest box of the input that a piece reads."""
    return tuple(max(end - first for first, end in _reaches(jobs, axis, parts[axis])) for axis in range(3))


def pages(size: int) -> int:
    """The size rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def _is_direct(image: Image, jobs: Sequence[Job]) -> bool:
    """Whether the kernel can read the input in place."""
    return image.has_adjacent_channels and all(
        first >= 0 and end <= image.size[axis] for axis in range(3) for first, end in _reaches(jobs, axis, 1)
    )


class Source(NamedTuple):
    """The input as the micro-kernel sees it: the array, or a copy of the part that a piece reads."""

    is_direct: bool
    strides: Sizes  # depth, height, width
    bytes: int  # of the copy


def source_of(image: Image, jobs: Sequence[Job], parts: Parts, channels: int, itemsize: int) -> Source:
    """The array itself where all that is read exists and channels are adjacent, else a copy of each piece."""
    if _is_direct(image, jobs):
        return Source(True, image.strides[2:], 0)
    region = region_of(jobs, parts)
    strides = (region[1] * region[2] * channels, region[2] * channels, channels)
    return Source(False, strides, pages(region[0] * strides[0] * itemsize))


def piece_table(
    jobs: Sequence[Job], parts: Parts, image: Image, source: Source, result: Image
) -> NDArray[np.int64]:
    """One row a piece, see `PIECE_...` and `PART_...`."""
    reaches = [_reaches(jobs, axis, parts[axis]) for axis in range(3)]
    bounds = [[_bounds(job[axis], parts[axis]) for axis in range(3)] for job in jobs]
    region_size = source.strides[0] * region_of(jobs, parts)[0]
    rows = []
    for piece in itertools.product(*map(range, parts)):
        lows, ends = zip(*(reaches[axis][part] for axis, part in enumerate(piece)), strict=True)
        inside = [(max(low, 0), min(end, n)) for low, end, n in zip(lows, ends, image.size, strict=True)]
        box = [max(0, end - low) for low, end in inside]
        is_whole = all(
            low == inner[0] and end == inner[1] for low, end, inner in zip(lows, ends, inside, strict=True)
        )
        row = [0 if is_whole or source.is_direct else region_size]
        row += [dot([low for low, _ in inside], image.strides[2:])]
        row += [dot([inner[0] - low for inner, low in zip(inside, lows, strict=True)], source.strides)]
        row += box if min(box) > 0 else [0, 0, 0]
        origin = (0, 0, 0) if source.is_direct else lows
        for job, job_bounds in zip(jobs, bounds, strict=True):
            first, end = zip(*(job_bounds[axis][part] for axis, part in enumerate(piece)), strict=True)
            taps = [
                a.input_first + k * a.input_step - low for a, k, low in zip(job, first, origin, strict=True)
            ]
            outputs = [a.output_first + k * a.output_step for a, k in zip(job, first, strict=True)]
            row += [dot(taps, source.strides), dot(outputs, result.strides[2:])]
            row += [e - f for f, e in zip(first, end, strict=True)]
        rows.append(row)
    return np.array(rows, np.int64)


def dot(x: Sequence[int], y: Sequence[int]) -> int:
    """The offset of a position."""
    return sum(a * b for a, b in zip(x, y, strict=True))


class JobTable(NamedTuple):
    """The jobs as the kernels read them."""

    words: NDArray[np.int64]
    passes: list[NDArray[np.int64]]  # the words refer to them


def job_table(jobs: Sequence[Job], channels: int, source: Source, result: Image, sums_runs: bool) -> JobTable:
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
        # The taps of a row are one run if they are neighbours; the runs of the next axis are summed by the
        # micro-kernel.
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
    return JobTable(np.array(rows, np.int64), tables)


def weight_taps(jobs: Sequence[Job], strides: Sizes) -> NDArray[np.int64]:
    """Offsets in the weight of the taps of all jobs, in the order in which the jobs take them."""
    offsets = []
    for job in jobs:
        for position in itertools.product(*(range(axis.taps) for axis in job)):
            tap = [axis.weight_first + k * axis.weight_step for axis, k in zip(job, position, strict=True)]
            offsets.append(dot(tap, strides))
    return np.array(offsets or [0], np.int64)
