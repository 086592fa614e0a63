"""What the kernel benchmark measures: operations and their sizes, the same for every framework."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from program import Program, Programs

Call = Callable[[], Any]

FLOPS = "GFLOP/s"
BYTES = "GB/s"
ELEMENTS = "G elements/s"


@dataclass(frozen=True)
class Case:
    """One operation on arrays of one size.

    Attributes:
        group: heading of the report, and what `--only` chooses.
        operation: name of the function in `kernels_<framework>.py`.
        sizes: its arguments.
        work: floating-point operations, bytes that must be read and written, or elements of a call.
        unit: what `work` makes: FLOPS, BYTES or ELEMENTS.
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


def build_programs(kernels: Any) -> Programs:
    """The table that `worker.py` wants, of an object with a method for each operation that it has."""
    return {
        case.name: lambda variant, build=build, sizes=case.sizes: Program(build(*sizes), _no_value)
        for case in CASES
        if (build := getattr(kernels, case.operation, None))
    }


def _no_value(result: Any) -> float:
    """Results are arrays, computed when the call returns."""
    return 0.0


def _products() -> list[Case]:
    sizes = [
        (64, 2, 32), (64, 64, 64), (128, 784, 512), (512, 512, 512), (1024, 784, 2048), (1024, 2048, 2048),
    ]  # fmt: skip
    odd = [(n, n, n) for n in (17, 31, 100, 1000)] + [(1, 784, 512), (1000, 1, 1000), (10, 10_000, 10)]
    transposed = [(128, 784, 512), (1024, 784, 2048), (100, 100, 100)]
    cases = [("matmul", size) for size in sizes + odd]
    cases += [(f"matmul_{kind}", size) for kind in ("nt", "tn", "tt") for size in transposed]
    doubles = [(17, 17, 17), (31, 31, 31), (100, 100, 100), (512, 512, 512)]
    cases += [("matmul_float64", size) for size in doubles]
    cases += [(f"matmul_{kind}_float64", size) for kind in ("nt", "tn") for size in doubles[2:]]
    cases += [("matmul_batched", size) for size in [(64, 128, 32, 128), (64, 17, 31, 17)]]
    return [Case("matmul", name, size, 2 * math.prod(size), FLOPS) for name, size in cases]


def _fused_products() -> list[Case]:
    sizes = [(2048, 128, 512), (128, 784, 512), (100, 100, 100)]  # rows, inputs, outputs
    passes = {"linear_gelu": 1, "linear_gelu_training": 3}
    return [
        Case("linear and activation", operation, size, 2 * count * math.prod(size), FLOPS)
        for operation, count in passes.items()
        for size in sizes
    ]


def _elementwise() -> list[Case]:
    arrays = {
        "add": 3,
        "multiply_add": 4,
        "exp": 2,
        "tanh": 2,
        "gelu": 2,
        "silu_chain": 2,
        "dropout": 2,
    }  # read and written
    return [
        Case("elementwise", operation, (n,), 4 * n * count, BYTES)
        for operation, count in arrays.items()
        for n in (1_000, 100_000, 4_000_000)
    ]


def _normalizing() -> list[Case]:
    shapes = {
        "softmax": [(128, 10), (2048, 1000)],
        "softmax_float64": [(128, 10), (2048, 100)],
        "log_softmax_training": [(2048, 100)],
        "cross_entropy_training": [(128, 10), (2048, 65), (2048, 1000)],
        "layer_norm": [(2048, 128), (2048, 1024)],
        "layer_norm_training": [(2048, 128), (2048, 1024)],
        "batch_norm_training": [(64, 16, 32, 32), (64, 64, 8, 8)],
        "group_norm_training": [(64, 16, 32, 32)],
    }
    passes = {
        "softmax": 2,
        "softmax_float64": 4,
        "log_softmax_training": 5,
        "cross_entropy_training": 2,
        "layer_norm": 2,
        "layer_norm_training": 5,
        "batch_norm_training": 5,
        "group_norm_training": 5,
    }
    return [
        Case("normalization", operation, size, 4 * math.prod(size) * passes[operation], BYTES)
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
        (7, 17, 31, 31, 1),
    ]
    cases = []
    for size in sizes:
        n, c_in, c_out, height, padding = size
        work = 2 * n * c_out * (height + 2 * padding - 2) ** 2 * 9 * c_in
        backward = 2 if c_in == 1 else 3  # the gradient of an image is not asked for
        cases.append(Case("convolution", "conv2d", size, work, FLOPS))
        cases.append(Case("convolution", "conv2d_training", size, backward * work, FLOPS))
    return cases + _special_convolutions()


