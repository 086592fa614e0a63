"""Recurrent networks on the CPU: a whole sequence in one launch, forward or backward.

A task takes some sequences of the batch through all steps, so no step waits for another task. The weights are
packed first (`nbdl.kernels.cpu.panels`); the running states, and the product of the step, are compact arrays
that stay in the caches. What is element by element comes as a function of one row, made of the cell's
formula.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64
from nbdl.kernels.cpu.panels import panel_packer, panel_product
from nbdl.kernels.cpu.stages import FIRST_WORD

# Words of the argument block. The first ones are the numbers of operands, -1 for one that is not there.
(
    X,  # projections, or of the gradient: the gradients of the hidden states
    SIZES,  # how many sequences go on at each step
    WEIGHT,
    BIAS,
    SAVED,  # saved outputs of the steps; if there are none, each task has a row of scratch memory for them
    MEMORY,  # the state that the step reads, before each step
    HIDDEN,  # hidden states of all steps
    HIDDEN_IN,  # initial states, or the gradients of the final ones
    CELL_IN,
    HIDDEN_OUT,  # final states, or the gradients of the initial ones; the running states meanwhile
    CELL_OUT,
    HIDDEN_LOG,  # states before each step
    CELL_LOG,
    X_GRADIENT,
    U_GRADIENT,  # -1 where it is that of x
    LENGTH,  # steps
    UNITS,  # hidden units
    BLOCKS,  # of the weights
    SAVED_BLOCKS,
    TIME_STEP,  # rows of x from step to step
    BATCH_STEP,  # and from sequence to sequence
    REVERSE,
    IS_FORWARD,
    ADDS,  # of the gradient: the step has written a part of the hidden state's gradient
    PACKED,  # address of the packed weights
    PRODUCT,  # address of the products of the step, a row a sequence
    ROWS,  # address of the scratch rows for SAVED
    TILES,  # address of the table of micro-kernels
) = range(FIRST_WORD, FIRST_WORD + 28)


@subroutine(fastmath=FASTMATH_REASSOC)
def _operand(args, word):
    """Address of an operand, 0 if it is not there."""
    place = load_int64(args, word)
    return load_int64(args, place) if place >= 0 else 0


@subroutine(fastmath=FASTMATH_REASSOC)
def _active(sizes, t, lo, hi):
    """The end of the rows in [lo, hi) that go on at step t."""
    if sizes == 0:
        return hi
    return max(lo, min(hi, int64_at(sizes, t + 1)[t]))


def _row_functions(dtype):
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def copy(source, target, count):
        s, t = view(source, count), view(target, count)
        for k in range(count):
            t[k] = s[k]

    @subroutine(fastmath=FASTMATH_REASSOC)
    def add(source, target, count):
        s, t = view(source, count), view(target, count)
        for k in range(count):
            t[k] += s[k]

    @subroutine(fastmath=FASTMATH_REASSOC)
    def clear(target, count):
        t = view(target, count)
        for k in range(count):
            t[k] = zero

    return copy, add, clear


def make_pack(dtype):
    """Stage 1: packs the weights, transposed for the forward pass; rows are panels."""
    pack = panel_packer(dtype)

    def pack_weights(args, lo, hi, task):
        weight, packed = _operand(args, WEIGHT), load_int64(args, PACKED)
        n, width = load_int64(args, UNITS), load_int64(args, UNITS) * load_int64(args, BLOCKS)
        for k in range(lo, hi):
            if load_int64(args, IS_FORWARD):
                pack(weight, 1, n, n, width, k, packed)
            else:
                pack(weight, n, 1, width, n, k, packed)

    return pack_weights


def make_forward(dtype, step):
    """Stage 2: the steps; rows are sequences.

    Args:
        dtype: float32 or float64.
        step: `step(x, u, h, c, saved, n)` for njit code, all addresses of rows: computes the new states from
            x, u and the states, in place, and what is saved.
    """
    size = np.dtype(dtype).itemsize
    multiply, (copy, _, clear) = panel_product(dtype), _row_functions(dtype)

    def forward(args, lo, hi, task):
        n, length, reverse = load_int64(args, UNITS), load_int64(args, LENGTH), load_int64(args, REVERSE)
        time_step, batch_step = load_int64(args, TIME_STEP), load_int64(args, BATCH_STEP)
        width, saved_width = n * load_int64(args, BLOCKS), n * load_int64(args, SAVED_BLOCKS)
        x, sizes, bias = _operand(args, X), _operand(args, SIZES), _operand(args, BIAS)
        h, c, hidden = _operand(args, HIDDEN_OUT), _operand(args, CELL_OUT), _operand(args, HIDDEN)
        saved, h_log, c_log = _operand(args, SAVED), _operand(args, HIDDEN_LOG), _operand(args, CELL_LOG)
        packed, u, tiles = load_int64(args, PACKED), load_int64(args, PRODUCT), load_int64(args, TILES)
        scratch_row = load_int64(args, ROWS) + task * saved_width * size
        row = n * size
        copy(_operand(args, HIDDEN_IN) + lo * row, h + lo * row, (hi - lo) * n)
        if c != 0:
            copy(_operand(args, CELL_IN) + lo * row, c + lo * row, (hi - lo) * n)
        for k in range(length):
            t = length - 1 - k if reverse else k
            end = _active(sizes, t, lo, hi)
            if h_log != 0:
                for b in range(lo, hi):
                    copy(h + b * row, h_log + (t * time_step + b * batch_step) * row, n)
                    if c_log != 0:
                        copy(c + b * row, c_log + (t * time_step + b * batch_step) * row, n)
            multiply(tiles, h + lo * row, n, packed, u + lo * width * size, width, bias, 0,
                     end - lo, width, n)  # fmt: skip
            for b in range(lo, end):
                place = t * time_step + b * batch_step
                saved_row = scratch_row if saved == 0 else saved + place * saved_width * size
                step(x + place * width * size, u + b * width * size, h + b * row, c + b * row, saved_row, n)
            for b in range(lo, hi):
                place = t * time_step + b * batch_step
                copy(h + b * row, hidden + place * row, n)
                if b >= end and saved != 0:
                    clear(saved + place * saved_width * size, saved_width)

    return forward


def make_backward(dtype, step):
    """Stage 2 of the gradient: the steps backwards; rows are sequences.

    Args:
        dtype: float32 or float64.
        step: `step(saved, m, g, h, c, gx, gu, product, n)` for njit code, all addresses of rows: the
            gradients of x and u, the latter also for the product, and in place those of the states as far as
            they do not come through the product.
    """
    size = np.dtype(dtype).itemsize
    multiply, (copy, add, clear) = panel_product(dtype), _row_functions(dtype)

    def backward(args, lo, hi, task):
        n, length, reverse = load_int64(args, UNITS), load_int64(args, LENGTH), load_int64(args, REVERSE)
        time_step, batch_step = load_int64(args, TIME_STEP), load_int64(args, BATCH_STEP)
        width, saved_width = n * load_int64(args, BLOCKS), n * load_int64(args, SAVED_BLOCKS)
        g, sizes, adds = _operand(args, X), _operand(args, SIZES), load_int64(args, ADDS)
        h, c = _operand(args, HIDDEN_OUT), _operand(args, CELL_OUT)
        saved, memory = _operand(args, SAVED), _operand(args, MEMORY)
        gx, gu = _operand(args, X_GRADIENT), _operand(args, U_GRADIENT)
        packed, product, tiles = load_int64(args, PACKED), load_int64(args, PRODUCT), load_int64(args, TILES)
        row, wide = n * size, width * size
        copy(_operand(args, HIDDEN_IN) + lo * row, h + lo * row, (hi - lo) * n)
        if c != 0:
            copy(_operand(args, CELL_IN) + lo * row, c + lo * row, (hi - lo) * n)
        for k in range(length):
            t = k if reverse else length - 1 - k
            end = _active(sizes, t, lo, hi)
            for b in range(lo, end):
                place = t * time_step + b * batch_step
                step(saved + place * saved_width * size, memory + place * row, g + place * row, h + b * row,
                     c + b * row, gx + place * wide, gu + place * wide, product + b * wide, n)  # fmt: skip
            h_rows = h + lo * row
            multiply(tiles, product + lo * wide, width, packed, h_rows, n, h_rows if adds else 0, n,
                     end - lo, n, width)  # fmt: skip
            for b in range(end, hi):
                place = t * time_step + b * batch_step
                add(g + place * row, h + b * row, n)
                clear(gx + place * wide, width)
                if gu != 0:
                    clear(gu + place * wide, width)

    return backward
