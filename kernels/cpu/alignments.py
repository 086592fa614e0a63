"""Connectionist temporal classification on the CPU: the loss of every sample, their total, and the gradient.

A sample's labels, with a blank before, between and behind them, are its states (Graves et al. 2006, section
4.1). Forward variables are logarithms, a row of states a step; two entries of -inf stand before each row, so
that the loop over the states has no special cases and becomes vector instructions. The backward variables are
forward variables of the mirrored states, run from the last step to the first.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64, store_int64
from nbdl.kernels.cpu.stages import FIRST_WORD

(
    STEPS,
    SAMPLES,
    CLASSES,
    LABELS,  # columns of the table of labels
    STEP_STRIDE,  # of the log-probabilities, in elements
    SAMPLE_STRIDE,
    BLANK,
    MEAN,  # divide the losses by the numbers of labels, and their sum by the number of samples
    ZERO_INFINITY,  # a loss of 0 where no alignment exists
    G_STRIDE,  # of the gradients of the losses in elements; -1: g is the gradient of the total
    SCRATCH,  # address of memory to work in
    SCRATCH_STRIDE,  # bytes a task
    FAILED,  # address of the word that is set to 1
) = range(FIRST_WORD, FIRST_WORD + 13)
PADDING = 2  # entries of -inf before a row
ROWS = 5  # of scratch memory beside those of the forward variables


def _view(dtype):
    return float32_at if np.dtype(dtype).itemsize == 4 else float64_at


@subroutine
def _share(args, labels):
    """What a loss with so many labels counts in the total."""
    return 1.0 / (max(labels, 1) * load_int64(args, SAMPLES)) if load_int64(args, MEAN) else 1.0


def _make_parts(dtype):
    """What the kernels share."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    never, zero = real(-np.inf), real(0)

    @subroutine
    def fits(args, sample, steps, labels):
        """Whether lengths and labels exist."""
        if (
            (steps < 0)
            | (steps > load_int64(args, STEPS))
            | (labels < 0)
            | (labels > load_int64(args, LABELS))
        ):
            return False
        row = int64_at(load_int64(args, 1) + sample * load_int64(args, LABELS) * 8, labels)
        classes, good = load_int64(args, CLASSES), True
        for k in range(labels):
            good &= (row[k] >= 0) & (row[k] < classes)
        return good

    @subroutine
    def spread(args, sample, labels, places, skips, mirrored):
        """The class of every state, and 0 where a path may come from two states before, else -inf."""
        row = int64_at(load_int64(args, 1) + sample * load_int64(args, LABELS) * 8, labels)
        blank, states = load_int64(args, BLANK), 2 * labels + 1
        classes, bias = int64_at(places, states), view(skips, states)
        for state in range(states):
            classes[state], bias[state] = blank, never
        for k in range(labels):
            label = row[labels - 1 - k] if mirrored else row[k]
            classes[2 * k + 1] = label
            if k > 0 and label != classes[2 * k - 1]:
                bias[2 * k + 1] = zero

    @subroutine
    def emit(log_probs, places, emitted, states):
        """The log-probabilities of the states' classes."""
        values, classes, target = view(log_probs, 1), int64_at(places, states), view(emitted, states)
        for state in range(states):
            target[state] = values[classes[state]]

    @subroutine
    def begin(row, emitted, states):
        """The variables of the first step: a path begins with the blank or the first label."""
        variables, values = view(row, states + PADDING), view(emitted, states)
        for k in range(states + PADDING):
            variables[k] = never
        for k in range(min(states, 2)):
            variables[PADDING + k] = values[k]

    @subroutine
    def advance(row, following, skips, emitted, states):
        """The variables of the step behind `row`."""
        old, bias, values = view(row, states + PADDING), view(skips, states), view(emitted, states)
        new = view(following, states + PADDING)
        new[0], new[1] = never, never
        for k in range(states):
            stay, step, skip = old[k + 2], old[k + 1], old[k] + bias[k]
            top = stay if stay > step else step
            top = top if top > skip else skip
            top = top if top > never else zero
            total = m.exp(stay - top) + m.exp(step - top) + m.exp(skip - top)
            new[k + 2] = top + m.log(total) + values[k]

    @subroutine
    def run(args, sample, steps, labels, alphas, memory, mask):
        """All forward variables, row t at place t & mask of `alphas`; minus the log-likelihood."""
        stride = (2 * load_int64(args, LABELS) + 1 + PADDING) * 8
        places, skips, emitted = memory, memory + stride, memory + 2 * stride
        states, width = 2 * labels + 1, (2 * load_int64(args, LABELS) + 1 + PADDING) * size
        if steps == 0:
            return zero if labels == 0 else -never
        log_probs = load_int64(args, 0) + sample * load_int64(args, SAMPLE_STRIDE) * size
        spread(args, sample, labels, places, skips, False)
        for t in range(steps):
            emit(log_probs, places, emitted, states)
            if t == 0:
                begin(alphas, emitted, states)
            else:
                advance(
                    alphas + ((t - 1) & mask) * width, alphas + (t & mask) * width, skips, emitted, states
                )
            log_probs += load_int64(args, STEP_STRIDE) * size
        last = view(alphas + ((steps - 1) & mask) * width, states + PADDING)
        end, before = last[states + 1], last[states] if labels else never
        top = end if end > before else before
        top = top if top > never else zero
        return -(top + m.log(m.exp(end - top) + m.exp(before - top)))

    return fits, spread, emit, begin, advance, run


