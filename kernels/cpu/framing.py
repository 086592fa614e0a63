"""Arrays continued beyond their edges on the CPU, and what a frame gives back to the elements it repeats.

Both arrays are contiguous, (planes, depth, height, width, run): the three axes may have frames, a run is what
lies behind them. A row of the kernels is a line of the result.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import (
    float32_at,
    float64_at,
    int64_at,
    load_int64,
    uint8_at,
    uint16_at,
    uint32_at,
    uint64_at,
)

# Words of the argument block, behind the two operands. Of depth and height there is a table for every place
# of the result: where the places of the operand begin that it is made of, then these.
(
    RESULT_DEPTH,
    RESULT_HEIGHT,
    DEPTH,  # of the operand
    HEIGHT,
    STARTS_DEPTH,  # addresses
    PLACES_DEPTH,
    STARTS_HEIGHT,
    PLACES_HEIGHT,
    WIDTH,  # without its frame
    BEFORE,
    FRAMED_WIDTH,
    PLACES_WIDTH,  # address: which element each of the framed width repeats
    RUN,
) = range(2, 15)


@subroutine
def _start(args, row):
    """Where a task begins: plane, depth and height of a line of the result."""
    rest = row // load_int64(args, RESULT_HEIGHT)
    h = row - rest * load_int64(args, RESULT_HEIGHT)
    plane = rest // load_int64(args, RESULT_DEPTH)
    return plane, rest - plane * load_int64(args, RESULT_DEPTH), h


def make_extend(size):
    """The kernel of the array with its frame; operands x, y; elements of 1, 2, 4 or 8 bytes."""
    view = {1: uint8_at, 2: uint16_at, 4: uint32_at, 8: uint64_at}[size]

    @subroutine(noalias=True)
    def extend_line(x, y, places, before, width, framed, run):
        for k in range(width * run):
            y[before * run + k] = x[k]
        if run == 1:
            for k in range(before):
                y[k] = x[places[k]]
            for k in range(before + width, framed):
                y[k] = x[places[k]]
            return
        for k in range(framed - width):
            k += width if k >= before else 0
            for j in range(run):
                y[k * run + j] = x[places[k] * run + j]

    def extend(args, lo, hi, task):
        before, width, framed = (
            load_int64(args, BEFORE),
            load_int64(args, WIDTH),
            load_int64(args, FRAMED_WIDTH),
        )
        run = load_int64(args, RUN)
        places = int64_at(load_int64(args, PLACES_WIDTH), framed)
        height, depth = load_int64(args, HEIGHT), load_int64(args, DEPTH)
        deep = int64_at(load_int64(args, PLACES_DEPTH), depth)
        down = int64_at(load_int64(args, PLACES_HEIGHT), height)
        plane, d, h = _start(args, lo)
        for row in range(lo, hi):
            line = ((plane * depth + deep[d]) * height + down[h]) * width * run
            x = view(load_int64(args, 0) + line * size, width * run)
            y = view(load_int64(args, 1) + row * framed * run * size, framed * run)
            extend_line(x, y, places, before, width, framed, run)
            h += 1
            if h == load_int64(args, RESULT_HEIGHT):
                h, d = 0, d + 1
            if d == load_int64(args, RESULT_DEPTH):
                d, plane = 0, plane + 1

    return extend


def make_extend_input(dtype):
    """The kernel of the transpose: every element with all that repeat it; operands y, x."""
    size = dtype.itemsize
    view = float32_at if size == 4 else float64_at

    @subroutine(noalias=True)
    def add_line(y, x, places, before, width, framed, run, is_first):
        if is_first:
            for k in range(width * run):
                x[k] = y[before * run + k]
        else:
            for k in range(width * run):
                x[k] += y[before * run + k]
        for k in range(framed - width):
            k += width if k >= before else 0
            for j in range(run):
                x[places[k] * run + j] += y[k * run + j]

    def extend_input(args, lo, hi, task):
        before, width, framed = (
            load_int64(args, BEFORE),
            load_int64(args, WIDTH),
            load_int64(args, FRAMED_WIDTH),
        )
        run = load_int64(args, RUN)
        places = int64_at(load_int64(args, PLACES_WIDTH), framed)
        height, depth = load_int64(args, HEIGHT), load_int64(args, DEPTH)
        deep, down = (
            int64_at(load_int64(args, PLACES_DEPTH), depth),
            int64_at(load_int64(args, PLACES_HEIGHT), height),
        )
        starts_deep = int64_at(load_int64(args, STARTS_DEPTH), depth)
        starts_down = int64_at(load_int64(args, STARTS_HEIGHT), height)
        plane, d, h = _start(args, lo)
        for row in range(lo, hi):
            x = view(load_int64(args, 1) + row * width * run * size, width * run)
            for i in range(starts_deep[d], starts_deep[d + 1]):
                for j in range(starts_down[h], starts_down[h + 1]):
                    line = ((plane * depth + deep[i]) * height + down[j]) * framed * run
                    y = view(load_int64(args, 0) + line * size, framed * run)
                    is_first = (i == starts_deep[d]) & (j == starts_down[h])
                    add_line(y, x, places, before, width, framed, run, is_first)
            h += 1
            if h == load_int64(args, RESULT_HEIGHT):
                h, d = 0, d + 1
            if d == load_int64(args, RESULT_DEPTH):
                d, plane = 0, plane + 1

    return extend_input
