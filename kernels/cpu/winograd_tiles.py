"""Convolutions of 3x3 taps and stride 1 by the method of Winograd, F(4x4, 3x3): a quarter of the products.

A tile of 4x4 outputs reads 6x6 inputs. In every channel these are 6x6 values of a polynomial product,

    y = A^T [(G w G^T) * (B^T x B)] A

(A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016), so that the sum over
the channels becomes 36 matrix products [tiles, channels] @ [channels, filters]. The transpose of the
formula in w gives the gradient of the weight:

    dw = G^T [(A dy A^T) * (B^T x B)] G

summed over the tiles by 36 products [channels, tiles] @ [tiles, filters].

The polynomials are evaluated at 0, +-a, +-b and infinity. Smaller points than the usual 1 and 2 keep the
entries of the matrices closer together, and so the rounding errors smaller (B. Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", ACM TOMS 46(4), 2020).

Channels are adjacent in memory, and at least as many as a vector has lanes: the last vector overlaps the one
before. Tiles that lie partly outside are completed in a copy. Rows of the kernels are *bands*, the rows of
tiles of all images. The kernels are the stages of one plan (`nbdl.kernels.cpu.stages`); strides count
elements.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64, stack_int64
from nbdl.kernels.cpu.microkernel import tile_shape
from nbdl.kernels.cpu.stages import FIRST_WORD

# Words of the argument block.
(
    CHANNELS,
    FILTERS,
    X_IMAGE,  # strides of the input
    X_HEIGHT,
    X_WIDTH,
    HEIGHT,  # size of the input
    WIDTH,
    FIRST_HEIGHT,  # position of the first tap of the first output
    FIRST_WIDTH,
    Y_IMAGE,  # strides of the output, or of its gradient
    Y_HEIGHT,
    Y_WIDTH,
    OUT_HEIGHT,  # size of the output
    OUT_WIDTH,
    BANDS,  # in an image
    TILES_WIDE,  # tiles of a band
    BLOCK,  # bands that are transformed together
    WEIGHT_FILTER,  # strides of the weight, from its first tap
    WEIGHT_CHANNEL,
    WEIGHT_HEIGHT,
    WEIGHT_WIDTH,
    WEIGHT_FIRST,  # offset of the tap that the first input meets
    HAS_BIAS,
    TILES,  # address of the micro-kernels
    WEIGHT_VALUES,  # address of the transformed weight
    SCRATCH,
    SCRATCH_STRIDE,  # bytes a task
    Y_VALUES,  # offsets in a task's scratch memory of the transformed output, in bytes
    PATCHES,  # and of a line of zeros and a tile that lies partly outside
    PARTIALS,  # address of the tasks' sums of the weight's gradient
    PARTIAL_COUNT,
    EPILOGUE,  # address of a kernel that is called on finished bands of the output, or 0
    EPILOGUE_ARGS,  # address of its argument block
    EPILOGUE_ROWS,  # its rows for each position of the output
) = range(FIRST_WORD, FIRST_WORD + 34)

TILE = 4  # outputs of a tile along an axis
PATCH = 6  # inputs that they read, and values of the polynomials
VALUES = PATCH * PATCH
TAPS = 3
VALUE_WORDS = 8 * VALUES  # of a vector of each value
_A, _B = 0.625, 1.5  # exact in binary
_A2, _B2 = _A * _A, _B * _B
_SUM, _PRODUCT = _A2 + _B2, _A2 * _B2
_AT_0, _AT_A, _AT_B = 1 / _PRODUCT, 1 / (2 * _A2 * (_A2 - _B2)), 1 / (2 * _B2 * (_B2 - _A2))


def view_of(dtype):
    """The function that sees memory as elements of a dtype."""
    return float32_at if np.dtype(dtype).itemsize == 4 else float64_at


@cache
def make_lines(dtype):
    """The five transforms of one axis, of `n` lanes: arrays to arrays that share no memory with them."""
    number = np.dtype(dtype).type
    a, b, a2, b2, a3, b3 = (number(x) for x in (_A, _B, _A2, _B2, _A * _A2, _B * _B2))
    total, product = number(_SUM), number(_PRODUCT)
    at_0, at_a, at_b = number(_AT_0), number(_AT_A), number(_AT_B)

    @subroutine(fastmath=FASTMATH_REASSOC, inlined=True, noalias=True)
    def of_input(x0, x1, x2, x3, x4, x5, y0, y1, y2, y3, y4, y5, n):
        for k in range(n):
            even_a, odd_a = x4[k] - b2 * x2[k], a * (x3[k] - b2 * x1[k])
            even_b, odd_b = x4[k] - a2 * x2[k], b * (x3[k] - a2 * x1[k])
            y0[k] = x4[k] - total * x2[k] + product * x0[k]
            y1[k] = even_a + odd_a
            y2[k] = even_a - odd_a
            y3[k] = even_b + odd_b
            y4[k] = even_b - odd_b
            y5[k] = x5[k] - total * x3[k] + product * x1[k]

    @subroutine(fastmath=FASTMATH_REASSOC, inlined=True, noalias=True)
    def to_output(x0, x1, x2, x3, x4, x5, start, y0, y1, y2, y3, n):
        for k in range(n):
            even_a, odd_a, even_b, odd_b = x1[k] + x2[k], x1[k] - x2[k], x3[k] + x4[k], x3[k] - x4[k]
            y0[k] = start[k] + x0[k] + even_a + even_b
            y1[k] = start[k] + a * odd_a + b * odd_b
            y2[k] = start[k] + a2 * even_a + b2 * even_b
            y3[k] = start[k] + a3 * odd_a + b3 * odd_b + x5[k]

    @subroutine(fastmath=FASTMATH_REASSOC, inlined=True, noalias=True)
    def of_output(x0, x1, x2, x3, y0, y1, y2, y3, y4, y5, n):
        for k in range(n):
            even_a, odd_a = x0[k] + a2 * x2[k], a * x1[k] + a3 * x3[k]
            even_b, odd_b = x0[k] + b2 * x2[k], b * x1[k] + b3 * x3[k]
            y0[k] = x0[k]
            y1[k] = even_a + odd_a
            y2[k] = even_a - odd_a
            y3[k] = even_b + odd_b
            y4[k] = even_b - odd_b
            y5[k] = x3[k]

    @subroutine(fastmath=FASTMATH_REASSOC, inlined=True, noalias=True)
    def of_weight(x0, x1, x2, y0, y1, y2, y3, y4, y5, n):
        for k in range(n):
            even_a, odd_a = at_a * (x0[k] + a2 * x2[k]), at_a * a * x1[k]
            even_b, odd_b = at_b * (x0[k] + b2 * x2[k]), at_b * b * x1[k]
            y0[k] = at_0 * x0[k]
            y1[k] = even_a + odd_a
            y2[k] = even_a - odd_a
            y3[k] = even_b + odd_b
            y4[k] = even_b - odd_b
            y5[k] = x2[k]

    @subroutine(fastmath=FASTMATH_REASSOC, inlined=True, noalias=True)
    def to_weight(x0, x1, x2, x3, x4, x5, y0, y1, y2, n):
        for k in range(n):
            even_a, odd_a = at_a * (x1[k] + x2[k]), at_a * a * (x1[k] - x2[k])
            even_b, odd_b = at_b * (x3[k] + x4[k]), at_b * b * (x3[k] - x4[k])
            y0[k] = at_0 * x0[k] + even_a + even_b
            y1[k] = odd_a + odd_b
            y2[k] = a2 * even_a + b2 * even_b + x5[k]

    return of_input, to_output, of_output, of_weight, to_weight


@cache
def _make_boxes(dtype):
    """Functions for tiles that lie partly outside of an image: read a box as a copy, write one from a copy.

    Such a box has `count` x `count` positions of `n` channels; `first` is its place in the image.
    """
    size, view, zero = np.dtype(dtype).itemsize, view_of(dtype), np.dtype(dtype).type(0)

    @subroutine
    def is_inside(first, count, heights, widths):
        h, w = first
        return (h >= 0) & (h + count <= heights) & (w >= 0) & (w + count <= widths)

    @subroutine
    def read_box(image, height_step, width_step, heights, widths, first, count, n, copy):
        for i in range(count * count):
            h, w = first[0] + i // count, first[1] + i % count
            target = view(copy + i * n * size, n)
            if (h >= 0) & (h < heights) & (w >= 0) & (w < widths):
                source = view(image + h * height_step + w * width_step, n)
                for k in range(n):
                    target[k] = source[k]
            else:
                for k in range(n):
                    target[k] = zero

    @subroutine
    def write_box(image, height_step, width_step, heights, widths, first, count, n, copy):
        for i in range(count * count):
            h, w = first[0] + i // count, first[1] + i % count
            if (h < heights) & (w < widths):
                source = view(copy + i * n * size, n)
                target = view(image + h * height_step + w * width_step, n)
                for k in range(n):
                    target[k] = source[k]

    return is_inside, read_box, write_box


@cache
def make_tiles(dtype):
    """Functions that transform the tiles of some bands: the input, the output, the output's gradient."""
    size, n, view = np.dtype(dtype).itemsize, tile_shape(dtype).lanes, view_of(dtype)
    of_input, to_output, of_output, _, _ = make_lines(dtype)
    is_inside, read_box, write_box = _make_boxes(dtype)
    line = n * size

    @subroutine(inlined=True)
    def input_patch(source, height, width, middle, target, step):
        """One tile, `n` channels; `height`, `width` and `step` are bytes between rows, columns, values."""
        for j in range(PATCH):
            x, y = source + j * width, middle + j * line
            of_input(
                view(x, n), view(x + height, n), view(x + 2 * height, n), view(x + 3 * height, n),
                view(x + 4 * height, n), view(x + 5 * height, n), view(y, n), view(y + 6 * line, n),
                view(y + 12 * line, n), view(y + 18 * line, n), view(y + 24 * line, n),
                view(y + 30 * line, n), n,
            )  # fmt: skip
        for i in range(PATCH):
            x, y = middle + i * PATCH * line, target + i * PATCH * step
            of_input(
                view(x, n), view(x + line, n), view(x + 2 * line, n), view(x + 3 * line, n),
                view(x + 4 * line, n), view(x + 5 * line, n), view(y, n), view(y + step, n),
                view(y + 2 * step, n), view(y + 3 * step, n), view(y + 4 * step, n), view(y + 5 * step, n), n,
            )  # fmt: skip

    @subroutine(inlined=True)
    def output_patch(source, step, middle, zeros, start, target, height, width):
        for j in range(PATCH):
            x, y = source + j * step, middle + j * line
            to_output(
                view(x, n), view(x + 6 * step, n), view(x + 12 * step, n), view(x + 18 * step, n),
                view(x + 24 * step, n), view(x + 30 * step, n), view(zeros, n),
                view(y, n), view(y + 6 * line, n), view(y + 12 * line, n), view(y + 18 * line, n), n,
            )  # fmt: skip
        for i in range(TILE):
            x, y = middle + i * PATCH * line, target + i * height
            to_output(
                view(x, n), view(x + line, n), view(x + 2 * line, n), view(x + 3 * line, n),
                view(x + 4 * line, n), view(x + 5 * line, n), view(start, n),
                view(y, n), view(y + width, n), view(y + 2 * width, n), view(y + 3 * width, n), n,
            )  # fmt: skip

    @subroutine(inlined=True)
    def gradient_patch(source, height, width, middle, target, step):
        for j in range(TILE):
            x, y = source + j * width, middle + j * line
            of_output(
                view(x, n), view(x + height, n), view(x + 2 * height, n), view(x + 3 * height, n),
                view(y, n), view(y + 4 * line, n), view(y + 8 * line, n), view(y + 12 * line, n),
                view(y + 16 * line, n), view(y + 20 * line, n), n,
            )  # fmt: skip
        for i in range(PATCH):
            x, y = middle + i * TILE * line, target + i * PATCH * step
            of_output(
                view(x, n), view(x + line, n), view(x + 2 * line, n), view(x + 3 * line, n),
                view(y, n), view(y + step, n), view(y + 2 * step, n), view(y + 3 * step, n),
                view(y + 4 * step, n), view(y + 5 * step, n), n,
            )  # fmt: skip

    @subroutine
    def place_of(args, band, tile):
        """Image, and position in it of the first output of a tile, the tiles counted from a band."""
        band, column = band + tile // load_int64(args, TILES_WIDE), tile % load_int64(args, TILES_WIDE)
        bands = load_int64(args, BANDS)
        return band // bands, band % bands * TILE, column * TILE

    @subroutine
    def input_values(args, band, tiles, values, copy):
        """Transforms the input of all tiles: [value, tile, channel]."""
        channels = load_int64(args, CHANNELS)
        heights, widths = load_int64(args, HEIGHT), load_int64(args, WIDTH)
        height_step, width_step = load_int64(args, X_HEIGHT) * size, load_int64(args, X_WIDTH) * size
        middle = stack_int64(VALUE_WORDS)
        for t in range(tiles):
            number, h, w = place_of(args, band, t)
            first = h + load_int64(args, FIRST_HEIGHT), w + load_int64(args, FIRST_WIDTH)
            image = load_int64(args, 0) + number * load_int64(args, X_IMAGE) * size
            source = image + first[0] * height_step + first[1] * width_step
            height, width = height_step, width_step
            if not is_inside(first, PATCH, heights, widths):
                read_box(image, height, width, heights, widths, first, PATCH, channels, copy)
                source, height, width = copy, PATCH * channels * size, channels * size
            target = values + t * channels * size
            for c in range(0, channels, n):
                place = min(c, channels - n) * size
                input_patch(source + place, height, width, middle, target + place, tiles * channels * size)

    @subroutine
    def output_values(args, y, band, tiles, values, start, zeros, copy):
        """Writes the outputs of all tiles; `start` is the address of the bias, or of zeros."""
        filters = load_int64(args, FILTERS)
        heights, widths = load_int64(args, OUT_HEIGHT), load_int64(args, OUT_WIDTH)
        height_step, width_step = load_int64(args, Y_HEIGHT) * size, load_int64(args, Y_WIDTH) * size
        middle = stack_int64(VALUE_WORDS)
        for t in range(tiles):
            number, h, w = place_of(args, band, t)
            image = y + number * load_int64(args, Y_IMAGE) * size
            target = image + h * height_step + w * width_step
            height, width = height_step, width_step
            inside = is_inside((h, w), TILE, heights, widths)
            if not inside:
                target, height, width = copy, TILE * filters * size, filters * size
            source = values + t * filters * size
            for c in range(0, filters, n):
                place = min(c, filters - n) * size
                output_patch(source + place, tiles * filters * size, middle, zeros, start + place,
                             target + place, height, width)  # fmt: skip
            if not inside:
                write_box(image, height_step, width_step, heights, widths, (h, w), TILE, filters, copy)

    @subroutine
    def gradient_values(args, band, tiles, values, copy):
        """Transforms the gradient of the output of all tiles: [value, tile, filter]."""
        filters = load_int64(args, FILTERS)
        heights, widths = load_int64(args, OUT_HEIGHT), load_int64(args, OUT_WIDTH)
        height_step, width_step = load_int64(args, Y_HEIGHT) * size, load_int64(args, Y_WIDTH) * size
        middle = stack_int64(VALUE_WORDS)
        for t in range(tiles):
            number, h, w = place_of(args, band, t)
            image = load_int64(args, 1) + number * load_int64(args, Y_IMAGE) * size
            source = image + h * height_step + w * width_step
            height, width = height_step, width_step
            if not is_inside((h, w), TILE, heights, widths):
                read_box(image, height, width, heights, widths, (h, w), TILE, filters, copy)
                source, height, width = copy, TILE * filters * size, filters * size
            target = values + t * filters * size
            for c in range(0, filters, n):
                place = min(c, filters - n) * size
                gradient_patch(source + place, height, width, middle, target + place, tiles * filters * size)

    return input_values, output_values, gradient_values
