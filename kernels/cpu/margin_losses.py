"""Losses that ask the scores of target classes to lead by a margin, and their gradients, on the CPU.

Scores are rows of classes in row-major order. The forward pass has two stages: the loss of every row, summed
in float64, and their sum times a factor. A class that does not exist sets the word at FAILED.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64, store_int64
from nbdl.kernels.cpu.stages import FIRST_WORD

(
    ROWS,
    CLASSES,
    MARGIN,  # bits of a float64
    FACTOR,  # of the sum over the rows; bits of a float64
    MASKS,  # address of an element a class, for each task: 1 where it is no target
    FAILED,  # address of the word that is set to 1
) = range(FIRST_WORD, FIRST_WORD + 6)


@subroutine
def _real(args, word):
    return float64_at(args + word * 8, 1)[0]


def _view(dtype):
    return float32_at if np.dtype(dtype).itemsize == 4 else float64_at


def _make_parts(dtype, squared):
    """What the kernels share: the sum of a row against one target, and its slopes."""
    view, real = _view(dtype), np.dtype(dtype).type
    zero, two = real(0), real(2)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def shortfall(x, mask, lead, n):
        """The sum over classes of max(0, lead + score), squared or not, where the mask is 1."""
        scores, masks = view(x, n), view(mask, n)
        total = zero
        for j in range(n):
            value = scores[j] + lead if masks[j] != zero else zero
            value = zero if value <= zero else value  # NaN stays
            total += value * value if squared else value
        return total

    @subroutine(fastmath=FASTMATH_REASSOC)
    def add_slopes(x, mask, gradient, lead, g, n):
        """Adds the slopes by all scores, times g; their sum."""
        scores, masks, slopes = view(x, n), view(mask, n), view(gradient, n)
        total = zero
        for j in range(n):
            value = scores[j] + lead if masks[j] != zero else zero
            slope = two * value * g if squared else g
            slope = slope if value > zero else zero
            slopes[j] += slope
            total += slope
        return total

    @subroutine
    def fill(x, value, n):
        values = view(x, n)
        for j in range(n):
            values[j] = value

    return shortfall, add_slopes, fill


def make_total(dtype, places):
    """Stage 2: the sum of the losses of the rows, operand `places`, times the factor, in the one in front."""
    view, real = _view(dtype), np.dtype(dtype).type

    @subroutine(fastmath=FASTMATH_REASSOC)
    def sum_of(x, n):
        values, total = view(x, n), 0.0
        for i in range(n):
            total += float(values[i])
        return total

    def total(args, lo, hi, task):
        found = sum_of(load_int64(args, places), load_int64(args, ROWS))
        view(load_int64(args, places - 1), 1)[0] = real(found * _real(args, FACTOR))

    return total


def make_multi_margin(dtype, squared):
    """One target a row: operands scores, classes, total, losses. Rows: rows."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    shortfall, _, fill = _make_parts(dtype, squared)

    def multi_margin(args, lo, hi, task):
        n, margin = load_int64(args, CLASSES), real(_real(args, MARGIN))
        mask = load_int64(args, MASKS) + task * n * size
        fill(mask, real(1), n)
        for row in range(lo, hi):
            x, label = load_int64(args, 0) + row * n * size, load_int64(load_int64(args, 1), row)
            if (label < 0) | (label >= n):
                store_int64(load_int64(args, FAILED), 0, 1)
                continue
            view(mask, n)[label] = real(0)
            lead = margin - view(x, n)[label]
            view(load_int64(args, 3), row + 1)[row] = shortfall(x, mask, lead, n) / real(n)
            view(mask, n)[label] = real(1)

    return multi_margin


def make_multi_margin_input(dtype, squared):
    """The gradient: operands g (a number), scores, classes, gradient. Rows: rows."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    _, add_slopes, fill = _make_parts(dtype, squared)

    def multi_margin_input(args, lo, hi, task):
        n, margin = load_int64(args, CLASSES), real(_real(args, MARGIN))
        g = real(float(view(load_int64(args, 0), 1)[0]) * _real(args, FACTOR) / float(n))
        mask = load_int64(args, MASKS) + task * n * size
        fill(mask, real(1), n)
        for row in range(lo, hi):
            x, label = load_int64(args, 1) + row * n * size, load_int64(load_int64(args, 2), row)
            gradient = load_int64(args, 3) + row * n * size
            fill(gradient, real(0), n)
            if (label < 0) | (label >= n):
                continue
            view(mask, n)[label] = real(0)
            lead = margin - view(x, n)[label]
            view(gradient, n)[label] = -add_slopes(x, mask, gradient, lead, g, n)
            view(mask, n)[label] = real(1)

    return multi_margin_input


@subroutine
def _targets(labels, n):
    """How many targets a row has: those before the first negative number."""
    row, count = int64_at(labels, n), 0
    while count < n and row[count] >= 0:
        count += 1
    return count


def make_multilabel_margin(dtype):
    """Several targets a row, then -1: operands scores, classes, total, losses. Rows: rows."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    shortfall, _, fill = _make_parts(dtype, False)

    def multilabel_margin(args, lo, hi, task):
        n = load_int64(args, CLASSES)
        mask = load_int64(args, MASKS) + task * n * size
        for row in range(lo, hi):
            x, labels = load_int64(args, 0) + row * n * size, load_int64(args, 1) + row * n * 8
            count, total = _targets(labels, n), real(0)
            fill(mask, real(1), n)
            for k in range(count):
                label = load_int64(labels, k)
                if label < n:
                    view(mask, n)[label] = real(0)
                else:
                    store_int64(load_int64(args, FAILED), 0, 1)
                    count = 0
            for k in range(count):
                lead = real(1) - view(x, n)[load_int64(labels, k)]
                total += shortfall(x, mask, lead, n)
            view(load_int64(args, 3), row + 1)[row] = total / real(n)

    return multilabel_margin


def make_multilabel_margin_input(dtype):
    """The gradient: operands g (a number), scores, classes, gradient. Rows: rows."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    _, add_slopes, fill = _make_parts(dtype, False)

    def multilabel_margin_input(args, lo, hi, task):
        n = load_int64(args, CLASSES)
        g = real(float(view(load_int64(args, 0), 1)[0]) * _real(args, FACTOR) / float(n))
        mask = load_int64(args, MASKS) + task * n * size
        for row in range(lo, hi):
            x, labels = load_int64(args, 1) + row * n * size, load_int64(args, 2) + row * n * 8
            gradient, count = load_int64(args, 3) + row * n * size, _targets(labels, n)
            fill(gradient, real(0), n)
            fill(mask, real(1), n)
            for k in range(count):
                if load_int64(labels, k) < n:
                    view(mask, n)[load_int64(labels, k)] = real(0)
            for k in range(count):
                label = load_int64(labels, k)
                if label < n:
                    lead = real(1) - view(x, n)[label]
                    view(gradient, n)[label] -= add_slopes(x, mask, gradient, lead, g, n)

    return multilabel_margin_input
