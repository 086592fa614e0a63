"""Losses over classes as one number, and their gradients, on the CPU: what follows the loss of every row.

Scores are (samples, classes, inner), classes are (samples, inner), both in row-major order. Sums are taken in
float64. A class that does not exist sets the word at FAILED, as its kernel cannot raise.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64, store_int64

MAX_OPERANDS = 4
(
    SAMPLES,
    CLASSES,
    INNER,
    IGNORED,  # the class without a loss
    MEAN,  # divide by the number of rows that count
    FAILED,  # address of a word that is set to 1
) = range(MAX_OPERANDS, MAX_OPERANDS + 6)


@subroutine
def _finish(args, total, counted, fits, result, share, real):
    """Writes the reduction and the share of one row in it."""
    count = float(counted) if load_int64(args, MEAN) else 1.0
    result[0], share[0] = real(total / count), real(1.0 / count)
    if not fits:
        store_int64(load_int64(args, FAILED), 0, 1)


def make_total(dtype):
    """The reduction of losses: operands losses, classes, result, share. It has a single row."""
    view, real = float32_at if np.dtype(dtype).itemsize == 4 else float64_at, np.dtype(dtype).type

    @subroutine(fastmath=FASTMATH_REASSOC)
    def sums(args, n):
        losses, labels = view(load_int64(args, 0), n), int64_at(load_int64(args, 1), n)
        ignored, classes = load_int64(args, IGNORED), np.uint64(load_int64(args, CLASSES))
        total, counted, outside = 0.0, 0, False
        for i in range(n):
            counts = labels[i] != ignored
            total += float(losses[i])
            counted += counts
            outside |= counts & (np.uint64(labels[i]) >= classes)
        return total, counted, not outside

    def total(args, lo, hi, task):
        result, share = view(load_int64(args, 2), 1), view(load_int64(args, 3), 1)
        found, counted, fits = sums(args, load_int64(args, SAMPLES) * load_int64(args, INNER))
        _finish(args, found, counted, fits, result, share, real)

    return total


def make_nll_loss(dtype):
    """Minus the scores of the classes, reduced, in a single row: operands scores, classes, result, share."""
    view, real = float32_at if np.dtype(dtype).itemsize == 4 else float64_at, np.dtype(dtype).type

    @subroutine
    def sums(args):
        samples, n, inner = load_int64(args, SAMPLES), load_int64(args, CLASSES), load_int64(args, INNER)
        scores = view(load_int64(args, 0), samples * n * inner)
        labels = int64_at(load_int64(args, 1), samples * inner)
        ignored = load_int64(args, IGNORED)
        total, counted, fits = 0.0, 0, True
        for i in range(samples):
            for j in range(inner):
                label = labels[i * inner + j]
                counts = label != ignored
                inside = (label >= 0) & (label < n)
                fits &= inside | (not counts)
                place = label if inside else 0
                total -= float(scores[(i * n + place) * inner + j]) if counts else 0.0
                counted += counts
        return total, counted, fits

    def nll_loss(args, lo, hi, task):
        result, share = view(load_int64(args, 2), 1), view(load_int64(args, 3), 1)
        total, counted, fits = sums(args)
        _finish(args, total, counted, fits, result, share, real)

    return nll_loss


def make_nll_loss_input(dtype):
    """The gradient by the scores: operands g (a number), classes, share, gradient. Rows: samples."""
    view = float32_at if np.dtype(dtype).itemsize == 4 else float64_at
    size, zero = np.dtype(dtype).itemsize, np.dtype(dtype).type(0)

    def nll_loss_input(args, lo, hi, task):
        n, inner, ignored = load_int64(args, CLASSES), load_int64(args, INNER), load_int64(args, IGNORED)
        value = -(view(load_int64(args, 0), 1)[0] * view(load_int64(args, 2), 1)[0])
        for i in range(lo, hi):
            target = view(load_int64(args, 3) + i * n * inner * size, n * inner)
            labels = int64_at(load_int64(args, 1) + i * inner * 8, inner)
            for k in range(n * inner):
                target[k] = zero
            for j in range(inner):
                label = labels[j]
                if (label != ignored) & (label >= 0) & (label < n):
                    target[label * inner + j] = value

    return nll_loss_input
