"""Weighted sums of a few elements along an axis, which are the same for all lines, on the CPU."""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import array_at, int64_at, load_int64

# Words of the argument block, behind the operands x and y, which are contiguous.
(
    LENGTH,  # of the axis of x
    COUNT,  # of the axis of y
    INNER,  # elements of x from one place of the axis to the next
    STARTS,  # address: where the terms of each element of y begin, and where the last ones end
    PLACES,  # address: for each term the place in x
    WEIGHTS,  # address: and its factor
    RUN_START,  # the longest run of elements of y that are just copied from as long a run of x:
    RUN_STOP,  # from here to there in y,
    RUN_PLACE,  # from here on in x
) = range(2, 11)


def make_resample(dtype, along):
    """The kernel of y[j] = sum of weights[k] x[places[k]], k from starts[j] to starts[j + 1]. Operands: x, y.

    Its rows are what lies before the axis.

    Args:
        dtype: Of x, y and the weights.
        along: Whether the axis is the last one; else whole rows of inner elements are added.
    """
    real, size = dtype.type, dtype.itemsize

    @subroutine
    def summed(starts, places, weights, x, y, inner, lo, hi):
        for j in range(lo, hi):
            first, last = starts[j], starts[j + 1]
            if along:
                total = real(0)
                for k in range(first, last):
                    total += weights[k] * array_at(x + places[k] * size, 1, real)[0]
                array_at(y + j * size, 1, real)[0] = total
                continue
            sums = array_at(y + j * inner * size, inner, real)
            if first == last:
                for i in range(inner):
                    sums[i] = real(0)
            for k in range(first, last):
                terms, weight = array_at(x + places[k] * inner * size, inner, real), weights[k]
                if k == first:
                    for i in range(inner):
                        sums[i] = weight * terms[i]
                else:
                    for i in range(inner):
                        sums[i] += weight * terms[i]

    def resample(args, lo, hi, task):
        length, count, inner = load_int64(args, LENGTH), load_int64(args, COUNT), load_int64(args, INNER)
        starts = int64_at(load_int64(args, STARTS), count + 1)
        places = int64_at(load_int64(args, PLACES), count)
        weights = array_at(load_int64(args, WEIGHTS), count, real)
        run_start, run_stop = load_int64(args, RUN_START), load_int64(args, RUN_STOP)
        run = (run_stop - run_start) * inner
        for row in range(lo, hi):
            x = load_int64(args, 0) + row * length * inner * size
            y = load_int64(args, 1) + row * count * inner * size
            summed(starts, places, weights, x, y, inner, 0, run_start)
            source = array_at(x + load_int64(args, RUN_PLACE) * inner * size, run, real)
            target = array_at(y + run_start * inner * size, run, real)
            for i in range(run):
                target[i] = source[i]
            summed(starts, places, weights, x, y, inner, run_stop, count)

    return resample
