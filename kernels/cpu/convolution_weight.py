"""The gradient of a convolution by its weight: sums over images and outputs of x times the output's gradient.

Two stages (`nbdl.kernels.cpu.stages`): every task adds up its pieces in a partial sum of its own, and
these are then added in a fixed order, so that the result does not depend on who was first. The argument
block is that of `nbdl.kernels.cpu.convolution`, with one job, whose passes are the runs of taps.
Operands: x, y, weight.

A partial sum is laid out as [group, tap, channel, filter].
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import convolution as base
from nbdl.kernels.cpu.convolution import even_height, make_copy_box, make_copy_piece
from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64, stack_int64
from nbdl.kernels.cpu.microkernel import tile_caller, tile_shape

FILTERS_TOGETHER = 16  # filters whose weights are written side by side


def make_partial_sums(dtype):
    """The kernel of the first stage; rows are (image, piece)."""
    size = np.dtype(dtype).itemsize
    shape = tile_shape(dtype)
    tile_rows, panel = shape.rows, shape.columns
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)
    tile = tile_caller(dtype)
    copy_box, copy_piece = make_copy_box(dtype), make_copy_piece(dtype)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def add_plane(args, x, y, y_height, y_width, total, heights, widths):
        """Adds the product of a plane of the input with one of the gradient, tile by tile of the weight."""
        job, tiles, filters = (
            load_int64(args, base.JOBS),
            load_int64(args, base.TILES),
            load_int64(args, base.FILTERS),
        )
        x_height, x_width = load_int64(job, base.JOB_X_HEIGHT), load_int64(job, base.JOB_X_WIDTH)
        run, passes = load_int64(job, base.JOB_RUN), load_int64(job, base.JOB_PASSES)
        height = even_height(run, tile_rows)
        for k in range(load_int64(job, base.JOB_PASS_COUNT)):
            source = x + load_int64(passes, k) * size
            for i in range(0, run, height):
                for j in range(0, filters, panel):
                    target = total + ((k * run + i) * filters + j) * size
                    tile(tiles, min(height, run - i), min(panel, filters - j), source + i * size, 1, x_width,
                         y + j * size, y_width, target, filters, target, filters, widths,
                         heights, x_height, y_height)  # fmt: skip

    def partial_sums(args, lo, hi, task):
        job = load_int64(args, base.JOBS)
        groups, filters, pieces = (
            load_int64(args, base.GROUPS),
            load_int64(args, base.FILTERS),
            load_int64(args, base.PIECE_COUNT),
        )
        x_copy = (
            load_int64(args, base.SCRATCH)
            + task * load_int64(args, base.SCRATCH_STRIDE)
            + load_int64(args, base.REGION)
        )
        y_copy = x_copy + load_int64(args, base.REGION_Y)
        partial_size = load_int64(args, base.PARTIAL_SIZE)
        total = load_int64(args, base.PARTIALS) + task * partial_size * size
        sums = view(total, partial_size)
        for k in range(partial_size):
            sums[k] = zero
        for unit in range(lo * groups, hi * groups):
            group, image = unit % groups, unit // groups // pieces
            piece = (
                load_int64(args, base.PIECES)
                + unit // groups % pieces * (base.PIECE_WORDS + base.PART_WORDS) * 8
            )
            part = piece + base.PIECE_WORDS * 8
            depths, heights = load_int64(part, base.PART_DEPTHS), load_int64(part, base.PART_HEIGHTS)
            widths = load_int64(part, base.PART_WIDTHS)
            x = image * load_int64(args, base.X_IMAGE) + group * load_int64(args, base.X_GROUP)
            x = load_int64(args, 0) + x * size
            if load_int64(args, base.IS_DIRECT) == 0:
                copy_piece(args, piece, x, x_copy)
                x = x_copy
            x += load_int64(part, base.PART_X) * size
            y = (
                image * load_int64(args, base.Y_IMAGE)
                + group * load_int64(args, base.Y_GROUP)
                + load_int64(part, base.PART_Y)
            )
            y = load_int64(args, 1) + y * size
            y_depth, y_height = load_int64(args, base.Y_DEPTH), load_int64(args, base.Y_HEIGHT)
            y_width = load_int64(args, base.Y_WIDTH)
            if load_int64(args, base.IS_Y_DIRECT) == 0:
                copy_box(y, depths, heights, widths, y_depth, y_height, y_width,
                         load_int64(args, base.Y_CHANNEL), filters, y_copy,
                         heights * widths * filters, widths * filters)  # fmt: skip
                y, y_width, y_height, y_depth = y_copy, filters, widths * filters, heights * widths * filters
            for d in range(depths):
                add_plane(args, x + d * load_int64(job, base.JOB_X_DEPTH) * size, y + d * y_depth * size,
                          y_height, y_width, total + group * (partial_size // groups) * size,
                          heights, widths)  # fmt: skip

    return partial_sums


def make_total(dtype):
    """The kernel of the second stage: rows are filters of all groups."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    def total(args, lo, hi, task):
        filters, channels, taps = (
            load_int64(args, base.FILTERS),
            load_int64(args, base.CHANNELS),
            load_int64(args, base.TAPS),
        )
        tap_count = load_int64(args, base.TAP_COUNT)
        stride, slots = load_int64(args, base.PARTIAL_SIZE), load_int64(args, base.PARTIAL_COUNT)
        sums = float64_at(stack_int64(FILTERS_TOGETHER), FILTERS_TOGETHER)
        row = lo
        while row < hi:
            group, j = row // filters, row % filters
            count = min(FILTERS_TOGETHER, min(hi - row, filters - j))
            for index in range(channels * tap_count):  # in the order of the result's memory
                channel, tap = index // tap_count, index % tap_count
                place = ((group * tap_count + tap) * channels + channel) * filters + j
                for k in range(count):
                    sums[k] = 0.0
                for slot in range(slots):
                    part = view(load_int64(args, base.PARTIALS) + (slot * stride + place) * size, count)
                    for k in range(count):
                        sums[k] += part[k]
                offset = group * load_int64(args, base.WEIGHT_GROUP) + channel * load_int64(
                    args, base.WEIGHT_CHANNEL
                )
                offset += load_int64(taps, tap)
                for k in range(count):
                    target = (
                        load_int64(args, 2) + (offset + (j + k) * load_int64(args, base.WEIGHT_FILTER)) * size
                    )
                    view(target, 1)[0] = zero + sums[k]
            row += count

    return total
