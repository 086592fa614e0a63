"""Orders along an axis, on the CPU: radix sort of keys with their places, the best k, and binary search.

Elements become unsigned keys in the same order, NaN last (Terdiman 2000, "Radix sort revisited"). Places are
sorted with them, least digit first, which keeps equal elements in their order.
"""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.lines import (
    FLAG,
    LENGTH,
    SCRATCH,
    SCRATCH_STRIDE,
    SIZE,
    axis_step,
    make_line_kernel,
)
from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64, stack_int64, uint64_at

PAIR_BYTES = 32  # scratch memory an element: keys and places, twice
_DIGIT_BITS, _FEW_DIGIT_BITS = 11, 8
_DIGITS = 1 << _DIGIT_BITS
# Lengths up to which elements are inserted one by one, ranked among all, and sorted by short digits
_TINY, _SHORT, _FEW = 12, 128, 2048
_LANES = 16  # values that are searched for together
_BLOCK = 64  # elements that are compared with the worst of the best at once


def _make_key(dtype):
    """A function (element, flip) that gives the key; ``flip`` is all ones where the largest comes first."""
    item, bits = dtype.type, 8 * dtype.itemsize
    word = np.dtype(f"u{dtype.itemsize}").type
    sign = np.uint64(1 << (bits - 1))
    everything = np.uint64((1 << bits) - 1)
    is_float, is_signed = dtype.kind == "f", dtype.kind == "i"

    @subroutine
    def key(address, flip):
        pattern = np.uint64(array_at(address, 1, word)[0])
        if is_float:
            value = array_at(address, 1, item)[0]
            pattern = np.uint64(0) if value == item(0) else pattern  # -0 equals 0
            ordered = pattern ^ (everything if pattern & sign else sign)
            pattern = everything if value != value else ordered
        elif is_signed:
            pattern ^= sign
        return pattern ^ (flip & everything)

    return key


