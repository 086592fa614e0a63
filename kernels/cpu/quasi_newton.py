"""What L-BFGS and line searches compute with flat vectors, on the CPU.

The two-loop recursion is one kernel in one thread. Where sums are taken, of a pair or of a slope, a first
kernel leaves those of each block of elements, and a second one adds them up in float64; the result does not
depend on the number of threads. Vectors are contiguous.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, load_int64, stack_int64
from nbdl.kernels.cpu.stages import FIRST_WORD

# Words of the recursion: the operands g (n,), s and y (m, n), s^T y and y^T y (m,), the result (n,).
GRADIENT, STEPS, CHANGES, CURVATURES, NORMS, RESULT, SIZE, ROWS, OLDEST, COUNT, NEGATIVE = range(11)
MAX_COUNT = 256  # pairs

# Words of the kernels in two stages, behind the operands
LENGTH, SUMS = FIRST_WORD, FIRST_WORD + 1  # of the vectors; address of two float64 for each block
BLOCK = 8192  # elements


def make_two_loop(dtype):
    """The kernel; one task, one row. Each vector operation reads its operands once."""
    kind, itemsize = dtype.type, dtype.itemsize
    view = float32_at if itemsize == 4 else float64_at
    zero, one = kind(0), kind(1)

    @subroutine(fastmath=FASTMATH_REASSOC)
    def inner(x, y, n):
        xs, ys = view(x, n), view(y, n)
        total = zero
        for i in range(n):
            total += xs[i] * ys[i]
        return total

    @subroutine
    def add(target, weight, x, n):
        result, xs = view(target, n), view(x, n)
        for i in range(n):
            result[i] += weight * xs[i]

    @subroutine
    def scale(target, factor, x, n):
        result, xs = view(target, n), view(x, n)
        for i in range(n):
            result[i] = factor * xs[i]

    def two_loop(args, lo, hi, task):
        n, rows, count = load_int64(args, SIZE), load_int64(args, ROWS), load_int64(args, COUNT)
        last, row = load_int64(args, OLDEST) + count - 1, load_int64(args, SIZE) * itemsize
        result = load_int64(args, RESULT)
        steps, changes = load_int64(args, STEPS), load_int64(args, CHANGES)
        curvatures = view(load_int64(args, CURVATURES), rows)
        norms = view(load_int64(args, NORMS), rows)
        weights = view(stack_int64(MAX_COUNT), count)
        scale(result, -one if load_int64(args, NEGATIVE) else one, load_int64(args, GRADIENT), n)
        for j in range(count):
            k = (last - j) % rows
            weights[j] = inner(steps + k * row, result, n) / curvatures[k]
            add(result, -weights[j], changes + k * row, n)
        if count > 0:
            k = last % rows
            scale(result, curvatures[k] / norms[k], result, n)
        for j in range(count - 1, -1, -1):
            k = (last - j) % rows
            weight = weights[j] - inner(changes + k * row, result, n) / curvatures[k]
            add(result, weight, steps + k * row, n)

    return two_loop


def make_remember_pair(dtype):
    """Two stages, over blocks and one row: operands s, y, s^T y, y^T y, x, x', g, g', and the results."""
    size = dtype.itemsize
    view = float32_at if size == 4 else float64_at
    zero, real = dtype.type(0), dtype.type

    @subroutine(fastmath=FASTMATH_REASSOC)
    def remember(step, change, x, old_x, g, old_g, sums, n):
        steps, changes, total = view(step, n), view(change, n), float64_at(sums, 2)
        new, old, new_slopes, old_slopes = view(x, n), view(old_x, n), view(g, n), view(old_g, n)
        for i in range(n):
            steps[i], changes[i] = new[i] - old[i], new_slopes[i] - old_slopes[i]
        # Not in the same loop: one that stores has a scalar twin, taken where arrays lie close to each other,
        # and its sums would have another order.
        curvature, norm = zero, zero
        for i in range(n):
            curvature += steps[i] * changes[i]
            norm += changes[i] * changes[i]
        total[0], total[1] = float(curvature), float(norm)

    def remember_blocks(args, lo, hi, task):
        for block in range(lo, hi):
            at = block * BLOCK * size
            remember(
                load_int64(args, 8) + at, load_int64(args, 9) + at, load_int64(args, 4) + at,
                load_int64(args, 5) + at, load_int64(args, 6) + at, load_int64(args, 7) + at,
                load_int64(args, SUMS) + 16 * block, min(BLOCK, load_int64(args, LENGTH) - block * BLOCK),
            )  # fmt: skip

    def finish(args, lo, hi, task):
        blocks = (load_int64(args, LENGTH) + BLOCK - 1) // BLOCK
        sums = float64_at(load_int64(args, SUMS), 2 * blocks)
        curvature, norm = 0.0, 0.0
        for block in range(blocks):
            curvature += sums[2 * block]
            norm += sums[2 * block + 1]
        view(load_int64(args, 10), 1)[0] = real(curvature)
        view(load_int64(args, 11), 1)[0] = real(norm)

    return remember_blocks, finish


def make_slope_and_size(dtype):
    """Two stages, over blocks and over one row: operands x, y, and [x^T y, max |x|]."""
    size = dtype.itemsize
    view = float32_at if size == 4 else float64_at
    zero, nan, real = dtype.type(0), dtype.type("nan"), dtype.type

    @subroutine(fastmath=FASTMATH_REASSOC)
    def measure(x, y, sums, n):
        xs, ys, total = view(x, n), view(y, n), float64_at(sums, 2)
        slope, largest, missing = zero, zero, 0
        for i in range(n):
            slope += xs[i] * ys[i]
            magnitude = abs(xs[i])
            largest = magnitude if magnitude > largest else largest
            missing += xs[i] != xs[i]
        total[0], total[1] = float(slope), float(largest if missing == 0 else nan)

    def measure_blocks(args, lo, hi, task):
        for block in range(lo, hi):
            at = block * BLOCK * size
            measure(
                load_int64(args, 0) + at, load_int64(args, 1) + at, load_int64(args, SUMS) + 16 * block,
                min(BLOCK, load_int64(args, LENGTH) - block * BLOCK),
            )  # fmt: skip

    def finish(args, lo, hi, task):
        blocks = (load_int64(args, LENGTH) + BLOCK - 1) // BLOCK
        sums, result = float64_at(load_int64(args, SUMS), 2 * blocks), view(load_int64(args, 2), 2)
        slope, largest = 0.0, 0.0
        for block in range(blocks):
            slope += sums[2 * block]
            # A NaN stays: it is not less than anything
            largest = largest if sums[2 * block + 1] <= largest or largest != largest else sums[2 * block + 1]
        result[0], result[1] = real(slope), real(largest)

    return measure_blocks, finish