def make_ctc_loss(dtype):
    """Operands log-probabilities, labels, lengths of inputs, of targets, losses, total. Rows: samples."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    fits, _, _, _, _, run = _make_parts(dtype)

    def ctc_loss(args, lo, hi, task):
        memory = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        alphas = memory + ROWS * (2 * load_int64(args, LABELS) + 1 + PADDING) * 8
        for sample in range(lo, hi):
            steps = load_int64(load_int64(args, 2), sample)
            labels = load_int64(load_int64(args, 3), sample)
            if not fits(args, sample, steps, labels):
                store_int64(load_int64(args, FAILED), 0, 1)
                continue
            loss = run(args, sample, steps, labels, alphas, memory, 1)
            if load_int64(args, ZERO_INFINITY) and loss == real(np.inf):
                loss = real(0)
            view(load_int64(args, 4) + sample * size, 1)[0] = loss

    return ctc_loss


def make_total(dtype):
    """The second stage: the sum of the losses, each times its share."""
    view, real = _view(dtype), np.dtype(dtype).type

    def total(args, lo, hi, task):
        n = load_int64(args, SAMPLES)
        losses, labels, result = view(load_int64(args, 4), n), int64_at(load_int64(args, 3), n), 0.0
        for sample in range(n):
            result += float(losses[sample]) * _share(args, labels[sample])
        view(load_int64(args, 5), 1)[0] = real(result)

    return total


def make_ctc_loss_input(dtype):
    """The gradient: operands log-probabilities, labels, the lengths, g, gradient. Rows: samples."""
    view, real, size = _view(dtype), np.dtype(dtype).type, np.dtype(dtype).itemsize
    never, zero = real(-np.inf), real(0)
    fits, spread, emit, begin, advance, run = _make_parts(dtype)

    @subroutine
    def fill(target, value, n):
        values = view(target, n)
        for k in range(n):
            values[k] = value

    @subroutine
    def slopes(log_probs, target, g, n):
        """As if a log-softmax stood in front: the probabilities, times g."""
        values, result = view(log_probs, n), view(target, n)
        for k in range(n):
            result[k] = m.exp(values[k]) * g

    @subroutine
    def take_posteriors(target, alphas, betas, emitted, places, loss, g, states):
        """Subtract g times the probability of each state, given the labels, from its class's slope."""
        alpha, beta, values = view(alphas, states), view(betas, states), view(emitted, states)
        for k in range(states):
            # Both variables have the emission in them. Without a path the difference would be NaN.
            ahead = beta[states - 1 - k]
            exists = (alpha[k] != never) & (ahead != never)
            value = m.exp(alpha[k] + ahead - values[states - 1 - k] + loss)
            alpha[k] = g * value if exists else zero
        classes, result = int64_at(places, states), view(target, 1)
        for k in range(states):
            result[classes[states - 1 - k]] -= alpha[k]

    def ctc_loss_input(args, lo, hi, task):
        memory = load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)
        columns = 2 * load_int64(args, LABELS) + 1 + PADDING
        places, skips, emitted, betas = (
            memory,
            memory + columns * 8,
            memory + columns * 16,
            memory + columns * 24,
        )
        alphas, width, n = memory + ROWS * columns * 8, columns * size, load_int64(args, CLASSES)
        step, samples = load_int64(args, STEP_STRIDE) * size, load_int64(args, SAMPLES)
        for sample in range(lo, hi):
            steps = load_int64(load_int64(args, 2), sample)
            labels = load_int64(load_int64(args, 3), sample)
            if not fits(args, sample, steps, labels):
                store_int64(load_int64(args, FAILED), 0, 1)
                continue
            loss = run(args, sample, steps, labels, alphas, memory, -1)
            if load_int64(args, G_STRIDE) < 0:
                g = real(float(view(load_int64(args, 4), 1)[0]) * _share(args, labels))
            else:
                g = view(load_int64(args, 4) + sample * load_int64(args, G_STRIDE) * size, 1)[0]
            target = load_int64(args, 5) + sample * n * size
            if loss == real(np.inf):
                if load_int64(args, ZERO_INFINITY):
                    steps = 0
                else:
                    g = real(np.nan)
            for t in range(steps, load_int64(args, STEPS)):
                fill(target + t * samples * n * size, zero, n)
            if steps == 0:
                continue
            states = 2 * labels + 1
            spread(args, sample, labels, places, skips, True)
            log_probs = load_int64(args, 0) + sample * load_int64(args, SAMPLE_STRIDE) * size
            for t in range(steps - 1, -1, -1):
                emit(log_probs + t * step, places, emitted, states)
                beta = betas + (t & 1) * width
                if t == steps - 1:
                    begin(beta, emitted, states)
                else:
                    advance(betas + (1 - (t & 1)) * width, beta, skips, emitted, states)
                row = target + t * samples * n * size
                slopes(log_probs + t * step, row, g, n)
                alpha = alphas + t * width + PADDING * size
                take_posteriors(row, alpha, beta + PADDING * size, emitted, places, loss, g, states)

    return ctc_loss_input
