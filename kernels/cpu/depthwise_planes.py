"""Depthwise convolution on the CPU, a plane at a time: the lanes are the positions of a line.

A plane, one channel of one image, is copied into the first-level cache with zeros around it, so that no
window reaches outside. With a stride the columns are sorted by their remainder: what neighbouring windows
read at a tap are neighbours then, and a tap is an offset in the copy, the same for all windows. The gradient
of the input is a convolution for every phase of the stride, `transposed_axis` of
`nbdl.backend.numba.convolution_geometry`; with a stride along the width its phases are computed side by side,
and then shuffled.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.depthwise_tiles import TILE, sum_of_products, sum_of_taps
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64
from nbdl.kernels.cpu.microkernel import tile_shape

# Words of the argument block, behind at most four operands; strides of arrays count elements, of copies
# bytes.
(
    CHANNELS,
    BATCH,
    WEIGHT_CHANNEL,
    TAPS,  # address of the offsets of the taps in the weight, those of all jobs
    TAP_COUNT,
    HAS_BIAS,
    JOBS,  # address of a table with the words of `COUNT_DEPTH`... for every job
    JOB_COUNT,
    SCRATCH,  # address of memory for a copy of x, one of y, and weights
    SCRATCH_STRIDE,  # bytes a task
    COPY_BYTES,  # of x
    COPY_Y,  # bytes before that of y
    COPIES_Y,  # whether there is one
    SUMS,  # bytes before the weights, or their sums: a vector each
    X,  # first word of x
) = range(4, 19)
PLANE_WORDS = 12
Y = X + PLANE_WORDS  # first word of y
# Words of an array and of the copy of its planes.
(
    IMAGE,
    CHANNEL,
    DEPTH,
    HEIGHT,
    WIDTH,
    FIRST,  # offset of the first element that is copied, in its plane
    DEPTHS,  # numbers of lines that are copied
    HEIGHTS,
    PHASES,  # address of a table of the phases: first element, elements, bytes in the line of the copy
    STEP,  # number of phases
    COPY_DEPTH,  # strides of the copy
    COPY_HEIGHT,
) = range(PLANE_WORDS)
# Words of a job.
(
    COUNT_DEPTH,  # numbers of windows
    COUNT_HEIGHT,
    COUNT_WIDTH,
    STEP_DEPTH,  # bytes between windows in the copy of x
    STEP_HEIGHT,
    TO,  # bytes of the first in the plane of y, and between windows
    TO_DEPTH,
    TO_HEIGHT,
    TAPS_OF_JOB,
    OFFSETS,  # address of the offsets of its taps in the copy
    WEIGHTS,  # bytes before its weights
    JOB_WORDS,
) = range(12)


def _make_plane_copies(dtype):
    """Subroutines that copy a plane to its phases, and back."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at

    @subroutine(noalias=True)
    def spread(source, target, n, source_step, target_step):
        if (source_step == 1) & (target_step == 1):
            for k in range(n):
                target[k] = source[k]
        elif (source_step == 2) & (target_step == 1):
            for k in range(n):
                target[k] = source[2 * k]
        else:
            for k in range(n):
                target[k * target_step] = source[k * source_step]

    @subroutine(noalias=True)
    def interleave(even, odd, target, n):
        for k in range(n):
            target[2 * k] = even[k]
            target[2 * k + 1] = odd[k]

    @subroutine
    def to_copy(args, plane, array, copy):
        width, step = load_int64(args, plane + WIDTH), load_int64(args, plane + STEP)
        array += load_int64(args, plane + FIRST) * size
        for d in range(load_int64(args, plane + DEPTHS)):
            for h in range(load_int64(args, plane + HEIGHTS)):
                source = (
                    array
                    + (d * load_int64(args, plane + DEPTH) + h * load_int64(args, plane + HEIGHT)) * size
                )
                target = (
                    copy
                    + d * load_int64(args, plane + COPY_DEPTH)
                    + h * load_int64(args, plane + COPY_HEIGHT)
                )
                for phase in range(step):
                    words = load_int64(args, plane + PHASES) + phase * 24
                    n = load_int64(words, 1)
                    spread(view(source + load_int64(words, 0) * width * size, n),
                           view(target + load_int64(words, 2), n), n, step * width, 1)  # fmt: skip

    @subroutine
    def from_copy(args, plane, copy, array):
        step, phases = load_int64(args, plane + STEP), load_int64(args, plane + PHASES)
        for d in range(load_int64(args, plane + DEPTHS)):
            for h in range(load_int64(args, plane + HEIGHTS)):
                target = (
                    array
                    + (d * load_int64(args, plane + DEPTH) + h * load_int64(args, plane + HEIGHT)) * size
                )
                source = (
                    copy
                    + d * load_int64(args, plane + COPY_DEPTH)
                    + h * load_int64(args, plane + COPY_HEIGHT)
                )
                done = 0
                if step == 2:
                    done = load_int64(phases, 4)
                    even, odd = source + load_int64(phases, 2), source + load_int64(phases, 5)
                    interleave(view(even, done), view(odd, done), view(target, done), done)
                for phase in range(step):
                    words = phases + phase * 24
                    n = load_int64(words, 1) - done
                    rest = target + (load_int64(words, 0) + done * step) * size
                    spread(view(source + load_int64(words, 2) + done * size, n), view(rest, n), n, 1, step)

    @subroutine(inlined=False)
    def clear(address, n):
        target = view(address, n)
        for k in range(n):
            target[k] = 0

    @subroutine
    def address_of(args, plane, operand, image, channel):
        return (
            operand
            + (image * load_int64(args, plane + IMAGE) + channel * load_int64(args, plane + CHANNEL)) * size
        )

    return to_copy, from_copy, clear, address_of


