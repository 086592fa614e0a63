"""Running sums, products, extrema and linear recurrences along an axis, on the CPU."""

from __future__ import annotations

import numpy as np

from nbdl.kernels.cpu import math as m
from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.lines import BLOCK, LENGTH, axis_step, make_line_kernel
from nbdl.kernels.cpu.memory import array_at, load_int64, stack_int64

_BLOCK = 32  # elements of a line that are looked at together

_COMBINE = {
    "sum": lambda x, y: x + y,
    "prod": lambda x, y: x * y,
    "max": lambda x, y: m.maximum(x, y),
    "min": lambda x, y: m.minimum(x, y),
    "logsumexp": lambda x, y: m.logaddexp(x, y),
}


def make_scan(kind, dtype, result, accumulator, across):
    """The kernel of a running `sum`, `prod`, `max`, `min` or `logsumexp`. Operands: x, y.

    Args:
        kind: What is accumulated.
        dtype: Of x.
        result: Dtype of y.
        accumulator: Dtype in which is accumulated.
        across: Whether it runs across lines.
    """
    source, target, real = dtype.type, result.type, accumulator.type
    x_size, y_size = dtype.itemsize, result.itemsize
    combine = subroutine(_COMBINE[kind])
    # Four elements are combined before they meet the total, so that its latency counts once for four. A
    # product of float64 could leave the range that way.
    grouped = kind == "sum" or (kind == "prod" and result.itemsize < accumulator.itemsize)

    exponential = kind == "logsumexp"

    @subroutine
    def exponentials(x, y, total):
        """A block of a logsumexp, in vectors but for one sum; its last result, NaN for single steps."""
        values, results = array_at(x, _BLOCK, source), array_at(y, _BLOCK, target)
        sums = array_at(stack_int64(_BLOCK), _BLOCK, real)
        largest = total
        for j in range(_BLOCK):
            largest = m.maximum(largest, values[j])
        if not largest - total < real(30):  # nor where there is an infinity
            return real(np.nan)
        running = m.exp(total - largest)
        for j in range(_BLOCK):
            sums[j] = m.exp(values[j] - largest)
        for j in range(_BLOCK):
            running += sums[j]
            sums[j] = running
        for j in range(_BLOCK):
            results[j] = largest + m.log(sums[j])
        return results[_BLOCK - 1]

    @subroutine
    def along(x, x_step, y, y_step, n):
        total = real(array_at(x, 1, source)[0])
        array_at(y, 1, target)[0] = target(total)
        i = 1
        if exponential and x_step == x_size and y_step == y_size:
            while i + _BLOCK <= n:
                last = exponentials(x + i * x_step, y + i * y_step, total)
                if last == last:
                    total, i = last, i + _BLOCK
                    continue
                for _ in range(_BLOCK):
                    total = combine(total, real(array_at(x + i * x_step, 1, source)[0]))
                    array_at(y + i * y_step, 1, target)[0] = target(total)
                    i += 1
        if grouped:
            while i + 4 <= n:
                a = real(array_at(x + i * x_step, 1, source)[0])
                b = combine(a, real(array_at(x + (i + 1) * x_step, 1, source)[0]))
                c = real(array_at(x + (i + 2) * x_step, 1, source)[0])
                d = combine(c, real(array_at(x + (i + 3) * x_step, 1, source)[0]))
                array_at(y + i * y_step, 1, target)[0] = target(combine(total, a))
                array_at(y + (i + 1) * y_step, 1, target)[0] = target(combine(total, b))
                array_at(y + (i + 2) * y_step, 1, target)[0] = target(combine(total, combine(b, c)))
                total = combine(total, combine(b, d))
                array_at(y + (i + 3) * y_step, 1, target)[0] = target(total)
                i += 4
        while i < n:
            total = combine(total, real(array_at(x + i * x_step, 1, source)[0]))
            array_at(y + i * y_step, 1, target)[0] = target(total)
            i += 1

    @subroutine
    def beside(x, x_step, y, y_step, n, width):
        totals = array_at(stack_int64(BLOCK), width, real)
        first = array_at(x, width, source)
        for j in range(width):
            totals[j] = real(first[j])
        for i in range(n):
            values, results = array_at(x + i * x_step, width, source), array_at(y + i * y_step, width, target)
            if i > 0:
                for j in range(width):
                    totals[j] = combine(totals[j], real(values[j]))
            for j in range(width):
                results[j] = target(totals[j])

    @subroutine
    def run(args, x, y, z, width, task):
        x_step, y_step = axis_step(args, 0) * x_size, axis_step(args, 1) * y_size
        if across:
            beside(x, x_step, y, y_step, load_int64(args, LENGTH), width)
        else:
            along(x, x_step, y, y_step, load_int64(args, LENGTH))

    return make_line_kernel((x_size, y_size), run)


