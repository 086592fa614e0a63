"""What the kernel benchmark measures: operations and their sizes, the same for every framework."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One operation on arrays of one size.

    Attributes:
        group: heading of the report, and what `--only` chooses.
        operation: name of the function in `kernels_<framework>.py`.
        sizes: its arguments.
        work: floating-point operations, or bytes that must be read and written, of a call.
        unit: "GFLOP/s" or "GB/s", what `work` makes.
    """

    group: str
    operation: str
    sizes: tuple[int, ...]
    work: float
    unit: str

    @property
    def name(self) -> str:
        """Operation and sizes, unique."""
        return f"{self.operation} {' x '.join(map(str, self.sizes))}"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32 numbers, the same for every framework."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def labels(n: int, classes: int) -> np.ndarray:
    """Class numbers, int64."""
    return np.random.default_rng(0).integers(0, classes, n)


def build_programs(kernels: Any) -> dict[str, Callable[[str], tuple[Call, Callable[[Any], float]]]]:
    """The table that `worker.py` wants, of an object with a method for each operation that it has."""
    return {
        case.name: lambda variant, case=case: (getattr(kernels, case.operation)(*case.sizes), _no_value)
        for case in CASES
        if hasattr(kernels, case.operation)
    }


def _no_value(result: Any) -> float:
    """Results are arrays, computed when the call returns."""
    return 0.0


def _products() -> list[Case]:
    sizes = [
        (64, 2, 32), (64, 64, 64), (128, 784, 512), (512, 512, 512), (1024, 784, 2048), (1024, 2048, 2048),
    ]  # fmt: skip
    transposed = [(128, 784, 512), (1024, 784, 2048)]
    cases = [("matmul", size) for size in sizes]
    cases += [(operation, size) for operation in ("matmul_nt", "matmul_tn") for size in transposed]
    cases.append(("matmul_batched", (64, 128, 32, 128)))
    return [Case("matmul", name, size, 2 * math.prod(size), "GFLOP/s") for name, size in cases]


def _elementwise() -> list[Case]:
    arrays = {
        "add": 3,
        "multiply_add": 4,
        "exp": 2,
        "tanh": 2,
        "gelu": 2,
        "silu_chain": 2,
    }  # read and written
    return [
        Case("elementwise", operation, (n,), 4 * n * count, "GB/s")
        for operation, count in arrays.items()
        for n in (1_000, 100_000, 4_000_000)
    ]


def _normalizing() -> list[Case]:
    shapes = {
        "softmax": [(128, 10), (2048, 1000)],
        "cross_entropy_training": [(128, 10), (2048, 65), (2048, 1000)],
        "layer_norm": [(2048, 128), (2048, 1024)],
        "layer_norm_training": [(2048, 128), (2048, 1024)],
    }
    passes = {"softmax": 2, "cross_entropy_training": 2, "layer_norm": 2, "layer_norm_training": 5}
    return [
        Case("normalization", operation, size, 4 * math.prod(size) * passes[operation], "GB/s")
        for operation, sizes in shapes.items()
        for size in sizes
    ]


def _convolutions() -> list[Case]:
    # batch, channels in and out, height = width, padding; the kernels are 3 x 3
    sizes = [
        (64, 1, 32, 28, 0),
        (64, 32, 64, 26, 0),
        (64, 16, 16, 32, 1),
        (64, 64, 64, 8, 1),
        (8, 64, 64, 56, 1),
    ]
    cases = []
    for size in sizes:
        n, c_in, c_out, height, padding = size
        work = 2 * n * c_out * (height + 2 * padding - 2) ** 2 * 9 * c_in
        backward = 2 if c_in == 1 else 3  # the gradient of an image is not asked for
        cases.append(Case("convolution", "conv2d", size, work, "GFLOP/s"))
        cases.append(Case("convolution", "conv2d_training", size, backward * work, "GFLOP/s"))
    return cases


def _optimizers() -> list[Case]:
    return [Case("optimizer", "adam", (n,), 4 * n * 7, "GB/s") for n in (1_000, 100_000, 10_000_000)]


def _reductions() -> list[Case]:
    shapes = [(128, 512), (4096, 1024)]
    operations = ("sum_all", "sum_rows", "sum_columns", "max_rows", "variance_rows")
    return [
        Case("reduction", name, size, 4 * math.prod(size), "GB/s") for name in operations for size in shapes
    ]


def _copies() -> list[Case]:
    shapes = [(128, 512), (4096, 1024)]
    operations = ("clone", "transposed_copy", "concatenate")
    return [Case("copy", name, size, 8 * math.prod(size), "GB/s") for name in operations for size in shapes]


CASES = [
    *_products(),
    *_elementwise(),
    *_normalizing(),
    *_convolutions(),
    *_optimizers(),
    *_reductions(),
    *_copies(),
]
GROUPS = list(dict.fromkeys(case.group for case in CASES))