def make_plane_outputs(dtype):
    """The kernel of the convolution and of its transpose; operands x, weight, bias if `HAS_BIAS`, y.

    Rows are planes.
    """
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    lanes = tile_shape(dtype).lanes
    width_bytes = lanes * size
    to_copy, from_copy, clear, address_of = _make_plane_copies(dtype)

    def make_lines(vectors):
        whole, part = sum_of_taps(dtype, vectors), sum_of_taps(dtype, vectors, masked=True)

        @subroutine
        def lines(job, x, weights, start, y):
            """As many lines of windows as a tile has vectors."""
            n, taps, offsets = (
                load_int64(job, COUNT_WIDTH),
                load_int64(job, TAPS_OF_JOB),
                load_int64(job, OFFSETS),
            )
            x_step, y_step = load_int64(job, STEP_HEIGHT), load_int64(job, TO_HEIGHT)
            while n > lanes:
                whole(x, x_step, weights, 0, width_bytes, start, 0, y, y_step, offsets, 1, taps, 0)
                x, y, n = x + width_bytes, y + width_bytes, n - lanes
            part(x, x_step, weights, 0, width_bytes, start, 0, y, y_step, offsets, 1, taps, 0, n)

        return lines

    line, tile_of_lines = make_lines(1), make_lines(TILE)

    @subroutine
    def windows(job, x, weights, start, y):
        """All windows of a job; `x` is a copy."""
        heights = load_int64(job, COUNT_HEIGHT)
        weights += load_int64(job, WEIGHTS)
        for d in range(load_int64(job, COUNT_DEPTH)):
            from_, to = (
                x + d * load_int64(job, STEP_DEPTH),
                y + d * load_int64(job, TO_DEPTH) + load_int64(job, TO),
            )
            h = 0
            while h < heights:
                source, target = from_ + h * load_int64(job, STEP_HEIGHT), to + h * load_int64(job, TO_HEIGHT)
                if h + TILE <= heights:
                    tile_of_lines(job, source, weights, start, target)
                    h += TILE
                else:
                    line(job, source, weights, start, target)
                    h += 1

    @subroutine
    def repeat(source, target):
        value, copies = view(source, 1)[0], view(target, lanes)
        for lane in range(lanes):
            copies[lane] = value

    def plane_outputs(args, lo, hi, task):
        channels, has_bias, taps = (
            load_int64(args, CHANNELS),
            load_int64(args, HAS_BIAS),
            load_int64(args, TAPS),
        )
        copy = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        copy_y, weights = copy + load_int64(args, COPY_Y), copy + load_int64(args, SUMS)
        count = load_int64(args, TAP_COUNT)
        clear(copy, load_int64(args, COPY_BYTES) // size)
        for row in range(lo, hi):
            image, channel = row // channels, row % channels
            y = address_of(args, Y, load_int64(args, 2 + has_bias), image, channel)
            weight = load_int64(args, 1) + channel * load_int64(args, WEIGHT_CHANNEL) * size
            for tap in range(count):
                repeat(weight + load_int64(taps, tap) * size, weights + tap * width_bytes)
            start = 0
            if has_bias != 0:
                start = weights + count * width_bytes
                repeat(load_int64(args, 2) + channel * size, start)
            to_copy(args, X, address_of(args, X, load_int64(args, 0), image, channel), copy)
            target = copy_y if load_int64(args, COPIES_Y) != 0 else y
            for job in range(load_int64(args, JOB_COUNT)):
                windows(load_int64(args, JOBS) + job * JOB_WORDS * 8, copy, weights, start, target)
            if load_int64(args, COPIES_Y) != 0:
                from_copy(args, Y, copy_y, y)

    return plane_outputs


def make_plane_weight(dtype):
    """The kernel of the gradient of the weight; operands x, y, weight. Rows are channels."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    lanes = tile_shape(dtype).lanes
    width_bytes = lanes * size
    to_copy, _, clear, address_of = _make_plane_copies(dtype)

    def make_add(taps):
        whole, part = sum_of_products(dtype, taps), sum_of_products(dtype, taps, masked=True)

        @subroutine
        def add(job, offsets, x, y, totals):
            """The products of some taps, at all windows of the plane."""
            n, heights = load_int64(job, COUNT_WIDTH), load_int64(job, COUNT_HEIGHT)
            x_step, y_step = load_int64(job, STEP_HEIGHT), load_int64(job, TO_HEIGHT)
            inner = (n - 1) // lanes
            last = inner * width_bytes
            for d in range(load_int64(job, COUNT_DEPTH)):
                x_plane, y_plane = x + d * load_int64(job, STEP_DEPTH), y + d * load_int64(job, TO_DEPTH)
                whole(x_plane, offsets, x_step, width_bytes, y_plane, y_step, width_bytes,
                      totals, width_bytes, heights, inner)  # fmt: skip
                part(x_plane + last, offsets, x_step, 0, y_plane + last, y_step, 0, totals, width_bytes,
                     heights, 1, n - inner * lanes)  # fmt: skip

        return add

    add_nine, add_three, add_one = make_add(9), make_add(3), make_add(1)

    @subroutine
    def sum_of(total):
        values, result = view(total, lanes), view(total, 1)[0]
        for lane in range(1, lanes):
            result += values[lane]
        return result

    @subroutine
    def add_plane(job, taps, x, y, totals):
        """The products of all taps, which are `taps`, at all windows of a plane."""
        tap = 0
        while tap < taps:
            offsets, sums = load_int64(job, OFFSETS) + tap * 8, totals + tap * width_bytes
            if tap + 9 <= taps:
                add_nine(job, offsets, x, y, sums)
                tap += 9
            elif tap + 3 <= taps:
                add_three(job, offsets, x, y, sums)
                tap += 3
            else:
                add_one(job, offsets, x, y, sums)
                tap += 1

    def plane_weight(args, lo, hi, task):
        taps, count = load_int64(args, TAPS), load_int64(args, TAP_COUNT)
        copy = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        copy_y, totals = copy + load_int64(args, COPY_Y), copy + load_int64(args, SUMS)
        clear(copy, load_int64(args, COPY_BYTES) // size)
        clear(totals, (hi - lo) * count * lanes)
        for image in range(load_int64(args, BATCH)):  # the planes in the order of memory
            for channel in range(lo, hi):
                x = address_of(args, X, load_int64(args, 0), image, channel)
                y = address_of(args, Y, load_int64(args, 1), image, channel)
                to_copy(args, X, x, copy)
                if load_int64(args, COPIES_Y) != 0:
                    to_copy(args, Y, y, copy_y)
                    y = copy_y
                sums = totals + (channel - lo) * count * width_bytes
                add_plane(load_int64(args, JOBS), count, copy, y, sums)
        for channel in range(lo, hi):
            weight = load_int64(args, 2) + channel * load_int64(args, WEIGHT_CHANNEL) * size
            sums = totals + (channel - lo) * count * width_bytes
            for tap in range(count):
                view(weight + load_int64(taps, tap) * size, 1)[0] = sum_of(sums + tap * width_bytes)

    return plane_weight
