"""The two-loop recursion of L-BFGS on the CPU."""

from __future__ import annotations

from numba import njit

from nbdl.kernels.cpu.memory import array_at, float64_at, load_int64, stack_int64

# Words of the argument block: the operands g (n,), s and y (m, n), s^T y and y^T y (m,), the result (n,).
# They are contiguous.
GRADIENT, STEPS, CHANGES, CURVATURES, NORMS, RESULT, SIZE, ROWS, OLDEST, COUNT = range(10)
MAX_COUNT = 256  # pairs

_OPTIONS = {
    "error_model": "numpy",
    "fastmath": {"nsz", "arcp", "contract", "reassoc"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def make_two_loop(dtype):
    """The kernel; one task, one row. Each vector operation reads its operands once."""
    kind, itemsize = dtype.type, dtype.itemsize

    @njit(**_OPTIONS)
    def inner(x, y):
        total = kind(0)
        for i in range(x.size):
            total += x[i] * y[i]
        return total

    @njit(**_OPTIONS)
    def add(result, weight, x):
        factor = kind(weight)
        for i in range(x.size):
            result[i] += factor * x[i]

    def two_loop(args, lo, hi, task):
        n, rows, count = load_int64(args, SIZE), load_int64(args, ROWS), load_int64(args, COUNT)
        last = load_int64(args, OLDEST) + count - 1
        gradient = array_at(load_int64(args, GRADIENT), n, kind)
        result = array_at(load_int64(args, RESULT), n, kind)
        steps, changes = load_int64(args, STEPS), load_int64(args, CHANGES)
        curvatures = array_at(load_int64(args, CURVATURES), rows, kind)
        norms = array_at(load_int64(args, NORMS), rows, kind)
        weights = float64_at(stack_int64(256), count)
        for i in range(n):
            result[i] = gradient[i]
        for j in range(count):
            k = (last - j) % rows
            offset = k * n * itemsize
            weights[j] = inner(array_at(steps + offset, n, kind), result) / curvatures[k]
            add(result, -weights[j], array_at(changes + offset, n, kind))
        if count > 0:
            scale = curvatures[last % rows] / norms[last % rows]
            for i in range(n):
                result[i] *= scale
        for j in range(count - 1, -1, -1):
            k = (last - j) % rows
            offset = k * n * itemsize
            weight = weights[j] - inner(array_at(changes + offset, n, kind), result) / curvatures[k]
            add(result, weight, array_at(steps + offset, n, kind))

    return two_loop
