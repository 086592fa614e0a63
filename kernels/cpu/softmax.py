"""Softmax, its logarithm, the cross-entropy with class indices, and their gradients, on the CPU.

An operand is rows of classes. Where the classes of a row are contiguous and many, the loops run along
them. Else `LANES` rows are copied side by side into scratch memory and the loops run across the rows, so
that ten classes do not mean loops of ten.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64, stack_int64
from nbdl.kernels.cpu.microkernel import tile_shape, transpose_kernel

MAX_OPERANDS = 5
MAX_LOOPS = 3
# Words of the argument block; strides count elements.
CLASSES = MAX_OPERANDS
ROWS = CLASSES + 1
IGNORED = CLASSES + 2  # the class without a loss
SCRATCH = CLASSES + 3  # address of scratch memory for loops across the rows
SCRATCH_STRIDE = CLASSES + 4  # bytes a task
LOOPS = CLASSES + 5  # how many loops the rows are
LENGTHS = CLASSES + 6  # of these loops
ROW_STRIDES = LENGTHS + MAX_LOOPS  # strides along them, MAX_LOOPS words an operand
CLASS_STRIDES = ROW_STRIDES + MAX_OPERANDS * MAX_LOOPS  # stride along the classes, a word an operand
_STRIDES = tuple(8 * (ROW_STRIDES + k * MAX_LOOPS) for k in range(MAX_OPERANDS))  # where they are, in bytes

LANES = 64
_SQUARE = 8  # classes and rows that are transposed in registers
_ROWS_IN_CACHE = 64
_MAXIMA = 64  # maxima that are taken side by side


@subroutine(fastmath=FASTMATH_REASSOC)
def _row_offset(args, row, strides):
    """Elements from the start of an operand to a row, with the words of its strides at `strides`."""
    offset = 0
    for loop in range(load_int64(args, LOOPS) - 1, 0, -1):
        length = load_int64(args, LENGTHS + loop)
        offset += row % length * load_int64(strides, loop)
        row //= length
    return offset + row * load_int64(strides, 0)  # mostly there is one loop, and nothing is divided


@subroutine(inlined=False)
def _row_addresses(args, operand, size, first, count, addresses):
    """Where `count` rows of an operand begin, as words at `addresses`."""
    start, strides = load_int64(args, operand), args + 8 * (ROW_STRIDES + operand * MAX_LOOPS)
    target = int64_at(addresses, count)
    if load_int64(args, LOOPS) == 1:
        step = load_int64(strides, 0)
        for k in range(count):
            target[k] = start + (first + k) * step * size
    else:
        for k in range(count):
            target[k] = start + _row_offset(args, first + k, strides) * size


@subroutine(inlined=False)
def _are_adjacent(args, operand, first, count):
    """Whether `LANES` rows of an operand are neighbours in memory, element by element."""
    strides, innermost = args + 8 * (ROW_STRIDES + operand * MAX_LOOPS), load_int64(args, LOOPS) - 1
    if count < LANES or load_int64(strides, innermost) != 1:
        return False
    return _row_offset(args, first + LANES - 1, strides) - _row_offset(args, first, strides) == LANES - 1


def make_softmax(dtype, logarithm, with_losses, across_rows, adjacent):
    """The kernel of softmax, of its logarithm, or of the cross-entropy.

    Operands: x, y; `with_losses` x, classes (int64), losses, probabilities. Rows: rows of x, or blocks of
    `LANES` rows if the loops run `across_rows`.

    Args:
        dtype: float32 or float64.
        logarithm: Store log(softmax(x)).
        with_losses: Also store the losses.
        across_rows: Run the loops across the rows instead of along the classes.
        adjacent: For x and for the result, whether the classes of a row are adjacent in memory; else the rows
            may be. Of interest if `across_rows`.
    """
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    x_is_adjacent, result_is_adjacent = adjacent
    real = np.dtype(dtype).type
    zero, one, lowest, nan = real(0), real(1), real(-np.inf), real(np.nan)
    result_operand = 3 if with_losses else 1
    result_strides = _STRIDES[result_operand]
    square = min(tile_shape(dtype).lanes, _SQUARE)
    transpose = transpose_kernel(dtype, square)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def maximum(x, n):
        """The largest element; a NaN may be missed."""
        source, best = view(x, n), view(stack_int64(_MAXIMA), _MAXIMA)
        for k in range(_MAXIMA):
            best[k] = lowest
        whole = n // _MAXIMA * _MAXIMA
        for j in range(0, whole, _MAXIMA):
            part = view(x + j * size, _MAXIMA)
            for k in range(_MAXIMA):
                best[k] = part[k] if part[k] > best[k] else best[k]
        largest = lowest
        for k in range(_MAXIMA):
            largest = max(largest, best[k])
        for j in range(whole, n):
            largest = max(largest, source[j])
        return largest

    @subroutine(fastmath=FASTMATH_REASSOC)
    def exponentials(x, y, n, largest):
        """Writes exp(x - largest); its sum."""
        source, target = view(x, n), view(y, n)
        total = zero
        for j in range(n):
            value = m.exp(source[j] - largest)
            target[j] = value
            total += value
        return total

    @subroutine(fastmath=FASTMATH_REASSOC)
    def finish(x, y, n, largest, total):
        source, target = view(x, n), view(y, n)
        if logarithm:
            shift = m.log(total)
            for j in range(n):
                target[j] = (source[j] - largest) - shift
        else:
            share = one / total  # which is 1 at least
            for j in range(n):
                target[j] *= share

    @subroutine(fastmath=FASTMATH_REASSOC)
    def loss(shifted, log_total, label, n, ignored):
        """The loss of a row: 0 where ignored, NaN where there is no such class."""
        value = log_total - shifted if label >= 0 and label < n else nan
        return zero if label == ignored else value

    @subroutine(fastmath=FASTMATH_REASSOC)
    def one_row(args, row):
        n = load_int64(args, CLASSES)
        x = load_int64(args, 0) + _row_offset(args, row, args + _STRIDES[0]) * size
        y = load_int64(args, result_operand) + _row_offset(args, row, args + result_strides) * size
        largest = maximum(x, n)
        total = exponentials(x, y, n, largest)
        finish(x, y, n, largest, total)
        if with_losses:
            label = int64_at(load_int64(args, 1) + _row_offset(args, row, args + _STRIDES[1]) * 8, 1)[0]
            place = label if label >= 0 and label < n else 0
            target = view(load_int64(args, 2) + _row_offset(args, row, args + _STRIDES[2]) * size, 1)
            shifted, ignored = view(x + place * size, 1)[0] - largest, load_int64(args, IGNORED)
            target[0] = loss(shifted, m.log(total), label, n, ignored)

    @subroutine(inlined=False)
    def evenly_spaced(args, operand, first, count):
        """Address of the first of `LANES` rows, if they are evenly spaced; else 0."""
        if count < LANES or load_int64(args, LOOPS) != 1:
            return 0
        return load_int64(args, operand) + first * load_int64(args + _STRIDES[operand], 0) * size

    @subroutine(inlined=False)
    def into_lanes(args, first, count, n, target):
        """Copies rows of x to `target`, class by class; the last row fills the lanes behind it."""
        step, row = load_int64(args, CLASS_STRIDES), load_int64(args + _STRIDES[0], 0)
        if x_is_adjacent:
            even = evenly_spaced(args, 0, first, count)
            if even != 0 and n >= square:
                for k in range(0, n, square):
                    c = min(k, n - square)  # the last square overlaps the one before
                    for lane in range(0, LANES, square):
                        transpose(
                            even + (lane * row + c) * size, row, target + (c * LANES + lane) * size, LANES
                        )
                return
        elif _are_adjacent(args, 0, first, count):
            start = load_int64(args, 0) + _row_offset(args, first, args + _STRIDES[0]) * size
            for c in range(n):
                source, lanes = view(start + c * step * size, LANES), view(target + c * LANES * size, LANES)
                for lane in range(LANES):
                    lanes[lane] = source[lane]
            return
        elements, addresses = view(target, n * LANES), stack_int64(LANES)
        _row_addresses(args, 0, size, first, count, addresses)
        for lane in range(LANES):
            x = load_int64(addresses, min(lane, count - 1))
            for c in range(n):
                elements[c * LANES + lane] = view(x + c * step * size, 1)[0]

    @subroutine(inlined=False)
    def out_of_lanes(args, first, count, n, source):
        """The reverse, into the rows of the result."""
        step, row = load_int64(args, CLASS_STRIDES + result_operand), load_int64(args + result_strides, 0)
        if result_is_adjacent:
            even = evenly_spaced(args, result_operand, first, count)
            if even != 0 and n >= square:
                for k in range(0, n, square):
                    c = min(k, n - square)
                    for lane in range(0, LANES, square):
                        transpose(
                            source + (c * LANES + lane) * size, LANES, even + (lane * row + c) * size, row
                        )
                return
        elif _are_adjacent(args, result_operand, first, count):
            start = load_int64(args, result_operand) + _row_offset(args, first, args + result_strides) * size
            for c in range(n):
                lanes, result = view(source + c * LANES * size, LANES), view(start + c * step * size, LANES)
                for lane in range(LANES):
                    result[lane] = lanes[lane]
            return
        elements, addresses = view(source, n * LANES), stack_int64(LANES)
        _row_addresses(args, result_operand, size, first, count, addresses)
        for lane in range(count):
            y = load_int64(addresses, lane)
            for c in range(n):
                view(y + c * step * size, 1)[0] = elements[c * LANES + lane]

    @subroutine(fastmath=FASTMATH_REASSOC)
    def store_losses(args, first, count, n, shifted, log_totals):
        """The losses of rows that lie side by side."""
        ignored, addresses, targets = load_int64(args, IGNORED), stack_int64(LANES), stack_int64(LANES)
        _row_addresses(args, 1, 8, first, count, addresses)
        _row_addresses(args, 2, size, first, count, targets)
        for lane in range(count):
            label = load_int64(load_int64(addresses, lane), 0)
            place = label if label >= 0 and label < n else 0
            target = view(load_int64(targets, lane), 1)
            target[0] = loss(shifted[place * LANES + lane], log_totals[lane], label, n, ignored)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def several_rows(args, first, count, buffer):
        """`LANES` rows side by side; those behind the last one are like it."""
        n = load_int64(args, CLASSES)
        shifted = view(buffer, n * LANES)
        best, total = view(stack_int64(LANES), LANES), view(stack_int64(LANES), LANES)
        into_lanes(args, first, count, n, buffer)
        for lane in range(LANES):
            best[lane], total[lane] = lowest, zero
        for c in range(n):
            x = view(buffer + c * LANES * size, LANES)
            for lane in range(LANES):
                best[lane] = x[lane] if x[lane] > best[lane] else best[lane]
        for c in range(n):
            x, y = view(buffer + c * LANES * size, LANES), view(buffer + (n + c) * LANES * size, LANES)
            for lane in range(LANES):
                x[lane] -= best[lane]
                y[lane] = m.exp(x[lane])
                total[lane] += y[lane]
        for lane in range(LANES):
            best[lane], total[lane] = m.log(total[lane]), one / total[lane]
        for c in range(n):
            x, y = view(buffer + c * LANES * size, LANES), view(buffer + (n + c) * LANES * size, LANES)
            for lane in range(LANES):
                if logarithm:
                    y[lane] = x[lane] - best[lane]
                else:
                    y[lane] *= total[lane]
        out_of_lanes(args, first, count, n, buffer + n * LANES * size)
        if with_losses:
            store_losses(args, first, count, n, shifted, best)

    def softmax_of_rows(args, lo, hi, task):
        for row in range(lo, hi):
            one_row(args, row)

    def softmax_across_rows(args, lo, hi, task):
        buffer, rows = (
            load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE),
            load_int64(args, ROWS),
        )
        for block in range(lo, hi):
            several_rows(args, block * LANES, min(LANES, rows - block * LANES), buffer)

    return softmax_across_rows if across_rows else softmax_of_rows


def make_softmax_input(dtype, logarithm):
    """The kernel of the gradient of softmax, or of its logarithm: operands y, g, x. Rows: rows of y."""
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    zero = np.dtype(dtype).type(0)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def contiguous_row(y, g, x, n):
        values, gradients, target = view(y, n), view(g, n), view(x, n)
        total = zero
        if logarithm:
            for j in range(n):
                total += gradients[j]
            for j in range(n):
                target[j] = gradients[j] - m.exp(values[j]) * total
        else:
            for j in range(n):
                total += gradients[j] * values[j]
            for j in range(n):
                target[j] = values[j] * (gradients[j] - total)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def strided_row(y, g, x, y_step, g_step, x_step, n):
        total = zero
        for j in range(n):
            gradient = view(g + j * g_step * size, 1)[0]
            total += gradient if logarithm else gradient * view(y + j * y_step * size, 1)[0]
        for j in range(n):
            value, gradient = view(y + j * y_step * size, 1)[0], view(g + j * g_step * size, 1)[0]
            result = gradient - m.exp(value) * total if logarithm else value * (gradient - total)
            view(x + j * x_step * size, 1)[0] = result

    @subroutine(fastmath=FASTMATH_REASSOC)
    def adjacent_rows(y, g, x, y_step, g_step, x_step, n):
        """`LANES` rows side by side."""
        totals = view(stack_int64(LANES), LANES)
        for lane in range(LANES):
            totals[lane] = zero
        for j in range(n):
            values, gradients = view(y + j * y_step * size, LANES), view(g + j * g_step * size, LANES)
            for lane in range(LANES):
                totals[lane] += gradients[lane] if logarithm else gradients[lane] * values[lane]
        for j in range(n):
            values, gradients = view(y + j * y_step * size, LANES), view(g + j * g_step * size, LANES)
            target = view(x + j * x_step * size, LANES)
            for lane in range(LANES):
                if logarithm:
                    target[lane] = gradients[lane] - m.exp(values[lane]) * totals[lane]
                else:
                    target[lane] = values[lane] * (gradients[lane] - totals[lane])

    def softmax_input(args, lo, hi, task):
        n = load_int64(args, CLASSES)
        y_step, g_step = load_int64(args, CLASS_STRIDES), load_int64(args, CLASS_STRIDES + 1)
        x_step, behind = load_int64(args, CLASS_STRIDES + 2), lo
        for row in range(lo, hi):
            if row < behind:
                continue
            y = load_int64(args, 0) + _row_offset(args, row, args + _STRIDES[0]) * size
            g = load_int64(args, 1) + _row_offset(args, row, args + _STRIDES[1]) * size
            x = load_int64(args, 2) + _row_offset(args, row, args + _STRIDES[2]) * size
            adjacent = y_step != 1 and _are_adjacent(args, 0, row, hi - row)
            adjacent = (
                adjacent and _are_adjacent(args, 1, row, hi - row) and _are_adjacent(args, 2, row, hi - row)
            )
            if adjacent:
                adjacent_rows(y, g, x, y_step, g_step, x_step, n)
                behind = row + LANES
            elif y_step == 1 and g_step == 1 and x_step == 1:
                contiguous_row(y, g, x, n)
            else:
                strided_row(y, g, x, y_step, g_step, x_step, n)

    return softmax_input


def make_cross_entropy_input(dtype, shared):
    """The kernel of the gradient of the losses. Rows: rows of x.

    Operands: probabilities, classes, g, x; `shared` probabilities, classes, g, share, x: all rows have
    g * share, which are numbers.
    """
    size = np.dtype(dtype).itemsize
    view = float32_at if size == 4 else float64_at
    real = np.dtype(dtype).type
    zero, one, result = real(0), real(1), 4 if shared else 3

    @subroutine
    def slope(args, row):
        """The gradient of the loss of a row."""
        g = view(load_int64(args, 2) + _row_offset(args, row, args + _STRIDES[2]) * size, 1)[0]
        return g * view(load_int64(args, 3), 1)[0] if shared else g

    @subroutine(inlined=False)
    def scale(source, target, factor, n):
        values, results = view(source, n), view(target, n)
        for k in range(n):
            results[k] = factor * values[k]

    @subroutine(inlined=False)
    def scale_strided(source, step, target, target_step, factor, n):
        values, results = view(source, n * step), view(target, n * target_step)
        for k in range(n):
            results[k * target_step] = factor * values[k * step]

    @subroutine(inlined=False)
    def correct(p, p_step, x, x_step, n, label, ignored, g):
        """The element of a row that belongs to its target; all of them if it is ignored."""
        if label == ignored:
            for k in range(n):
                view(x + k * x_step * size, 1)[0] = zero
        elif label >= 0 and label < n:
            view(x + label * x_step * size, 1)[0] = g * (view(p + label * p_step * size, 1)[0] - one)

    @subroutine
    def adjacent_rows(args, lo, hi):
        """Rows behind each other with one g, as the mean of the losses has: long loops."""
        n, ignored = load_int64(args, CLASSES), load_int64(args, IGNORED)
        labels, step = load_int64(args, 1), load_int64(args + _STRIDES[1], 0)
        g = slope(args, 0)
        for first in range(lo, hi, _ROWS_IN_CACHE):
            p, x = load_int64(args, 0) + first * n * size, load_int64(args, result) + first * n * size
            last = min(first + _ROWS_IN_CACHE, hi)
            scale(p, x, g, (last - first) * n)
            for row in range(first, last):
                label = load_int64(labels, row * step)
                if label >= 0 and label < n and label != ignored:
                    view(x + label * size, 1)[0] = g * (view(p + label * size, 1)[0] - one)
                else:
                    correct(p, 1, x, 1, n, label, ignored, g)
                p, x = p + n * size, x + n * size

    def cross_entropy_input(args, lo, hi, task):
        n, ignored = load_int64(args, CLASSES), load_int64(args, IGNORED)
        p_step, x_step = load_int64(args, CLASS_STRIDES), load_int64(args, CLASS_STRIDES + result)
        adjacent = p_step == 1 and x_step == 1
        p_row, g_row = load_int64(args + _STRIDES[0], 0), load_int64(args + _STRIDES[2], 0)
        x_row = load_int64(args + _STRIDES[result], 0)
        if adjacent and load_int64(args, LOOPS) == 1 and p_row == n and g_row == 0 and x_row == n:
            adjacent_rows(args, lo, hi)
            return
        for row in range(lo, hi):
            p = load_int64(args, 0) + _row_offset(args, row, args + _STRIDES[0]) * size
            label = int64_at(load_int64(args, 1) + _row_offset(args, row, args + _STRIDES[1]) * 8, 1)[0]
            g = slope(args, row)
            x = load_int64(args, result) + _row_offset(args, row, args + _STRIDES[result]) * size
            if adjacent:
                scale(p, x, g, n)
            else:
                scale_strided(p, p_step, x, x_step, g, n)
            correct(p, p_step, x, x_step, n, label, ignored, g)

    return cross_entropy_input