def make_argscan(kind, dtype, across):
    """The kernel of the places of running extrema: the last of equal ones, the last NaN. Operands: x, places.

    Args:
        kind: `max` or `min`.
        dtype: Of x.
        across: Whether it runs across lines.
    """
    source, size = dtype.type, dtype.itemsize
    rising = kind == "max"

    @subroutine
    def takes_over(value, best):
        ahead = value >= best if rising else value <= best
        return ahead | (value != value)  # comparisons with a NaN fail, so that it stays

    @subroutine
    def none_takes_over(x, best):
        values = array_at(x, _BLOCK, source)
        some = False
        for j in range(_BLOCK):
            some |= takes_over(values[j], best)
        return not some

    @subroutine
    def along(x, x_step, y, y_step, n):
        best, place = array_at(x, 1, source)[0], 0
        i = 0
        while i < n:
            if x_step == size and y_step == 8 and i + _BLOCK <= n and none_takes_over(x + i * size, best):
                results = array_at(y + 8 * i, _BLOCK, np.int64)
                for j in range(_BLOCK):
                    results[j] = place
                i += _BLOCK
                continue
            for _ in range(min(_BLOCK, n - i)):
                value = array_at(x + i * x_step, 1, source)[0]
                if takes_over(value, best):
                    best, place = value, i
                array_at(y + i * y_step, 1, np.int64)[0] = place
                i += 1

    @subroutine
    def beside(x, x_step, y, y_step, n, width):
        best = array_at(stack_int64(BLOCK), width, source)
        places = array_at(stack_int64(BLOCK), width, np.int64)
        first = array_at(x, width, source)
        for j in range(width):
            best[j] = first[j]
            places[j] = 0
        for i in range(n):
            values = array_at(x + i * x_step, width, source)
            results = array_at(y + i * y_step, width, np.int64)
            for j in range(width):
                better = takes_over(values[j], best[j])
                best[j] = values[j] if better else best[j]
                places[j] = i if better else places[j]
            for j in range(width):
                results[j] = places[j]

    @subroutine
    def run(args, x, y, z, width, task):
        x_step, y_step = axis_step(args, 0) * size, axis_step(args, 1) * 8
        if across:
            beside(x, x_step, y, y_step, load_int64(args, LENGTH), width)
        else:
            along(x, x_step, y, y_step, load_int64(args, LENGTH))

    return make_line_kernel((size, 8), run)


def make_linear_scan(dtype, across):
    """The kernel of y[t] = a[t] * y[t-1] + b[t], y[0] = b[0]. Operands: a, b, y, all of one dtype."""
    kind, size = dtype.type, dtype.itemsize

    @subroutine
    def run(args, a, b, y, width, task):
        a_step, b_step, y_step = (
            axis_step(args, 0) * size,
            axis_step(args, 1) * size,
            axis_step(args, 2) * size,
        )
        n = load_int64(args, LENGTH)
        if across:
            before = array_at(stack_int64(BLOCK), width, kind)
            first = array_at(b, width, kind)
            for j in range(width):
                before[j] = first[j]
            for i in range(n):
                factors, terms = array_at(a + i * a_step, width, kind), array_at(b + i * b_step, width, kind)
                if i > 0:
                    for j in range(width):
                        before[j] = factors[j] * before[j] + terms[j]
                results = array_at(y + i * y_step, width, kind)
                for j in range(width):
                    results[j] = before[j]
        else:
            value = array_at(b, 1, kind)[0]
            array_at(y, 1, kind)[0] = value
            for i in range(1, n):
                value = array_at(a + i * a_step, 1, kind)[0] * value + array_at(b + i * b_step, 1, kind)[0]
                array_at(y + i * y_step, 1, kind)[0] = value

    return make_line_kernel((size, size, size), run)
