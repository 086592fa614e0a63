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

import inspect
from functools import cache

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64, stack_int64
from nbdl.kernels.cpu.microkernel import tile_shape
from nbdl.kernels.cpu.stages import FIRST_WORD
from nbdl.kernels.cpu.vectors import line_kernel

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
_A2, _B2, _A3, _B3 = _A**2, _B**2, _A**3, _B**3
_SUM, _PRODUCT = _A2 + _B2, _A2 * _B2
_AT_0, _AT_A, _AT_B = 1 / _PRODUCT, 1 / (2 * _A2 * (_A2 - _B2)), 1 / (2 * _B2 * (_B2 - _A2))


def view_of(dtype):
    """The function that sees memory as elements of a dtype."""
    return float32_at if np.dtype(dtype).itemsize == 4 else float64_at


def of_input(x0, x1, x2, x3, x4, x5):
    """`B^T x`, along one axis."""
    even_a, odd_a = x4 - _B2 * x2, _A * (x3 - _B2 * x1)
    even_b, odd_b = x4 - _A2 * x2, _B * (x3 - _A2 * x1)
    return (
        x4 - _SUM * x2 + _PRODUCT * x0,
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        x5 - _SUM * x3 + _PRODUCT * x1,
    )


def to_output(x0, x1, x2, x3, x4, x5):
    """`A^T x`."""
    even_a, odd_a, even_b, odd_b = x1 + x2, x1 - x2, x3 + x4, x3 - x4
    return (
        x0 + even_a + even_b,
        _A * odd_a + _B * odd_b,
        _A2 * even_a + _B2 * even_b,
        _A3 * odd_a + _B3 * odd_b + x5,
    )


def to_output_from(x0, x1, x2, x3, x4, x5, start):
    """`start + A^T x`."""
    return tuple(start + y for y in to_output(x0, x1, x2, x3, x4, x5))


def of_output(x0, x1, x2, x3):
    """`A x`."""
    even_a, odd_a = x0 + _A2 * x2, _A * x1 + _A3 * x3
    even_b, odd_b = x0 + _B2 * x2, _B * x1 + _B3 * x3
    return x0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, x3


def of_weight(x0, x1, x2):
    """`G x`."""
    even_a, odd_a = _AT_A * (x0 + _A2 * x2), _AT_A * _A * x1
    even_b, odd_b = _AT_B * (x0 + _B2 * x2), _AT_B * _B * x1
    return _AT_0 * x0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, x2


def to_weight(x0, x1, x2, x3, x4, x5):
    """`G^T x`."""
    even_a, odd_a = _AT_A * (x1 + x2), _AT_A * _A * (x1 - x2)
    even_b, odd_b = _AT_B * (x3 + x4), _AT_B * _B * (x3 - x4)
    return _AT_0 * x0 + even_a + even_b, odd_a + odd_b, _A2 * even_a + _B2 * even_b + x5


def make_patch(dtype, formula, from_start=None):
    """A function that transforms both axes of a square of vectors.

    Args:
        dtype: float32 or float64.
        formula: Of one axis.
        from_start: The same with a `start`; for the second axis.

    Returns:
        A function of addresses and bytes: of the source, and from one of its rows and columns to the next; of
        scratch memory for a vector of each value; and of the target in the same way. If there is a start, its
        address follows.
    """
    lanes = tile_shape(dtype).lanes
    line, width = lanes * np.dtype(dtype).itemsize, len(inspect.signature(formula).parameters)
    columns, rows = line_kernel(dtype, lanes, formula), line_kernel(dtype, lanes, from_start or formula)
    height = len(formula(*[0.0] * width))

    @subroutine
    def patch(source, row, column, middle, target, target_row, target_column):
        for j in range(width):
            columns(source + j * column, row, middle + j * line, width * line)
        for i in range(height):
            rows(middle + i * width * line, line, target + i * target_row, target_column)

    @subroutine
    def patch_from(source, row, column, middle, target, target_row, target_column, start):
        for j in range(width):
            columns(source + j * column, row, middle + j * line, width * line)
        for i in range(height):
            rows(middle + i * width * line, line, target + i * target_row, target_column, start)

    return patch_from if from_start else patch


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
    size, n = np.dtype(dtype).itemsize, tile_shape(dtype).lanes
    input_patch, gradient_patch = make_patch(dtype, of_input), make_patch(dtype, of_output)
    output_patch = make_patch(dtype, to_output, to_output_from)
    is_inside, read_box, write_box = _make_boxes(dtype)

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
            target, step = values + t * channels * size, tiles * channels * size
            for c in range(0, channels, n):
                place = min(c, channels - n) * size
                input_patch(source + place, height, width, middle, target + place, PATCH * step, step)

    @subroutine
    def output_values(args, y, band, tiles, values, start, copy):
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
            source, step = values + t * filters * size, tiles * filters * size
            for c in range(0, filters, n):
                place = min(c, filters - n) * size
                output_patch(source + place, PATCH * step, step, middle, target + place, height, width,
                             start + place)  # fmt: skip
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
            target, step = values + t * filters * size, tiles * filters * size
            for c in range(0, filters, n):
                place = min(c, filters - n) * size
                gradient_patch(source + place, height, width, middle, target + place, PATCH * step, step)

    return input_values, output_values, gradient_values
