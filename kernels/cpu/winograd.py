"""The kernels of Winograd's convolutions: stages that transform, multiply and transform back.

See `nbdl.kernels.cpu.winograd_tiles` for the method, and for the words of the argument block.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbdl.kernels.cpu.convolution import even_height
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import call_kernel, load_int64, prefetch, stack_int64
from nbdl.kernels.cpu.microkernel import tile_caller, tile_shape
from nbdl.kernels.cpu.winograd_tiles import (
    BANDS,
    BLOCK,
    CHANNELS,
    EPILOGUE,
    EPILOGUE_ARGS,
    EPILOGUE_ROWS,
    FILTERS,
    HAS_BIAS,
    OUT_HEIGHT,
    OUT_WIDTH,
    PARTIAL_COUNT,
    PARTIALS,
    PATCH,
    PATCHES,
    SCRATCH,
    SCRATCH_STRIDE,
    TAPS,
    TILE,
    TILES,
    TILES_WIDE,
    VALUE_WORDS,
    VALUES,
    WEIGHT_CHANNEL,
    WEIGHT_FILTER,
    WEIGHT_FIRST,
    WEIGHT_HEIGHT,
    WEIGHT_VALUES,
    WEIGHT_WIDTH,
    X_HEIGHT,
    X_IMAGE,
    Y_HEIGHT,
    Y_IMAGE,
    Y_VALUES,
    make_patch,
    make_tiles,
    of_weight,
    to_weight,
    view_of,
)  # fmt: skip

CACHE_LINE = 64
_TAP_WORDS, _MIDDLE_WORDS = 8 * TAPS * TAPS, 8 * TAPS * PATCH  # of vectors


def make_weight_values(dtype):
    """The kernel that transforms the weight: [value, panel of filters, channel, filter]; rows are panels."""
    size, view = np.dtype(dtype).itemsize, view_of(dtype)
    lanes, panel = tile_shape(dtype).lanes, tile_shape(dtype).columns
    patch, line = make_patch(dtype, of_weight), lanes * size

    def weight_values(args, lo, hi, task):
        channels, filters = load_int64(args, CHANNELS), load_int64(args, FILTERS)
        weight = load_int64(args, 1) + load_int64(args, WEIGHT_FIRST) * size
        filter_step, channel_step = load_int64(args, WEIGHT_FILTER), load_int64(args, WEIGHT_CHANNEL)
        step = (filters + panel - 1) // panel * panel * channels * size
        taps, middle = stack_int64(_TAP_WORDS), stack_int64(_MIDDLE_WORDS)
        for k in range(lo, hi):
            for index in range(channels * (panel // lanes)):
                channel, first = index // (panel // lanes), index % (panel // lanes) * lanes
                count = min(lanes, filters - k * panel - first)
                for tap in range(TAPS * TAPS):
                    offset = channel * channel_step + (k * panel + first) * filter_step
                    offset += tap // TAPS * load_int64(args, WEIGHT_HEIGHT)
                    offset += tap % TAPS * load_int64(args, WEIGHT_WIDTH)
                    target = view(taps + tap * line, lanes)
                    for j in range(count):
                        target[j] = view(weight + (offset + j * filter_step) * size, 1)[0]
                target = load_int64(args, WEIGHT_VALUES) + (k * channels + channel) * panel * size
                if count > 0:
                    patch(taps, TAPS * line, line, middle, target + first * size, PATCH * step, step)

    return weight_values


def make_outputs(dtype):
    """The kernel of the outputs, from the transformed weight; operands x, weight, bias if `HAS_BIAS`, y."""
    size = np.dtype(dtype).itemsize
    tile_rows, panel = tile_shape(dtype).rows, tile_shape(dtype).columns
    input_values, output_values, _ = make_tiles(dtype)
    clear, tile = _make_clear(dtype), tile_caller(dtype)
    place_in_input, place_in_output = _make_places(dtype)

    @subroutine
    def multiply(args, x_values, y_values, tiles, following, following_bytes, y, y_bytes):
        """The products; meanwhile memory that is wanted next comes into the cache."""
        channels, filters = load_int64(args, CHANNELS), load_int64(args, FILTERS)
        table, height = load_int64(args, TILES), even_height(tiles, tile_rows)
        panels = (filters + panel - 1) // panel
        for value in range(VALUES):
            fetch(following, following_bytes, value)
            fetch(y, y_bytes, value)
            for k in range(panels):
                weight = load_int64(args, WEIGHT_VALUES) + (value * panels + k) * channels * panel * size
                for i in range(0, tiles, height):
                    tile(table, min(height, tiles - i), min(panel, filters - k * panel),
                         x_values + (value * tiles + i) * channels * size, channels, 1, weight, panel,
                         y_values + ((value * tiles + i) * filters + k * panel) * size, filters, 0, 0,
                         channels, 1, 0, 0)  # fmt: skip

    @subroutine
    def first_position(args, band):
        """Of a band, counted over all images."""
        bands, width = load_int64(args, BANDS), load_int64(args, OUT_WIDTH)
        return (band // bands * load_int64(args, OUT_HEIGHT) + band % bands * TILE) * width

    def outputs(args, lo, hi, task):
        has_bias, block = load_int64(args, HAS_BIAS), load_int64(args, BLOCK)
        x_values = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        y_values, zeros = x_values + load_int64(args, Y_VALUES), x_values + load_int64(args, PATCHES)
        longest = max(load_int64(args, CHANNELS), load_int64(args, FILTERS))
        clear(zeros, longest)
        copy = zeros + longest * size
        start = load_int64(args, 2) if has_bias != 0 else zeros
        for band in range(lo, hi, block):
            tiles = min(block, hi - band) * load_int64(args, TILES_WIDE)
            input_values(args, band, tiles, x_values, copy)
            y = load_int64(args, 2 + has_bias)
            multiply(args, x_values, y_values, tiles, *place_in_input(args, band + block, block),
                     *place_in_output(args, y, band, block))  # fmt: skip
            output_values(args, y, band, tiles, y_values, start, copy)
            if load_int64(args, EPILOGUE) != 0:
                rows = load_int64(args, EPILOGUE_ROWS)
                call_kernel(load_int64(args, EPILOGUE), load_int64(args, EPILOGUE_ARGS),
                            first_position(args, band) * rows,
                            first_position(args, min(band + block, hi)) * rows, task)  # fmt: skip

    return outputs


@subroutine
def fetch(address, count, value):
    """Brings one of so many parts of memory as there are values into the cache.

    The products compute long enough for that; without it the transforms wait for memory, and convolutions of
    images that do not fit in the second-level cache take 1.3 to 1.5 times as long.
    """
    for line in range(value * count // VALUES, (value + 1) * count // VALUES, CACHE_LINE):
        prefetch(address + line)


@cache
def _make_places(dtype):
    """Functions for the addresses of some bands in the input and in the output, and their bytes, about."""
    size = np.dtype(dtype).itemsize

    @subroutine
    def place_in_input(args, band, count):
        bands, height = load_int64(args, BANDS), load_int64(args, X_HEIGHT)
        first = band // bands * load_int64(args, X_IMAGE) + band % bands * TILE * height
        return load_int64(args, 0) + first * size, count * TILE * height * size

    @subroutine
    def place_in_output(args, y, band, count):
        bands, height = load_int64(args, BANDS), load_int64(args, Y_HEIGHT)
        first = band // bands * load_int64(args, Y_IMAGE) + band % bands * TILE * height
        return y + first * size, count * TILE * height * size

    return place_in_input, place_in_output


@cache
def _make_clear(dtype):
    view, zero = view_of(dtype), np.dtype(dtype).type(0)

    @subroutine
    def clear(address, n):
        target = view(address, n)
        for k in range(n):
            target[k] = zero

    return clear


def make_weight_sums(dtype):
    """The kernel of the first stage of the weight's gradient: sums of every task; operands x, y, weight.

    A sum is laid out as [value, channel, filter].
    """
    size = np.dtype(dtype).itemsize
    tile_rows, panel = tile_shape(dtype).rows, tile_shape(dtype).columns
    input_values, _, gradient_values = make_tiles(dtype)
    clear, tile = _make_clear(dtype), tile_caller(dtype)
    place_in_input, place_in_output = _make_places(dtype)

    @subroutine
    def add(args, x_values, y_values, sums, tiles, following, following_bytes, y, y_bytes):
        """Adds the products; meanwhile memory that is wanted next comes into the cache."""
        channels, filters = load_int64(args, CHANNELS), load_int64(args, FILTERS)
        table, height = load_int64(args, TILES), even_height(channels, tile_rows)
        for value in range(VALUES):
            fetch(following, following_bytes, value)
            fetch(y, y_bytes, value)
            x, y_value = x_values + value * tiles * channels * size, y_values + value * tiles * filters * size
            total = sums + value * channels * filters * size
            for j in range(0, filters, panel):
                for i in range(0, channels, height):
                    target = total + (i * filters + j) * size
                    tile(table, min(height, channels - i), min(panel, filters - j),
                         x + i * size, 1, channels, y_value + j * size, filters, target, filters,
                         target, filters, tiles, 1, 0, 0)  # fmt: skip

    def weight_sums(args, lo, hi, task):
        channels, filters, block = (
            load_int64(args, CHANNELS),
            load_int64(args, FILTERS),
            load_int64(args, BLOCK),
        )
        x_values = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        y_values, copy = x_values + load_int64(args, Y_VALUES), x_values + load_int64(args, PATCHES)
        sums = load_int64(args, PARTIALS) + task * VALUES * channels * filters * size
        clear(sums, VALUES * channels * filters)
        for band in range(lo, hi, block):
            tiles = min(block, hi - band) * load_int64(args, TILES_WIDE)
            input_values(args, band, tiles, x_values, copy)
            gradient_values(args, band, tiles, y_values, copy)
            add(args, x_values, y_values, sums, tiles, *place_in_input(args, band + block, block),
                *place_in_output(args, load_int64(args, 1), band + block, block))  # fmt: skip

    return weight_sums


def make_weight_total(dtype):
    """The kernel of the second stage: adds the tasks' sums in a fixed order; rows are channels."""
    size, view, zero = np.dtype(dtype).itemsize, view_of(dtype), np.dtype(dtype).type(0)
    lanes = tile_shape(dtype).lanes
    patch, line = make_patch(dtype, to_weight), lanes * size

    def weight_total(args, lo, hi, task):
        channels, filters = load_int64(args, CHANNELS), load_int64(args, FILTERS)
        slots, step = load_int64(args, PARTIAL_COUNT), load_int64(args, WEIGHT_FILTER)
        values, middle = stack_int64(VALUE_WORDS), stack_int64(_MIDDLE_WORDS)
        taps = stack_int64(_TAP_WORDS)
        for index in range(lo * ((filters + lanes - 1) // lanes), hi * ((filters + lanes - 1) // lanes)):
            channel = index // ((filters + lanes - 1) // lanes)
            first = index % ((filters + lanes - 1) // lanes) * lanes
            count = min(lanes, filters - first)
            for value in range(VALUES):
                total = view(values + value * line, lanes)
                for k in range(count):
                    total[k] = zero
                for slot in range(slots):
                    place = ((slot * VALUES + value) * channels + channel) * filters + first
                    part = view(load_int64(args, PARTIALS) + place * size, count)
                    for k in range(count):
                        total[k] += part[k]
            patch(values, PATCH * line, line, middle, taps, TAPS * line, line)
            weight = load_int64(args, 2) + (channel * load_int64(args, WEIGHT_CHANNEL) + first * step) * size
            for tap in range(TAPS * TAPS):
                offset = tap // TAPS * load_int64(args, WEIGHT_HEIGHT)
                offset += tap % TAPS * load_int64(args, WEIGHT_WIDTH)
                source = view(taps + tap * line, lanes)
                for k in range(count):
                    view(weight + (offset + k * step) * size, 1)[0] = source[k]

    return weight_total
