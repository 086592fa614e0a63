"""Depthwise convolution on the CPU: one filter a channel, for arrays with adjacent channels.

The channels are the lanes. With x[i], y[o] the channels of one position, w[t] those of one tap, and i the
position that output o meets with tap t, the convolution is `y[o] = sum_t x[i] w[t]`, and the gradient of the
weight `w[t] = sum_o x[i] y[o]`. The gradient of the input is a convolution for every phase of the stride
(`nbdl.backend.numba.convolution_geometry.transposed_axis`).

The planner works out, for each axis, a table of two words an output, the first tap that meets the input and
the number of taps that do; and one of two words a tap, the first output that it meets and the number of them.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.depthwise_tiles import TILE, sum_of_products, sum_of_taps
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64
from nbdl.kernels.cpu.microkernel import tile_shape

BESIDE = 8  # outputs of a tile that share their weights
# Words of the argument block, behind at most four operands; strides of arrays count elements.
(
    BATCH,
    CHANNELS,  # at least as many as a vector has lanes
    CHUNK,  # channels of a row of the kernel, whole vectors
    X_IMAGE,
    Y_IMAGE,
    WEIGHT_CHANNEL,
    TAPS,  # address of the offsets of the taps in the weight, those of all jobs
    TAP_COUNT,
    HAS_BIAS,
    JOBS,  # address of a table with the words of `JOB_WORDS` for every job
    JOB_COUNT,
    VECTORS,  # address of the offsets of the vectors of a tile, in bytes
    SCRATCH,  # address of memory for the weights of a chunk, [tap, channel]
    SCRATCH_STRIDE,  # bytes a task
) = range(4, 18)
# Words of a job; its steps are bytes.
(
    COUNT_DEPTH,  # numbers of outputs
    COUNT_HEIGHT,
    COUNT_WIDTH,
    TABLE_DEPTH,  # addresses of the tables of outputs; for the gradient of the weight, of taps
    TABLE_HEIGHT,
    TABLE_WIDTH,
    FROM,  # from the image to what the first output meets at its first tap
    FROM_DEPTH,  # from one output to the next
    FROM_HEIGHT,
    FROM_WIDTH,
    TO,  # the same of y
    TO_DEPTH,
    TO_HEIGHT,
    TO_WIDTH,
    KERNEL_DEPTH,  # numbers of taps
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    OFFSETS,  # address of the offsets of the taps in the image, in bytes
    FIRST_TAP,  # taps of the jobs before
    JOB_WORDS,
) = range(20)


def _make_chunks(dtype):
    """What the kernels share: channels of a row, and where the weight of a tap and vector is."""
    lanes = tile_shape(dtype).lanes

    @subroutine
    def first_channel(args, chunk):
        """The last chunk has a whole vector; it may have channels of the one before."""
        return min(chunk * load_int64(args, CHUNK), load_int64(args, CHANNELS) - lanes)

    @subroutine
    def place_of(line, n):
        """First channel of the vectors from `line` on; the last one has channels of the one before."""
        return min(line * lanes, n - lanes)

    return first_channel, place_of


def make_outputs(dtype):
    """The kernel of the convolution and of its transpose; operands x, weight, bias if `HAS_BIAS`, y.

    Rows are (image, chunk of channels).
    """
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    lanes = tile_shape(dtype).lanes
    step = lanes * size
    first_channel, place_of = _make_chunks(dtype)

    def make_window(vectors, beside=False):
        taps, nine_taps = sum_of_taps(dtype, vectors), sum_of_taps(dtype, vectors, widths=9)
        # Known steps of 0 let the compiler load a weight once for all windows.
        weight_step = 0 if beside else step

        @subroutine
        def window(job, depth, height, width, x, weights, n, start, y):
            """All taps: so many vectors of channels of an output, or one of so many outputs beside it."""
            widths, depths, tap_bytes = load_int64(job, KERNEL_WIDTH), load_int64(depth, 1), n * size
            x_step = load_int64(job, FROM_WIDTH) if beside else step
            y_step = load_int64(job, TO_WIDTH) if beside else step
            start_step = weight_step
            for d in range(max(1, depths)):
                tap = (load_int64(depth, 0) + d) * load_int64(job, KERNEL_HEIGHT) + load_int64(height, 0)
                tap = tap * widths + load_int64(width, 0)
                lines, inside = load_int64(height, 1) if depths > 0 else 0, load_int64(width, 1)
                offsets, factors = load_int64(job, OFFSETS) + tap * 8, weights + tap * tap_bytes
                if (lines == 3) & (inside == 3) & (widths == 3):
                    nine_taps(x, x_step, factors, weight_step, tap_bytes, start, start_step, y, y_step,
                              offsets, 1, 9, 9)  # fmt: skip
                else:
                    taps(x, x_step, factors, weight_step, tap_bytes, start, start_step, y, y_step,
                         offsets, lines, inside, widths)  # fmt: skip
                start, start_step = y, y_step

        return window

    window_of_one, window_of_tile, windows_beside = (
        make_window(1),
        make_window(TILE),
        make_window(BESIDE, beside=True),
    )

    @subroutine
    def outputs_of_line(job, depth, height, x, weights, n, bias, y):
        w, count, taps = 0, load_int64(job, COUNT_WIDTH), load_int64(job, KERNEL_WIDTH)
        vectors = (n + lanes - 1) // lanes
        while w < count:
            width = load_int64(job, TABLE_WIDTH) + w * 16
            source, target = x + w * load_int64(job, FROM_WIDTH), y + w * load_int64(job, TO_WIDTH)
            last = width + (BESIDE - 1) * 16 if w + BESIDE <= count else width
            is_tile = (w + BESIDE <= count) & (load_int64(width, 1) == taps) & (load_int64(last, 1) == taps)
            k = 0
            while k < vectors:
                offset = place_of(k, n) * size
                start = bias + offset if bias != 0 else 0
                factors, from_, to = weights + offset, source + offset, target + offset
                if is_tile:
                    windows_beside(job, depth, height, width, from_, factors, n, start, to)
                    k += 1
                elif (k + TILE) * lanes <= n:
                    window_of_tile(job, depth, height, width, from_, factors, n, start, to)
                    k += TILE
                else:
                    window_of_one(job, depth, height, width, from_, factors, n, start, to)
                    k += 1
            w += BESIDE if is_tile else 1

    @subroutine
    def outputs_of(job, x, weights, n, bias, y):
        heights = load_int64(job, COUNT_HEIGHT)
        x, y = x + load_int64(job, FROM), y + load_int64(job, TO)
        for line in range(load_int64(job, COUNT_DEPTH) * heights):
            d, h = line // heights, line % heights
            source = x + d * load_int64(job, FROM_DEPTH) + h * load_int64(job, FROM_HEIGHT)
            target = y + d * load_int64(job, TO_DEPTH) + h * load_int64(job, TO_HEIGHT)
            depth, height = load_int64(job, TABLE_DEPTH) + d * 16, load_int64(job, TABLE_HEIGHT) + h * 16
            outputs_of_line(job, depth, height, source, weights, n, bias, target)

    def outputs(args, lo, hi, task):
        channels, chunk, has_bias = (
            load_int64(args, CHANNELS),
            load_int64(args, CHUNK),
            load_int64(args, HAS_BIAS),
        )
        weights = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        chunks, channel_step = (channels + chunk - 1) // chunk, load_int64(args, WEIGHT_CHANNEL)
        for row in range(lo, hi):
            image, first = row // chunks, first_channel(args, row % chunks)
            n = min(chunk, channels - first)
            x = load_int64(args, 0) + (image * load_int64(args, X_IMAGE) + first) * size
            y = load_int64(args, 2 + has_bias) + (image * load_int64(args, Y_IMAGE) + first) * size
            bias = load_int64(args, 2) + first * size if has_bias != 0 else 0
            for tap in range(load_int64(args, TAP_COUNT)):
                offset = load_int64(load_int64(args, TAPS), tap) + first * channel_step
                apart, together = (
                    view(load_int64(args, 1) + offset * size, n),
                    view(weights + tap * n * size, n),
                )
                for channel in range(n):
                    together[channel] = apart[channel * channel_step]
            for index in range(load_int64(args, JOB_COUNT)):
                job = load_int64(args, JOBS) + index * JOB_WORDS * 8
                outputs_of(job, x, weights + load_int64(job, FIRST_TAP) * n * size, n, bias, y)

    return outputs


def make_weight(dtype):
    """The kernel of the gradient of the weight; operands x, y, weight. Rows are chunks of channels."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    lanes = tile_shape(dtype).lanes
    step = lanes * size
    first_channel, place_of = _make_chunks(dtype)
    add_one = sum_of_products(dtype, 1, shared=False)
    add_two = sum_of_products(dtype, 2, shared=False)
    add_tile = sum_of_products(dtype, TILE, shared=False)

    @subroutine
    def add_tap(args, job, x, y, n, tap_width, totals):
        """The products of a tap at the outputs of a line that it meets; `totals` are those of the tap."""
        words = load_int64(job, TABLE_WIDTH) + tap_width * 16
        first, count = load_int64(words, 0), load_int64(words, 1)
        x_step, y_step, vectors = (
            load_int64(job, FROM_WIDTH),
            load_int64(job, TO_WIDTH),
            load_int64(args, VECTORS),
        )
        x, y, k = x + first * x_step, y + first * y_step, 0
        while k * lanes < n:
            offset = place_of(k, n) * size
            if (k + TILE) * lanes <= n:
                add_tile(
                    x + offset, vectors, 0, x_step, y + offset, 0, y_step, totals + k * step, step, 1, count
                )
                k += TILE
            elif (k + 2) * lanes <= n:
                add_two(
                    x + offset, vectors, 0, x_step, y + offset, 0, y_step, totals + k * step, step, 1, count
                )
                k += 2
            else:
                add_one(
                    x + offset, vectors, 0, x_step, y + offset, 0, y_step, totals + k * step, step, 1, count
                )
                k += 1

    @subroutine
    def add_line(args, job, x, y, n, d, h, totals):
        """The products of all taps at a line of outputs; `x` and `y` are the images."""
        heights, widths = load_int64(job, KERNEL_HEIGHT), load_int64(job, KERNEL_WIDTH)
        x += load_int64(job, FROM) + d * load_int64(job, FROM_DEPTH) + h * load_int64(job, FROM_HEIGHT)
        y += d * load_int64(job, TO_DEPTH) + h * load_int64(job, TO_HEIGHT)
        tap_bytes = (n + lanes - 1) // lanes * step
        for line in range(load_int64(job, KERNEL_DEPTH) * heights):
            depth = load_int64(job, TABLE_DEPTH) + line // heights * 16
            height = load_int64(job, TABLE_HEIGHT) + line % heights * 16
            d_inside, h_inside = d - load_int64(depth, 0), h - load_int64(height, 0)
            if (
                (d_inside >= 0)
                & (d_inside < load_int64(depth, 1))
                & (h_inside >= 0)
                & (h_inside < load_int64(height, 1))
            ):
                for w in range(widths):
                    tap = line * widths + w
                    place = x + load_int64(load_int64(job, OFFSETS), tap)
                    add_tap(args, job, place, y, n, w, totals + tap * tap_bytes)

    def weight(args, lo, hi, task):
        channels, chunk, job = load_int64(args, CHANNELS), load_int64(args, CHUNK), load_int64(args, JOBS)
        totals = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        count, heights = load_int64(args, TAP_COUNT), load_int64(job, COUNT_HEIGHT)
        for row in range(lo, hi):
            first = first_channel(args, row)
            n = min(chunk, channels - first)
            vectors = (n + lanes - 1) // lanes
            sums = view(totals, count * vectors * lanes)
            for k in range(count * vectors * lanes):
                sums[k] = 0
            for image in range(load_int64(args, BATCH)):
                x = load_int64(args, 0) + (image * load_int64(args, X_IMAGE) + first) * size
                y = load_int64(args, 1) + (image * load_int64(args, Y_IMAGE) + first) * size
                for line in range(load_int64(job, COUNT_DEPTH) * heights):
                    add_line(args, job, x, y, n, line // heights, line % heights, totals)
            for k in range(count * vectors):
                channel = first + place_of(k % vectors, n)
                offset = channel * load_int64(args, WEIGHT_CHANNEL) + load_int64(
                    load_int64(args, TAPS), k // vectors
                )
                together, apart = view(totals + k * step, lanes), view(load_int64(args, 2) + offset * size, 1)
                for lane in range(lanes):
                    apart[lane * load_int64(args, WEIGHT_CHANNEL)] = together[lane]

    return weight