@subroutine
def _insert(keys, places, n):
    """Sorts a few by insertion."""
    for i in range(1, n):
        key, place = keys[i], places[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            places[j] = places[j - 1]
            j -= 1
        keys[j] = key
        places[j] = place


@subroutine
def _rank(keys, places, to_keys, to_places, n):
    """Sorts by counting for each element those that come before it: many comparisons, but all in vectors."""
    for i in range(n):
        key = keys[i]
        rank = np.int64(0)
        for j in range(n):
            rank += np.int64(keys[j] < key)
        for j in range(i):
            rank += np.int64(keys[j] == key)
        to_keys[rank] = key
        to_places[rank] = places[i]


@subroutine
def _distribute(keys, places, to_keys, to_places, n, shift, bits):
    """One pass of the radix sort by a digit; False, and nothing is done, where all have the same."""
    digits = np.int64(1) << bits
    mask, step = np.uint64(digits - 1), np.uint64(shift)
    starts = int64_at(stack_int64(_DIGITS), digits)
    for d in range(digits):
        starts[d] = 0
    for i in range(n):
        starts[np.int64((keys[i] >> step) & mask)] += 1
    if starts[np.int64((keys[0] >> step) & mask)] == n:
        return False
    start = np.int64(0)
    for d in range(digits):
        count = starts[d]
        starts[d] = start
        start += count
    for i in range(n):
        key = keys[i]
        d = np.int64((key >> step) & mask)
        position = starts[d]
        starts[d] = position + 1
        to_keys[position] = key
        to_places[position] = places[i]
    return True


@subroutine
def _sort(memory, stride, n, key_bits):
    """Sorts keys at ``memory`` with the places ``stride`` bytes behind; the address of the sorted keys.

    Memory holds four arrays ``stride`` bytes apart: keys, places, and room for both.
    """
    if n <= _TINY:
        _insert(uint64_at(memory, n), int64_at(memory + stride, n), n)
        return memory
    if n <= _SHORT:
        there = memory + 2 * stride
        _rank(
            uint64_at(memory, n),
            int64_at(memory + stride, n),
            uint64_at(there, n),
            int64_at(there + stride, n),
            n,
        )
        return there
    bits = _FEW_DIGIT_BITS if n <= _FEW else _DIGIT_BITS
    here, there = memory, memory + 2 * stride
    for shift in range(0, key_bits, bits):
        keys, places = uint64_at(here, n), int64_at(here + stride, n)
        if _distribute(keys, places, uint64_at(there, n), int64_at(there + stride, n), n, shift, bits):
            here, there = there, here
    return here


@subroutine
def _scratch(args, task):
    return load_int64(args, SCRATCH) + task * load_int64(args, SCRATCH_STRIDE)


def make_argsort(dtype):
    """The kernel of places in rising order (falling if `FLAG`). Operands: x, places."""
    key, size = _make_key(dtype), dtype.itemsize
    key_bits = 8 * size

    @subroutine
    def run(args, x, y, z, width, task):
        n, x_step, y_step = load_int64(args, LENGTH), axis_step(args, 0) * size, axis_step(args, 1) * 8
        flip = np.uint64(0) - np.uint64(load_int64(args, FLAG))
        memory, stride = _scratch(args, task), 8 * n
        keys, places = uint64_at(memory, n), int64_at(memory + stride, n)
        for i in range(n):
            keys[i] = key(x + i * x_step, flip)
            places[i] = i
        order = int64_at(_sort(memory, stride, n, key_bits) + stride, n)
        for i in range(n):
            int64_at(y + i * y_step, 1)[0] = order[i]

    return make_line_kernel((size, 8), run)


def make_argtopk(dtype):
    """The kernel of the places of the best k (`SIZE`), largest if `FLAG`. Operands: x, places.

    A histogram of the leading digits says below which digit the best k lie; only these are sorted.
    """
    key, size, item = _make_key(dtype), dtype.itemsize, dtype.type
    key_bits = 8 * size
    bits = min(_DIGIT_BITS, key_bits)
    shift = np.uint64(key_bits - bits)
    digits = 1 << bits

    @subroutine
    def some_better(x, border, flip):
        """Whether some of a block may come before ``border``."""
        values = array_at(x, _BLOCK, item)
        above = below = unordered = False
        for j in range(_BLOCK):
            above |= values[j] > border
            below |= values[j] < border
            unordered |= values[j] != values[j]
        return (above if flip else below) | unordered | (border != border)

    @subroutine
    def few(x, x_step, n, k, flip, keys, places):
        """Keeps the best so far, in order."""
        held = 0
        worst = np.uint64(0)
        i = -1
        while i + 1 < n:
            i += 1
            if held == k and x_step == size and i + _BLOCK <= n:
                border = array_at(x + places[k - 1] * x_step, 1, item)[0]
                if not some_better(x + i * x_step, border, flip):
                    i += _BLOCK - 1
                    continue
            candidate = key(x + i * x_step, flip)
            if held < k or candidate < worst:
                j = held if held < k else k - 1
                while j > 0 and keys[j - 1] > candidate:
                    keys[j] = keys[j - 1]
                    places[j] = places[j - 1]
                    j -= 1
                keys[j] = candidate
                places[j] = i
                held = min(held + 1, k)
                worst = keys[held - 1]

    @subroutine
    def candidates(x, x_step, n, k, flip, keys, places):
        """Collects all up to the digit that holds the k-th best; their number."""
        counts = int64_at(stack_int64(digits), digits)
        for d in range(digits):
            counts[d] = 0
        for i in range(n):
            counts[np.int64(key(x + i * x_step, flip) >> shift)] += 1
        last, total = 0, counts[0]
        while total < k:
            last += 1
            total += counts[last]
        count = 0
        for i in range(n):
            candidate = key(x + i * x_step, flip)
            if np.int64(candidate >> shift) <= last:
                keys[count] = candidate
                places[count] = i
                count += 1
        return count

    @subroutine
    def run(args, x, y, z, width, task):
        n, x_step, y_step = load_int64(args, LENGTH), axis_step(args, 0) * size, axis_step(args, 1) * 8
        k, flip = load_int64(args, SIZE), np.uint64(0) - np.uint64(load_int64(args, FLAG))
        memory, stride = _scratch(args, task), 8 * n
        keys, places = uint64_at(memory, n), int64_at(memory + stride, n)
        if k <= _SHORT:
            few(x, x_step, n, k, flip, keys, places)
            order = places
        else:
            count = candidates(x, x_step, n, k, flip, keys, places)
            order = int64_at(_sort(memory, stride, count, key_bits) + stride, n)
        for i in range(k):
            int64_at(y + i * y_step, 1)[0] = order[i]

    return make_line_kernel((size, 8), run)


def make_searchsorted(dtype, right, across):
    """The kernel of binary search. Operands: boundaries, values, places; `SIZE` is the number of boundaries.

    Args:
        dtype: Of values and boundaries.
        right: Whether equal boundaries count as lower.
        across: Whether values are neighbouring lines of one element, and all lines have the same boundaries.
    """
    kind, size = dtype.type, dtype.itemsize

    @subroutine
    def lower(x, y):
        """Whether x comes before y; NaN is largest."""
        return (x < y) | ((y != y) & (x == x))

    @subroutine
    def passes(border, value):
        """Whether the value belongs behind a boundary."""
        return not lower(value, border) if right else lower(border, value)

    @subroutine
    def run(args, boundaries, values, places, width, task):
        n, step = load_int64(args, SIZE), axis_step(args, 0) * size
        count = width if across else load_int64(args, LENGTH)
        value_step, place_step = (1, 1) if across else (axis_step(args, 1), axis_step(args, 2))
        starts = int64_at(stack_int64(_LANES), _LANES)
        for i in range(0, count, _LANES):
            lanes = min(_LANES, count - i)
            values_here, places_here = values + i * value_step * size, places + i * place_step * 8
            for j in range(lanes):
                starts[j] = 0
            length = n
            while length > 0:  # as many steps for every value, and no jumps: several are searched at once
                half = (length + 1) >> 1
                for j in range(lanes):
                    value = array_at(values_here + j * value_step * size, 1, kind)[0]
                    border = array_at(boundaries + (starts[j] + half - 1) * step, 1, kind)[0]
                    starts[j] += half * np.int64(passes(border, value))
                length -= half
            for j in range(lanes):
                int64_at(places_here + j * place_step * 8, 1)[0] = starts[j]

    return make_line_kernel((0 if across else size, size, 8), run)
