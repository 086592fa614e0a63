"""Gamma and Poisson numbers on the CPU, by rejection.

The numbers are those of `nbdl.backend.numpy.rejection`, which defines them and names the methods: attempt t
of element i reads block i + 2^40 t of the draw. An element is drawn at once, from its first attempt to the
one that is accepted, in float64. The operands are the seed and the number of the draw, one int64 each, the
parameter, whose strides are X_STEP and X_STRIDES, and the result.
"""

from __future__ import annotations

import math

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import array_at, load_int64
from nbdl.kernels.cpu.random import SIZE, X_STEP, Y_STEP, make_by_runs, philox

ROWS = 256  # elements that a task takes at a time
_STRIDE = np.uint64(1 << 40)
_6 = np.uint64(6)
_SMALL_MEAN = 10.0
_TERMS = 80


@subroutine
def _wide(high, low):
    """A number in (0, 1) from 52 bits of two words."""
    digits = np.float64(np.int64(high >> _6)) * 2.0**26 + np.float64(np.int64(low >> _6))
    return (digits + 0.5) * 2.0**-52


@subroutine
def _narrow(word):
    """A number in (0, 1) from one word."""
    return (np.float64(np.int64(word)) + 0.5) * 2.0**-32


@subroutine
def log_gamma_number(block, draw, seed, a):
    """The logarithm of a gamma number of rate 1 and concentration a (Marsaglia and Tsang)."""
    if not (a > 0.0 and a < math.inf):
        return math.nan
    d = (a + 1.0 if a < 1.0 else a) - 1.0 / 3.0
    width = 3.0 * m.sqrt(d)
    attempt = block
    while True:
        attempt += _STRIDE
        w0, w1, w2, w3 = philox(attempt, draw, seed)
        normal = m.sqrt(-2.0 * m.log(_wide(w0, w1))) * m.cos(2.0 * math.pi * _narrow(w2))
        root = 1.0 + normal / width
        if root > 0.0:
            log_cube = 3.0 * m.log(root)
            if m.log(_narrow(w3)) < 0.5 * normal * normal + d - d * root * root * root + d * log_cube:
                value = m.log(d) + log_cube
                break
    if a < 1.0:
        w0, w1, w2, w3 = philox(block, draw, seed)
        value += m.log(_wide(w0, w1)) / a
    return value


@subroutine
def _by_inversion(u, mean):
    """The first k where the sum of Poisson probabilities exceeds u."""
    probability = m.exp(-mean)
    total, k = probability, 0.0
    for term in range(_TERMS):
        if u < total:
            break
        k += 1.0
        probability *= mean / (term + 1.0)
        total += probability
    return k


@subroutine
def poisson_number(block, draw, seed, mean):
    """A Poisson number: by inversion for a small mean, else by PTRS (Hörmann)."""
    if not (mean >= 0.0 and mean < math.inf):
        return math.nan
    w0, w1, w2, w3 = philox(block, draw, seed)
    if mean < _SMALL_MEAN:
        return _by_inversion(_wide(w0, w1), mean)
    b = 0.931 + 2.53 * m.sqrt(mean)
    a = -0.059 + 0.02483 * b
    log_mean, quick = m.log(mean), 0.9277 - 3.6224 / (b - 2.0)
    scale = 1.1239 + 1.1328 / (b - 3.4)
    attempt = block
    while True:
        u, v = _wide(w0, w1), _wide(w2, w3)
        distance = 0.5 - abs(u - 0.5)
        k = m.floor((2.0 * a / distance + b) * (u - 0.5) + mean + 0.43)
        if distance >= 0.07 and v <= quick:
            return k
        if k >= 0.0 and (distance >= 0.013 or v <= distance):
            bound = k * log_mean - mean - m.lgamma(k + 1.0)
            if m.log(v * (scale / (a / (distance * distance) + b))) <= bound:
                return k
        attempt += _STRIDE
        w0, w1, w2, w3 = philox(attempt, draw, seed)


def make_draw(number, p_dtype, dtype):
    """The kernel that draws `number(block, draw, seed, parameter)` for each element."""
    real, p_itemsize, kind, itemsize = p_dtype.type, p_dtype.itemsize, dtype.type, dtype.itemsize

    @subroutine
    def store_run(args, words, first, x_offset, y_offset, n):
        seed = np.uint64(load_int64(load_int64(args, 0), 0))
        draw = np.uint64(load_int64(load_int64(args, 1), 0))
        x, x_step = load_int64(args, 2) + p_itemsize * x_offset, p_itemsize * load_int64(args, X_STEP)
        y, y_step = load_int64(args, 3) + itemsize * y_offset, itemsize * load_int64(args, Y_STEP)
        for j in range(n):
            parameter = np.float64(array_at(x + j * x_step, 1, real)[0])
            value = number(np.uint64(first + j), draw, seed, parameter)
            array_at(y + j * y_step, 1, kind)[0] = kind(value)

    store = make_by_runs(store_run)

    def rejection(args, lo, hi, task):
        size = load_int64(args, SIZE)
        for row in range(lo, hi):
            first = row * ROWS
            store(args, 0, first, min(ROWS, size - first))

    return rejection
