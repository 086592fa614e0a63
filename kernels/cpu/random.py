"""Counter-based random numbers on the CPU: Philox4x32-10, the distributions made of its words, and dropout.

The numbers are those of `nbdl.backend.numpy.random`, which defines them. A kernel works in chunks of `CHUNK`
words: the words of a chunk lie on the stack, and a second loop, over data in the first-level cache, makes
numbers of them. Both loops vectorise, and any split of the chunks into tasks gives the same numbers.

The first operands of each kernel are the seed and the number of the draw, one int64 each, read at every
launch.
"""

from __future__ import annotations

import math

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.math_trigonometric import sin_cos_moderate
from nbdl.kernels.cpu.memory import (
    array_at,
    bool_at,
    float64_at,
    load_int64,
    stack_int64,
    uint32_at,
    uint64_at,
)

CHUNK = 2048  # words that are made at a time; a multiple of 4
_CHUNK_INT64 = CHUNK // 2
MAX_OPERANDS = 6
MAX_LOOPS = 6
# Words of the argument block; strides count elements.
SIZE = MAX_OPERANDS  # elements of the result
# How operands are walked that need not be contiguous, in row-major order of the result: runs along the
# innermost loop.
COLUMNS = SIZE + 1  # elements of a whole run
LOOPS = SIZE + 2  # number of the outer loops
X_STEP = SIZE + 3  # strides along a run
Y_STEP = SIZE + 4
LENGTHS = SIZE + 5  # of the outer loops, MAX_LOOPS words
X_STRIDES = LENGTHS + MAX_LOOPS  # along them
Y_STRIDES = X_STRIDES + MAX_LOOPS


# Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 3.3 and table 2.
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
# Unsigned indices need no wraparound check.
_1, _2, _3, _4 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)


# ---- Words ----


@subroutine
def philox(block, draw, seed):
    """The four words of a block, each in a uint64."""
    c0, c1, c2, c3 = block & _LOW, block >> _32, draw & _LOW, draw >> _32
    k0, k1 = seed & _LOW, seed >> _32
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1 = (product1 >> _32) ^ c1 ^ k0, product1 & _LOW
        c2, c3 = (product0 >> _32) ^ c3 ^ k1, product0 & _LOW
        k0, k1 = (k0 + _KEY_STEP_0) & _LOW, (k1 + _KEY_STEP_1) & _LOW
    return c0, c1, c2, c3


