"""Convolution on the CPU by the direct method: the micro-kernel runs over the image, no columns are built.

In an image whose channels are adjacent in memory, the taps of one kernel row and their channels are one
contiguous run. So a line of the output, times a panel of filters, is a matrix product with overlapping
rows of A:

    y[w, k] = start[k] + sum_{th} sum_{(tw, c)} x[w * stride + (th, tw, c)] * weight[(th, tw, c), k]

and the weight's gradient is one with A transposed (E. Georganas et al., "Anatomy of High-Performance Deep
Learning Convolutions on SIMD Architectures", SC 2018). An input of another layout, or with padding, is
copied piece by piece into scratch memory with adjacent channels.

The geometry is worked out by the planner, in tables of int64:

* a *job* computes outputs whose taps lie alike. The convolution is one job; its input gradient is one for
  every phase of the stride, with the kernel's taps taken backwards;
* a *piece* is a box of the outputs of one image, and the box of the input that it reads.

Strides and offsets count elements.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import call_kernel, float32_at, float64_at, load_int64
from nbdl.kernels.cpu.microkernel import tile_caller, tile_shape, transpose_kernel
from nbdl.kernels.cpu.stages import FIRST_WORD

# Words of the argument block.
(
    BATCH,
    GROUPS,
    CHANNELS,  # of the input in a group
    FILTERS,  # channels of the output in a group
    BLOCK,  # filters whose weights are packed together
    PANEL,  # filters that a tile has at most: one vector of them or two
    BLOCKS,  # such blocks in a group
    X_IMAGE,  # strides of the input; X_GROUP from group to group
    X_GROUP,
    X_DEPTH,
    X_HEIGHT,
    X_WIDTH,
    X_CHANNEL,
    IS_DIRECT,  # the input is read in place: its channels are adjacent and no tap lies outside
    COPY_DEPTH,  # strides of its copy otherwise
    COPY_HEIGHT,
    Y_IMAGE,  # strides of the output, or of its gradient
    Y_GROUP,
    Y_DEPTH,
    Y_HEIGHT,
    Y_WIDTH,
    Y_CHANNEL,
    IS_Y_DIRECT,  # the channels of the output's gradient are adjacent
    WEIGHT_GROUP,  # strides of the weight
    WEIGHT_FILTER,
    WEIGHT_CHANNEL,
    TAPS,  # address of the offsets of all jobs' taps in the weight
    TAP_COUNT,
    PIECES,  # address of the table of pieces
    PIECE_COUNT,
    JOBS,  # address of the table of jobs
    JOB_COUNT,
    HAS_BIAS,
    TILES,  # address of the micro-kernels
    SCRATCH,
    SCRATCH_STRIDE,  # bytes a task
    REGION,  # offsets in a task's scratch memory of the copies of x and y, in bytes
    REGION_Y,
    PARTIALS,  # address of the tasks' partial sums of the weight
    PARTIAL_COUNT,
    PARTIAL_SIZE,  # elements of one
    EPILOGUE,  # address of a kernel that is called on finished lines of the output, or 0
    EPILOGUE_ARGS,  # address of its argument block
    EPILOGUE_ROWS,  # its rows for each position of the output
) = range(FIRST_WORD, FIRST_WORD + 44)

# Words of a piece: the part of the copy that exists in the input, and what is cleared before. Then five for
# every job.
PIECE_CLEAR, PIECE_SOURCE, PIECE_TARGET, PIECE_DEPTHS, PIECE_HEIGHTS, PIECE_WIDTHS, PIECE_WORDS = range(7)
# Offsets of the first tap and of the first output in their images, and numbers of outputs.
PART_X, PART_Y, PART_DEPTHS, PART_HEIGHTS, PART_WIDTHS, PART_WORDS = range(6)

# Words of a job.
(
    JOB_X_DEPTH,  # strides of the input from output to output
    JOB_X_HEIGHT,
    JOB_X_WIDTH,
    JOB_Y_DEPTH,  # strides of the output
    JOB_Y_HEIGHT,
    JOB_Y_WIDTH,
    JOB_RUN,  # elements in a run of taps
    JOB_RUNS,  # number of runs at equal distances, which the micro-kernel sums in one go
    JOB_RUN_STRIDE,
    JOB_PASSES,  # address of the offsets of such groups of runs in the input
    JOB_PASS_COUNT,  # 0: no tap meets these outputs
    JOB_WORDS,
) = range(12)


@cache
def make_copy_box(dtype):
    """A function that copies a box of an image to adjacent channels."""
    size = np.dtype(dtype).itemsize
    lanes = tile_shape(dtype).lanes
    view = float32_at if size == 4 else float64_at
    transpose = transpose_kernel(dtype)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def copy_box(
        source,
        depths,
        heights,
        width,
        s_depth,
        s_height,
        s_width,
        s_channel,
        channels,
        target,
        t_depth,
        t_height,
    ):
        has_squares = (s_width == 1) & (width >= lanes) & (channels >= lanes)
        for line in range(depths * heights):
            d, h = line // heights, line % heights
            s = source + (d * s_depth + h * s_height) * size
            t = target + (d * t_depth + h * t_height) * size
            if s_channel == 1:
                run, runs = (channels * width, 1) if s_width == channels else (channels, width)
                for w in range(runs):
                    from_, to = view(s + w * s_width * size, run), view(t + w * channels * size, run)
                    for k in range(run):
                        to[k] = from_[k]
                continue
            if has_squares:  # the last ones overlap those before
                for i in range(0, channels, lanes):
                    c = min(i, channels - lanes)
                    for j in range(0, width, lanes):
                        w = min(j, width - lanes)
                        transpose(
                            s + (c * s_channel + w) * size, s_channel, t + (w * channels + c) * size, channels
                        )
                continue
            for c in range(channels):
                for w in range(width):
                    view(t + (w * channels + c) * size, 1)[0] = view(
                        s + (c * s_channel + w * s_width) * size, 1
                    )[0]

    return copy_box


@cache
def make_copy_piece(dtype):
    """A function that copies what a piece reads of an image, with zeros where it reaches outside."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)
    copy_box = make_copy_box(dtype)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def copy_piece(args, piece, image, target):
        n = load_int64(piece, PIECE_CLEAR)
        cleared = view(target, n)
        for k in range(n):
            cleared[k] = zero
        copy_box(
            image + load_int64(piece, PIECE_SOURCE) * size,
            load_int64(piece, PIECE_DEPTHS),
            load_int64(piece, PIECE_HEIGHTS), load_int64(piece, PIECE_WIDTHS),
            load_int64(args, X_DEPTH), load_int64(args, X_HEIGHT), load_int64(args, X_WIDTH),
            load_int64(args, X_CHANNEL), load_int64(args, CHANNELS),
            target + load_int64(piece, PIECE_TARGET) * size,
            load_int64(args, COPY_DEPTH), load_int64(args, COPY_HEIGHT),
        )  # fmt: skip

    return copy_piece