def _special_convolutions() -> list[Case]:
    """Those with options: batch, channels, height = width; the kernels are 3 or 3 x 3, padded by 1."""
    n, c, height = size = (16, 64, 28)
    outputs = n * c * height**2
    work = {
        "conv2d_strided": 2 * outputs // 4 * 9 * c,
        "conv2d_dilated": 2 * outputs * 9 * c,
        "conv2d_grouped": 2 * outputs * 9 * c // 4,
        "conv2d_depthwise": 2 * outputs * 9,
        "conv_transpose2d": 2 * outputs * 9 * c,
        "conv2d_float64": 2 * outputs * 9 * c,
    }
    cases = [Case("convolution", operation, size, flops, FLOPS) for operation, flops in work.items()]
    lines = Case("convolution", "conv1d", (16, 64, 1000), 2 * 16 * 64 * 1000 * 3 * 64, FLOPS)
    volumes = Case("convolution", "conv3d", (4, 16, 17), 2 * 4 * 16 * 17**3 * 27 * 16, FLOPS)
    return [*cases, lines, volumes]


def _pooling() -> list[Case]:
    sizes = [(64, 64, 24), (8, 64, 55)]  # batch, channels, height = width
    passes = {"max_pool2d": 1.25, "max_pool2d_training": 2.5, "avg_pool2d_training": 2.5}
    return [
        Case("pooling", operation, size, 4 * count * math.prod(size) * size[-1], BYTES)
        for operation, count in passes.items()
        for size in sizes
    ]


def _attention() -> list[Case]:
    cases = []
    for size in [(16, 4, 128, 32), (2, 8, 1024, 64), (3, 5, 100, 31)]:  # batch, heads, length, width
        n, heads, length, width = size
        flops = 2 * 2 * n * heads * length**2 * width / 2  # two products; one half of them is masked
        cases.append(Case("attention", "causal_attention", size, flops, FLOPS))
        cases.append(Case("attention", "causal_attention_training", size, 3.5 * flops, FLOPS))
    cases.append(Case("attention", "masked_attention", size, 2 * flops, FLOPS))
    cases.append(Case("attention", "dropped_attention_training", size, 7 * flops, FLOPS))
    return cases


def _recurrent() -> list[Case]:
    cases = []
    for size in [(64, 32, 128), (100, 17, 31)]:  # length, batch, width of inputs and state
        length, batch, width = size
        flops = 2 * length * batch * 4 * width * 2 * width
        cases.append(Case("recurrent", "lstm", size, flops, FLOPS))
        cases.append(Case("recurrent", "lstm_training", size, 3 * flops, FLOPS))
        cases.append(Case("recurrent", "gru_training", size, 3 * flops * 3 / 4, FLOPS))
    return cases


def _embeddings() -> list[Case]:
    cases = []
    for size in [(65, 128, 2048), (50_000, 128, 2048)]:  # rows and width of the table, number of indices
        rows, width, indices = size
        cases.append(Case("embedding", "embedding", size, 8 * indices * width, BYTES))
        # The gradient has the size of the table.
        cases.append(Case("embedding", "embedding_gradient", size, 4 * (rows + indices) * width, BYTES))
    return cases


def _sorts() -> list[Case]:
    sizes = [(1, 1_000), (1, 1_000_000), (1000, 100)]
    operations = ("sort", "argsort", "top_10", "median")
    return [Case("sort", name, size, math.prod(size), ELEMENTS) for name in operations for size in sizes]


def _optimizers() -> list[Case]:
    return [Case("optimizer", "adam", (n,), 4 * n * 7, BYTES) for n in (1_000, 100_000, 10_000_000)]


def _reductions() -> list[Case]:
    shapes = [(128, 512), (4096, 1024)]
    operations = ("sum_all", "sum_rows", "sum_columns", "max_rows", "variance_rows")
    cases = [
        Case("reduction", name, size, 4 * math.prod(size), BYTES) for name in operations for size in shapes
    ]
    return [*cases, Case("reduction", "sum_rows_float64", (1000, 1000), 8 * 1000**2, BYTES)]


def _copies() -> list[Case]:
    shapes = [(128, 512), (4096, 1024)]
    operations = ("clone", "transposed_copy", "concatenate")
    return [Case("copy", name, size, 8 * math.prod(size), BYTES) for name in operations for size in shapes]


CASES = [
    *_products(),
    *_fused_products(),
    *_elementwise(),
    *_normalizing(),
    *_convolutions(),
    *_pooling(),
    *_attention(),
    *_recurrent(),
    *_embeddings(),
    *_sorts(),
    *_optimizers(),
    *_reductions(),
    *_copies(),
]
GROUPS = list(dict.fromkeys(case.group for case in CASES))