@subroutine
def fill_words(words, first, count, seed, draw):
    """Store `count` words of a draw, rounded up to whole blocks; word `first` of the draw starts a block."""
    block, draw, seed = np.uint64(first // 4), np.uint64(draw), np.uint64(seed)
    target = uint32_at(words, CHUNK)
    for b in range((count + 3) // 4):
        w0, w1, w2, w3 = philox(block + np.uint64(b), draw, seed)
        k = _4 * np.uint64(b)
        target[k] = w0
        target[k + _1] = w1
        target[k + _2] = w2
        target[k + _3] = w3


def _make_draw(store, words_each):
    """A kernel whose rows are chunks.

    Args:
        store: `store(args, words, first, count)` makes elements `first` to `first + count` of the words
            at an address.
        words_each: Words an element takes.
    """
    elements = CHUNK // words_each

    def draw(args, lo, hi, task):
        seed, number = load_int64(load_int64(args, 0), 0), load_int64(load_int64(args, 1), 0)
        size = load_int64(args, SIZE)
        words = stack_int64(_CHUNK_INT64)
        for chunk in range(lo, hi):
            first = chunk * elements
            count = min(elements, size - first)
            fill_words(words, chunk * CHUNK, count * words_each, seed, number)
            store(args, words, first, count)

    return draw


# ---- Distributions ----


# Two words w, w' that follow each other are seen as one 64-bit word w + 2^32 w' (CPUs are little-endian).


@subroutine
def _fraction24(word):
    return np.float32(np.uint32(word >> np.uint32(8))) * np.float32(2.0**-24)


@subroutine
def _fraction53(wide):
    """27 bits of the first word and 26 of the second as a multiple of 2^-53."""
    digits = ((wide & _LOW) >> np.uint64(5)) << np.uint64(26) | wide >> np.uint64(38)
    return np.float64(np.int64(digits)) * 2.0**-53


def make_uniform(dtype):
    """The kernel of uniform numbers in [0, 1): operands seed, draw, y."""

    @subroutine
    def store_single(args, words, first, count):
        w, y = uint32_at(words, CHUNK), array_at(load_int64(args, 2) + 4 * first, count, np.float32)
        for j in range(count):
            y[j] = _fraction24(w[j])

    @subroutine
    def store_double(args, words, first, count):
        wide, y = uint64_at(words, _CHUNK_INT64), array_at(load_int64(args, 2) + 8 * first, count, np.float64)
        for j in range(count):
            y[j] = _fraction53(wide[j])

    return _make_draw(store_single, 1) if dtype == np.float32 else _make_draw(store_double, 2)


def make_normal(dtype):
    """The kernel of standard normal numbers: operands seed, draw, y."""
    real, itemsize = dtype.type, dtype.itemsize
    minus_two, two_pi = real(-2), real(2 * math.pi)

    @subroutine
    def fractions_single(w, w_next):
        scale = np.float32(2.0**-32)
        return np.float32(w) * scale + np.float32(2.0**-33), np.float32(w_next) * scale

    @subroutine
    def fractions_double(wide, wide_next):
        return _fraction53(wide) + 2.0**-54, _fraction53(wide_next)

    single = real is np.float32
    fractions, words_at = (fractions_single, uint32_at) if single else (fractions_double, uint64_at)

    @subroutine(inlined=True)  # into the loop, which vectorises only then
    def box_muller(w, w_next):
        u, v = fractions(w, w_next)
        radius = m.sqrt(minus_two * m.log(u))
        sine, cosine = sin_cos_moderate(two_pi * v)
        return radius * cosine, radius * sine

    @subroutine
    def store(args, words, first, count):
        w, y = words_at(words, count + 1), array_at(load_int64(args, 2) + itemsize * first, count, real)
        for pair in range(count // 2):
            k = _2 * np.uint64(pair)
            y[k], y[k + _1] = box_muller(w[k], w[k + _1])
        if count % 2:
            y[count - 1] = box_muller(w[count - 1], w[count])[0]

    return _make_draw(store, 1 if single else 2)


@subroutine
def _inverse(divisor):
    return (1.0 - 2.0**-50) / np.float64(divisor)


@subroutine
def _remainder(x, divisor, inverse):
    """x % divisor in loops that vectorise, which integer division does not.

    The quotient is never overestimated, since the 2^-50 that `_inverse` takes off is more than the roundings
    (of x, the inverse and the product) can add. The first step leaves less than divisor + 2^15, the second
    less than 2 divisor.
    """
    rest = x - np.uint64(np.float64(x) * inverse) * divisor
    rest -= np.uint64(np.float64(rest) * inverse) * divisor
    return rest - divisor if rest >= divisor else rest


def make_integers(dtype):
    """The kernel of integers in [low, low + span): operands seed, draw, low, span, y of `dtype`."""
    kind, itemsize = dtype.type, dtype.itemsize

    @subroutine
    def store(args, words, first, count):
        low, span = uint64_at(load_int64(args, 2), 1)[0], uint64_at(load_int64(args, 3), 1)[0]
        wide = uint64_at(words, _CHUNK_INT64)
        y = array_at(load_int64(args, 4) + itemsize * first, count, kind)
        if span:
            inverse = _inverse(span)
            for j in range(count):
                y[j] = kind(np.int64(low + _remainder(wide[j], span, inverse)))
        else:
            for j in range(count):
                y[j] = kind(np.int64(low + wide[j]))

    return _make_draw(store, 2)


def make_bernoulli(p_dtype, dtype):
    """The kernel of 1 with probability p, else 0, as numbers of `dtype`: operands seed, draw, p, y.

    X_STEP and X_STRIDES are those of p.
    """
    real, p_itemsize, kind, itemsize = p_dtype.type, p_dtype.itemsize, dtype.type, dtype.itemsize

    @subroutine
    def store_run(args, words, first, p_offset, y_offset, n):
        p, p_step = load_int64(args, 2) + p_itemsize * p_offset, load_int64(args, X_STEP)
        y, y_step = load_int64(args, 3) + itemsize * y_offset, load_int64(args, Y_STEP)
        w = uint32_at(words, n)
        if y_step == 1 and p_step == 0:
            limit, target = _limit(array_at(p, 1, real)[0]), array_at(y, n, kind)
            for j in range(n):
                target[j] = kind(w[j] < limit)
        elif y_step == 1 and p_step == 1:
            probability, target = array_at(p, n, real), array_at(y, n, kind)
            for j in range(n):
                target[j] = kind(w[j] < _limit(probability[j]))
        else:
            for j in range(n):
                limit = _limit(array_at(p + j * p_step * p_itemsize, 1, real)[0])
                array_at(y + j * y_step * itemsize, 1, kind)[0] = kind(w[j] < limit)

    return _make_draw(make_by_runs(store_run), 1)


@subroutine
def _limit(p):
    """The limit that a word is below with probability p."""
    return np.float64(p) * 2.0**32


def make_dropout(dtype):
    """The kernel of dropout: operands seed, draw, x, p (float64), y, kept (bool, contiguous)."""
    real, itemsize = dtype.type, dtype.itemsize
    zero = real(0)

    @subroutine
    def store_run(args, words, first, x_offset, y_offset, n):
        keep = 1.0 - float64_at(load_int64(args, 3), 1)[0]
        limit, scale = _limit(keep), real(1.0 / keep)
        w, kept = uint32_at(words, n), bool_at(load_int64(args, 5) + first, n)
        for j in range(n):
            kept[j] = w[j] < limit
        x, x_step = load_int64(args, 2) + itemsize * x_offset, load_int64(args, X_STEP)
        y, y_step = load_int64(args, 4) + itemsize * y_offset, load_int64(args, Y_STEP)
        if x_step == 1 and y_step == 1:
            source, target = array_at(x, n, real), array_at(y, n, real)
            for j in range(n):
                target[j] = source[j] * scale if kept[j] else zero
        else:
            for j in range(n):
                value = array_at(x + j * x_step * itemsize, 1, real)[0]
                array_at(y + j * y_step * itemsize, 1, real)[0] = value * scale if kept[j] else zero

    return _make_draw(make_by_runs(store_run), 1)


# ---- Operands that are not contiguous ----


def make_by_runs(store_run):
    """A `store` that hands each run of a chunk to `store_run(args, words, first, x_offset, y_offset, n)`."""

    @subroutine
    def store(args, words, first, count):
        columns, end = load_int64(args, COLUMNS), first + count
        while first < end:
            row, column = first // columns, first % columns
            n = min(columns - column, end - first)
            x_offset, y_offset = column * load_int64(args, X_STEP), column * load_int64(args, Y_STEP)
            for loop in range(load_int64(args, LOOPS) - 1, -1, -1):
                length = load_int64(args, LENGTHS + loop)
                x_offset += row % length * load_int64(args, X_STRIDES + loop)
                y_offset += row % length * load_int64(args, Y_STRIDES + loop)
                row //= length
            store_run(args, words, first, x_offset, y_offset, n)
            words += 4 * n
            first += n

    return store