@subroutine(fastmath=FASTMATH_REASSOC)
def even_height(rows, most):
    """Rows of a tile such that all are about equal; even, since micro-kernels of odd height are slower."""
    count = (rows + most - 1) // most
    return min(most, ((rows + count - 1) // count + 1) // 2 * 2)


def make_correlation(dtype):
    """The kernel of the convolution and of its input gradient; operands x, weight, bias if `HAS_BIAS`, y.

    Rows are (block of filters, image, piece), the last one fastest. The output's channels are adjacent.
    """
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)
    tile = tile_caller(dtype)
    tile_rows = tile_shape(dtype).rows
    copy_piece = make_copy_piece(dtype)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def pack_weight(args, weight, filters, packed):
        """The weight of a block of filters as [panel, tap, channel, column of the panel]."""
        channels, taps, tap_count = (
            load_int64(args, CHANNELS),
            load_int64(args, TAPS),
            load_int64(args, TAP_COUNT),
        )
        filter_stride, channel_stride = load_int64(args, WEIGHT_FILTER), load_int64(args, WEIGHT_CHANNEL)
        panel = load_int64(args, PANEL)
        for first in range(0, filters, panel):
            width = min(panel, filters - first)
            for row in range(tap_count * channels):
                tap, channel = load_int64(taps, row // channels), row % channels
                source = weight + (tap + channel * channel_stride + first * filter_stride) * size
                target = view(packed + (first * tap_count * channels + row * panel) * size, width)
                for j in range(width):
                    target[j] = view(source + j * filter_stride * size, 1)[0]

    @subroutine(fastmath=FASTMATH_REASSOC)
    def compute_line(args, job, x, packed, y, start, filters, count):
        """`count` neighbouring outputs of one line, all filters of a block."""
        tiles, x_step, y_step = (
            load_int64(args, TILES),
            load_int64(job, JOB_X_WIDTH),
            load_int64(job, JOB_Y_WIDTH),
        )
        run, runs, run_stride = (
            load_int64(job, JOB_RUN),
            load_int64(job, JOB_RUNS),
            load_int64(job, JOB_RUN_STRIDE),
        )
        passes, pass_count = load_int64(job, JOB_PASSES), load_int64(job, JOB_PASS_COUNT)
        panel_stride = load_int64(args, TAP_COUNT) * load_int64(args, CHANNELS) * size
        panel, height = load_int64(args, PANEL), even_height(count, tile_rows)
        for j in range(0, filters, panel):
            width = min(panel, filters - j)
            for i in range(0, count, height):
                target = y + (i * y_step + j) * size
                first, first_step = start + j * size if start != 0 else 0, 0
                for k in range(pass_count):
                    source = x + (i * x_step + load_int64(passes, k)) * size
                    tile(tiles, min(height, count - i), width, source, x_step, 1,
                         packed + j * panel_stride + k * run * runs * panel * size, panel, target, y_step,
                         first, first_step, run, runs, run_stride, run * panel)  # fmt: skip
                    first, first_step = target, y_step

    @subroutine(fastmath=FASTMATH_REASSOC)
    def clear_line(y, y_step, filters, count):
        """Outputs that no tap meets."""
        for i in range(count):
            line = view(y + i * y_step * size, filters)
            for j in range(filters):
                line[j] = zero

    def correlation(args, lo, hi, task):
        filters, has_bias = load_int64(args, FILTERS), load_int64(args, HAS_BIAS)
        block_size, blocks, batch = load_int64(args, BLOCK), load_int64(args, BLOCKS), load_int64(args, BATCH)
        pieces, job_count = load_int64(args, PIECE_COUNT), load_int64(args, JOB_COUNT)
        packed = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        copied = packed + load_int64(args, REGION)
        panel, packed_block = load_int64(args, PANEL), -1
        for unit in range(lo, hi):
            block, image = unit // (batch * pieces), unit // pieces % batch
            group, first = block // blocks, block % blocks * block_size
            width = min(block_size, filters - first)
            if block != packed_block:
                offset = group * load_int64(args, WEIGHT_GROUP) + first * load_int64(args, WEIGHT_FILTER)
                pack_weight(args, load_int64(args, 1) + offset * size, width, packed)
                packed_block = block
            piece = load_int64(args, PIECES) + unit % pieces * (PIECE_WORDS + job_count * PART_WORDS) * 8
            x = (
                load_int64(args, 0)
                + (image * load_int64(args, X_IMAGE) + group * load_int64(args, X_GROUP)) * size
            )
            if load_int64(args, IS_DIRECT) == 0:
                copy_piece(args, piece, x, copied)
                x = copied
            column = group * filters + first
            y = load_int64(args, 2 + has_bias) + (image * load_int64(args, Y_IMAGE) + column) * size
            start = load_int64(args, 2) + column * size if has_bias != 0 else 0
            weights = packed
            for k in range(job_count):
                job, part = (
                    load_int64(args, JOBS) + k * JOB_WORDS * 8,
                    piece + (PIECE_WORDS + k * PART_WORDS) * 8,
                )
                heights, count = load_int64(part, PART_HEIGHTS), load_int64(part, PART_WIDTHS)
                passes = load_int64(job, JOB_PASS_COUNT)
                for line in range(load_int64(part, PART_DEPTHS) * heights):
                    d, h = line // heights, line % heights
                    source = (
                        load_int64(part, PART_X)
                        + d * load_int64(job, JOB_X_DEPTH)
                        + h * load_int64(job, JOB_X_HEIGHT)
                    )
                    target = (
                        load_int64(part, PART_Y)
                        + d * load_int64(job, JOB_Y_DEPTH)
                        + h * load_int64(job, JOB_Y_HEIGHT)
                    )
                    if passes == 0:
                        clear_line(y + target * size, load_int64(job, JOB_Y_WIDTH), width, count)
                    else:
                        compute_line(
                            args, job, x + source * size, weights, y + target * size, start, width, count
                        )
                weights += passes * load_int64(job, JOB_RUN) * load_int64(job, JOB_RUNS) * panel * size
            if load_int64(args, EPILOGUE) != 0:  # a single job, whose pieces are whole lines
                part = piece + PIECE_WORDS * 8
                first = (image * load_int64(args, Y_IMAGE) + load_int64(part, PART_Y)) // filters
                lines = load_int64(part, PART_DEPTHS) * load_int64(part, PART_HEIGHTS)
                rows = load_int64(args, EPILOGUE_ROWS)
                call_kernel(load_int64(args, EPILOGUE), load_int64(args, EPILOGUE_ARGS), first * rows,
                            (first + lines * load_int64(part, PART_WIDTHS)) * rows, task)  # fmt: skip

    return correlation
