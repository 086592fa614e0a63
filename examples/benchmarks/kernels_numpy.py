"""The kernels in plain NumPy, where a user would write them by hand: no gradients of convolutions."""

from __future__ import annotations

import numpy as np
from kernel_cases import Call, build_programs, labels, normal
from numpy.lib.stride_tricks import sliding_window_view


class Kernels:
    """Each method builds a call of the operation of its name."""

    def matmul(self, m: int, k: int, n: int) -> Call:
        a, b = normal(m, k), normal(k, n)
        return lambda: a @ b

    def matmul_nt(self, m: int, k: int, n: int) -> Call:
        a, b = normal(m, k), normal(n, k)
        return lambda: a @ b.T

    def matmul_tn(self, m: int, k: int, n: int) -> Call:
        a, b = normal(k, m), normal(k, n)
        return lambda: a.T @ b

    def matmul_batched(self, batch: int, m: int, k: int, n: int) -> Call:
        a, b = normal(batch, m, k), normal(batch, k, n)
        return lambda: a @ b

    def add(self, n: int) -> Call:
        x, y = normal(n), normal(n, seed=1)
        return lambda: x + y

    def multiply_add(self, n: int) -> Call:
        x, y, z = (normal(n, seed=seed) for seed in range(3))
        return lambda: x * y + z

    def exp(self, n: int) -> Call:
        x = normal(n)
        return lambda: np.exp(x)

    def tanh(self, n: int) -> Call:
        x = normal(n)
        return lambda: np.tanh(x)

    def silu_chain(self, n: int) -> Call:
        x = normal(n)
        return lambda: x / (1 + np.exp(-x))

    def softmax(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: _softmax(x)

    def cross_entropy_training(self, rows: int, columns: int) -> Call:
        """The gradient of the mean: (softmax - one-hot) / rows."""
        x, y, every = normal(rows, columns), labels(rows, columns), np.arange(rows)

        def call() -> tuple[float, np.ndarray]:
            p = _softmax(x)
            loss = -np.log(p[every, y]).mean()
            p[every, y] -= 1
            p /= rows
            return loss, p

        return call

    def layer_norm(self, rows: int, columns: int) -> Call:
        x, weight, bias = normal(rows, columns), normal(columns), normal(columns)
        return lambda: _standardize(x)[0] * weight + bias

    def layer_norm_training(self, rows: int, columns: int) -> Call:
        x, weight, bias = normal(rows, columns), normal(columns), normal(columns)
        gradient = normal(rows, columns, seed=1)

        def call() -> tuple[np.ndarray, ...]:
            z, scale = _standardize(x)
            y = z * weight + bias
            g = gradient * weight
            g -= g.mean(1, keepdims=True) + z * (g * z).mean(1, keepdims=True)
            return y, g * scale, (gradient * z).sum(0), gradient.sum(0)

        return call

    def conv2d(self, batch: int, c_in: int, c_out: int, height: int, padding: int) -> Call:
        """A matrix product with the windows of the image."""
        x, weight = normal(batch, c_in, height, height), normal(c_out, c_in, 3, 3)
        border = ((0, 0), (0, 0), (padding, padding), (padding, padding))

        def call() -> np.ndarray:
            windows = sliding_window_view(np.pad(x, border), (3, 3), (2, 3))
            return np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)

        return call

    def max_pool2d(self, batch: int, channels: int, height: int) -> Call:
        x, half = normal(batch, channels, height, height), height // 2
        windows = x[:, :, : 2 * half, : 2 * half].reshape(batch, channels, half, 2, half, 2)
        return lambda: windows.max((3, 5))

    def embedding(self, rows: int, width: int, n: int) -> Call:
        weight, indices = normal(rows, width), labels(n, rows)
        return lambda: weight[indices]

    def embedding_gradient(self, rows: int, width: int, n: int) -> Call:
        indices, gradient = labels(n, rows), normal(n, width)

        def call() -> np.ndarray:
            result = np.zeros((rows, width), np.float32)
            np.add.at(result, indices, gradient)
            return result

        return call

    def sort(self, rows: int, columns: int) -> Call:
        """With the indices, as in PyTorch."""
        x = normal(rows, columns)

        def call() -> tuple[np.ndarray, np.ndarray]:
            indices = x.argsort(1)
            return np.take_along_axis(x, indices, 1), indices

        return call

    def argsort(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.argsort(1)

    def median(self, rows: int, columns: int) -> Call:
        """Without the indices."""
        x = normal(rows, columns)
        return lambda: np.median(x, 1)

    def adam(self, n: int) -> Call:
        p, g, m, v, t = normal(n), normal(n, seed=1), np.zeros(n, np.float32), np.zeros(n, np.float32), 0

        def step() -> None:
            nonlocal m, v, t
            t += 1
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * g * g
            p[:] -= 1e-3 / (1 - 0.9**t) * m / (np.sqrt(v) / (1 - 0.999**t) ** 0.5 + 1e-8)

        return step

    def sum_all(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.sum()

    def sum_rows(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.sum(1)

    def sum_columns(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.sum(0)

    def max_rows(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.max(1)

    def variance_rows(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.var(1, ddof=1)

    def clone(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: x.copy()

    def transposed_copy(self, rows: int, columns: int) -> Call:
        x = normal(rows, columns)
        return lambda: np.ascontiguousarray(x.T)

    def concatenate(self, rows: int, columns: int) -> Call:
        parts = [normal(rows // 2, columns) for _ in range(2)]
        return lambda: np.concatenate(parts)


def _softmax(x: np.ndarray) -> np.ndarray:
    y = np.exp(x - x.max(1, keepdims=True))
    y /= y.sum(1, keepdims=True)
    return y


def _standardize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of mean 0 and variance 1, and what they were multiplied with."""
    z = x - x.mean(1, keepdims=True)
    scale = 1 / np.sqrt(np.square(z).mean(1, keepdims=True) + 1e-5)
    z *= scale
    return z, scale


PROGRAMS = build_programs({"float32": Kernels()})
