"""What the benchmark of the layer zoo measures besides modules: functions, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FunctionCase:
    """A function with its operands.

    Attributes:
        label: what it is called in the report.
        call: takes the library and the operands.
        operands: functions of (random generator, size) that give arrays, for both sizes.
        group: heading of the report, and what ``--only`` chooses.
    """

    label: str
    call: Callable[..., Any]
    operands: tuple[Callable[[np.random.Generator, str], np.ndarray], ...]
    group: str = "functions"

    def name(self, size: str) -> str:
        """Function and size; unique."""
        return f"{self.label} {size}"

    def build(self, lib: ModuleType, size: str) -> Callable[[], Any]:
        """A call of the function."""
        rng = np.random.default_rng(0)
        tensors = [lib.from_numpy(operand(rng, size)) for operand in self.operands]
        return lambda: self.call(lib, *tensors)


def _normal(
    small: tuple[int, ...], large: tuple[int, ...]
) -> Callable[[np.random.Generator, str], np.ndarray]:
    return lambda rng, size: rng.standard_normal(small if size == "small" else large, np.float32)


def _integers(
    high: int, small: tuple[int, ...], large: tuple[int, ...]
) -> Callable[[np.random.Generator, str], np.ndarray]:
    return lambda rng, size: rng.integers(0, high, small if size == "small" else large)


def _definite(
    small: tuple[int, ...], large: tuple[int, ...]
) -> Callable[[np.random.Generator, str], np.ndarray]:
    def array(rng: np.random.Generator, size: str) -> np.ndarray:
        factor = rng.standard_normal(small if size == "small" else large, np.float32)
        n = factor.shape[-1]
        return factor @ factor.swapaxes(-1, -2) / n + 2 * np.eye(n, dtype=np.float32)

    return array


VECTOR = _normal((1000,), (1_000_000,))
MATRIX = _normal((32, 32), (1000, 1000))
SPECTRUM = lambda rng, size: np.fft.rfft(MATRIX(rng, size)).astype(np.complex64)  # noqa: E731
RISING = lambda rng, size: np.sort(VECTOR(rng, size))  # noqa: E731
POINTS = _normal((32, 3), (1000, 3))
TRIPLES = _normal((300, 3), (300_000, 3))
LABELS = _integers(100, (1000,), (1_000_000,))
PLACES = _integers(32, (32, 32), (1000, 1000))
SQUARE = _definite((32, 32), (500, 500))
BATCH = _definite((8, 8, 8), (2000, 16, 16))
SIDES = _normal((32, 4), (500, 4))
BATCH_SIDES = _normal((8, 8, 2), (2000, 16, 2))


def _case(label: str, call: Callable[..., Any], *operands: Any) -> FunctionCase:
    return FunctionCase(label, call, operands)


FUNCTIONS = (
    _case("sum", lambda lib, x: lib.sum(x), VECTOR),
    _case("std", lambda lib, x: lib.std(x), VECTOR),
    _case("var of rows", lambda lib, x: lib.var(x, 1), MATRIX),
    _case("norm", lambda lib, x: lib.linalg.norm(x), MATRIX),
    _case("logsumexp", lambda lib, x: lib.logsumexp(x, 1), MATRIX),
    _case("max of rows", lambda lib, x: lib.max(x, 1), MATRIX),
    _case("argmax", lambda lib, x: lib.argmax(x), VECTOR),
    _case("cumsum", lambda lib, x: lib.cumsum(x, 1), MATRIX),
    _case("clamp", lambda lib, x: lib.clamp(x, -1, 1), MATRIX),
    _case("where", lambda lib, x, y: lib.where(x > 0, x, y), MATRIX, MATRIX),
    _case("matmul", lambda lib, x, y: x @ y, MATRIX, MATRIX),
    _case("einsum", lambda lib, x, y: lib.einsum("ij,kj->ik", x, y), MATRIX, MATRIX),
    _case("cdist", lambda lib, x, y: lib.cdist(x, y), POINTS, POINTS),
    _case("cross", lambda lib, x, y: lib.linalg.cross(x, y), TRIPLES, TRIPLES),
    _case("stack", lambda lib, x, y: lib.stack([x, y]), MATRIX, MATRIX),
    _case("stack, last axis", lambda lib, x, y: lib.stack([x, y], -1), MATRIX, MATRIX),
    _case("cat", lambda lib, x, y: lib.cat([x, y], 1), MATRIX, MATRIX),
    _case("flip", lambda lib, x: lib.flip(x, (0, 1)), MATRIX),
    _case("roll", lambda lib, x: lib.roll(x, 3, 1), MATRIX),
    _case("transpose", lambda lib, x: x.t().contiguous(), MATRIX),
    _case("tril", lambda lib, x: lib.tril(x), MATRIX),
    _case("arange", lambda lib, x: lib.arange(x.shape[0]), VECTOR),
    _case("gather", lambda lib, x, k: lib.gather(x, 1, k), MATRIX, PLACES),
    _case("scatter_add", lambda lib, x, k, y: x.scatter_add(1, k, y), MATRIX, PLACES, MATRIX),
    _case("masked select", lambda lib, x: x[x > 0], VECTOR),
    _case("nonzero", lambda lib, x: lib.nonzero(x > 0), VECTOR),
    _case("sort", lambda lib, x: lib.sort(x), VECTOR),
    _case("sort of rows", lambda lib, x: lib.sort(x, 1), MATRIX),
    _case("topk", lambda lib, x: lib.topk(x, 10), VECTOR),
    _case("topk of rows", lambda lib, x: lib.topk(x, 10, 1), MATRIX),
    _case("median", lambda lib, x: lib.median(x), VECTOR),
    _case("median of rows", lambda lib, x: lib.median(x, 1), MATRIX),
    _case("quantile", lambda lib, x: lib.quantile(x, 0.3), VECTOR),
    _case("searchsorted", lambda lib, x, y: lib.searchsorted(x, y), RISING, VECTOR),
    _case("unique", lambda lib, x: lib.unique(x), LABELS),
    _case("bincount", lambda lib, x: lib.bincount(x), LABELS),
    _case("histc", lambda lib, x: lib.histc(x, 100, -3, 3), VECTOR),
    _case("fft", lambda lib, x: lib.fft.fft(x), MATRIX),
    _case("rfft", lambda lib, x: lib.fft.rfft(x), MATRIX),
    _case("irfft", lambda lib, x: lib.fft.irfft(x), SPECTRUM),
    _case("fft2", lambda lib, x: lib.fft.fft2(x), MATRIX),
    _case("cholesky", lambda lib, x: lib.linalg.cholesky(x), SQUARE),
    _case("solve", lambda lib, x, y: lib.linalg.solve(x, y), SQUARE, SIDES),
    _case(
        "solve_triangular", lambda lib, x, y: lib.linalg.solve_triangular(x, y, upper=False), SQUARE, SIDES
    ),
    _case("inv", lambda lib, x: lib.linalg.inv(x), SQUARE),
    _case("lu_factor", lambda lib, x: lib.linalg.lu_factor(x), SQUARE),
    _case("qr", lambda lib, x: lib.linalg.qr(x), SQUARE),
    _case("eigh", lambda lib, x: lib.linalg.eigh(x), _definite((16, 16), (250, 250))),
    _case("svd", lambda lib, x: lib.linalg.svd(x), _normal((16, 16), (250, 250))),
    _case("cholesky, batch", lambda lib, x: lib.linalg.cholesky(x), BATCH),
    _case("inv, batch", lambda lib, x: lib.linalg.inv(x), BATCH),
    _case("lu_factor, batch", lambda lib, x: lib.linalg.lu_factor(x), BATCH),
    _case("solve, batch", lambda lib, x, y: lib.linalg.solve(x, y), BATCH, BATCH_SIDES),
    _case(
        "solve_triangular, batch",
        lambda lib, x, y: lib.linalg.solve_triangular(x, y, upper=False),
        BATCH,
        BATCH_SIDES,
    ),
)  # fmt: skip
