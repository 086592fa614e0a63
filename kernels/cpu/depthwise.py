"""Depthwise convolution on the CPU: one filter a channel, for arrays with adjacent channels.

The channels are the lanes of the innermost loop. With x[i], y[o] the channels of one position, w[t] those of
one tap, and i the position that output o meets with tap t, all three products run over the same pairs (o, t):

    y[o] += x[i] w[t]    the convolution
    x[i] += y[o] w[t]    its transpose, the gradient of the input
    w[t] += x[i] y[o]    the gradient of the weight

The planner works out, for each axis, a table of three words an output: the first tap that meets the input,
the number of taps that do, and the position of the first.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64

# Words of the argument block, behind at most four operands; strides count elements.
(
    BATCH,
    CHANNELS,
    CHUNK,  # channels of a row of the kernel
    X_IMAGE,
    X_DEPTH,
    X_HEIGHT,
    X_WIDTH,
    X_SIZE,  # positions of an image
    Y_IMAGE,
    Y_DEPTH,
    Y_HEIGHT,
    Y_WIDTH,
    COUNT_DEPTH,  # numbers of outputs
    COUNT_HEIGHT,
    COUNT_WIDTH,
    TABLE_DEPTH,  # addresses of the tables of outputs
    TABLE_HEIGHT,
    TABLE_WIDTH,
    DILATION_DEPTH,
    DILATION_HEIGHT,
    DILATION_WIDTH,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    WEIGHT_CHANNEL,  # stride of the weight
    TAPS,  # address of the offsets of the taps in the weight
    TAP_COUNT,
    HAS_BIAS,
    SCRATCH,  # address of memory for the weights of a chunk, [tap, channel]
    SCRATCH_STRIDE,  # bytes a task
) = range(4, 33)

FORWARD, INPUT, WEIGHT = range(3)
# Which operand is which, by product; a bias stands before the y of the convolution.
_X, _Y, _WEIGHT = (0, 2, 0), (2, 0, 1), (1, 1, 2)


def make_depthwise(dtype, product):
    """The kernel of one of the three products.

    Rows are (image, chunk of channels); chunks of channels for the gradient of the weight, which sums over
    the images.

    Args:
        dtype: float32 or float64.
        product: `FORWARD`, `INPUT` or `WEIGHT`.
    """
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine(noalias=True)
    def one_tap(x, weight, y, n):
        for lane in range(n):
            if product == FORWARD:
                y[lane] += x[lane] * weight[lane]
            elif product == INPUT:
                x[lane] += y[lane] * weight[lane]
            else:
                weight[lane] += x[lane] * y[lane]

    @subroutine(noalias=True)
    def three_taps(x0, x1, x2, weight0, weight1, weight2, y, n):
        for lane in range(n):
            if product == FORWARD:
                y[lane] += x0[lane] * weight0[lane] + x1[lane] * weight1[lane] + x2[lane] * weight2[lane]
            elif product == INPUT:
                x0[lane] += y[lane] * weight0[lane]
                x1[lane] += y[lane] * weight1[lane]
                x2[lane] += y[lane] * weight2[lane]
            else:
                weight0[lane] += x0[lane] * y[lane]
                weight1[lane] += x1[lane] * y[lane]
                weight2[lane] += x2[lane] * y[lane]

    @subroutine(inlined=False)
    def clear(address, n):
        target = view(address, n)
        for lane in range(n):
            target[lane] = zero

    @subroutine
    def copy_weight(args, weight, packed, n):
        """The chunk of the weight to its packed form, or back."""
        step, taps = load_int64(args, WEIGHT_CHANNEL), load_int64(args, TAPS)
        for tap in range(load_int64(args, TAP_COUNT)):
            apart, together = view(weight + load_int64(taps, tap) * size, n), view(packed + tap * n * size, n)
            for lane in range(n):
                if product == WEIGHT:
                    apart[lane * step] = together[lane]
                else:
                    together[lane] = apart[lane * step]

    @subroutine
    def window(args, x, y, packed, n, table_depth, table_height, table_width):
        """All taps of one output; `x` is the image, `y` the output."""
        d0, h0, w0 = load_int64(table_depth, 2), load_int64(table_height, 2), load_int64(table_width, 2)
        x += (
            d0 * load_int64(args, X_DEPTH) + h0 * load_int64(args, X_HEIGHT) + w0 * load_int64(args, X_WIDTH)
        ) * size
        x_depth = load_int64(args, DILATION_DEPTH) * load_int64(args, X_DEPTH)
        x_height = load_int64(args, DILATION_HEIGHT) * load_int64(args, X_HEIGHT)
        x_width = load_int64(args, DILATION_WIDTH) * load_int64(args, X_WIDTH)
        heights, widths = load_int64(table_height, 1), load_int64(table_width, 1)
        for line in range(load_int64(table_depth, 1) * heights):
            d, h = line // heights, line % heights
            tap = (
                (load_int64(table_depth, 0) + d) * load_int64(args, KERNEL_HEIGHT)
                + load_int64(table_height, 0)
                + h
            )
            tap = tap * load_int64(args, KERNEL_WIDTH) + load_int64(table_width, 0)
            source, factors = x + (d * x_depth + h * x_height) * size, packed + tap * n * size
            triples, width, step = widths // 3 * 3, x_width * size, n * size
            for k in range(0, triples, 3):
                x0, weight0 = source + k * width, factors + k * step
                three_taps(
                    view(x0, n), view(x0 + width, n), view(x0 + 2 * width, n), view(weight0, n),
                    view(weight0 + step, n), view(weight0 + 2 * step, n), view(y, n), n)  # fmt: skip
            for k in range(triples, widths):
                one_tap(view(source + k * width, n), view(factors + k * step, n), view(y, n), n)

    @subroutine
    def begin(args, y, first, n):
        """The bias, or zeros, into the channels of an output."""
        if load_int64(args, HAS_BIAS) != 0:
            target, bias = view(y, n), view(load_int64(args, 2) + first * size, n)
            for lane in range(n):
                target[lane] = bias[lane]
        else:
            clear(y, n)

    def depthwise(args, lo, hi, task):
        channels, chunk, batch = load_int64(args, CHANNELS), load_int64(args, CHUNK), load_int64(args, BATCH)
        heights, widths = load_int64(args, COUNT_HEIGHT), load_int64(args, COUNT_WIDTH)
        chunks = (channels + chunk - 1) // chunk
        packed = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        bias = load_int64(args, HAS_BIAS)
        for row in range(lo, hi):
            first = row % chunks * chunk
            n = min(chunk, channels - first)
            weight = load_int64(args, _WEIGHT[product]) + first * load_int64(args, WEIGHT_CHANNEL) * size
            image, last = row // chunks, row // chunks + 1
            if product == WEIGHT:
                image, last = 0, batch
                clear(packed, load_int64(args, TAP_COUNT) * n)
            else:
                copy_weight(args, weight, packed, n)
            while image < last:
                x = load_int64(args, _X[product]) + (image * load_int64(args, X_IMAGE) + first) * size
                y = load_int64(args, _Y[product] + bias) + (image * load_int64(args, Y_IMAGE) + first) * size
                if product == INPUT:
                    for position in range(load_int64(args, X_SIZE)):
                        clear(x + position * channels * size, n)
                for line in range(load_int64(args, COUNT_DEPTH) * heights):
                    d, h = line // heights, line % heights
                    y_line = y + (d * load_int64(args, Y_DEPTH) + h * load_int64(args, Y_HEIGHT)) * size
                    for w in range(widths):
                        output = y_line + w * load_int64(args, Y_WIDTH) * size
                        if product == FORWARD:
                            begin(args, output, first, n)
                        window(args, x, output, packed, n, load_int64(args, TABLE_DEPTH) + d * 24,
                               load_int64(args, TABLE_HEIGHT) + h * 24,
                               load_int64(args, TABLE_WIDTH) + w * 24)  # fmt: skip
                image += 1
            if product == WEIGHT:
                copy_weight(args, weight, packed, n)

    return depthwise
