"""What the kernel benchmark measures: operations and their sizes, the same for every framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
        dtype: of the arrays: `float32` or `float64`.
    """

    group: str
    operation: str
    sizes: tuple[int, ...]
    work: float
    unit: str
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Operation, sizes and dtype, unique."""
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{self.operation} {' x '.join(map(str, self.sizes))}{dtype}"

    @property
    def in_float64(self) -> Case:
        """The same of twice as many bytes."""
        work = self.work * 2 if self.unit == BYTES else self.work
        return replace(self, work=work, dtype="float64")


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Standard normal numbers, the same for every framework."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype, copy=False)


def labels(n: int, classes: int) -> np.ndarray:
    """Class numbers, int64."""
    return np.random.default_rng(0).integers(0, classes, n)


def build_programs(kernels: Mapping[str, Any]) -> Programs:
    """The table that `worker.py` wants, of dtypes, each with an object that has methods of operations."""
    return {
        case.name: lambda variant, build=build, sizes=case.sizes: Program(build(*sizes), _no_value)
        for case in CASES
        if (build := getattr(kernels.get(case.dtype), case.operation, None))
    }


def _no_value(result: Any) -> float:
    """Results are arrays, computed when the call returns."""
    return 0.0


def _products() -> list[Case]:
    sizes = [
        (64, 2, 32), (64, 64, 64), (128, 784, 512), (512, 512, 512), (1024, 784, 2048), (1024, 2048, 2048),
    ]  # fmt: skip
    odd = [(n, n, n) for n in (17, 31, 100, 1000)]
    odd += [(1, 784, 512), (1000, 1, 1000), (10, 10_000, 10), (10_000, 10, 10)]
    transposed = [(17, 17, 17), (100, 100, 100), (128, 784, 512), (1024, 784, 2048)]
    cases = [("matmul", size) for size in sizes + odd]
    cases += [(f"matmul_{kind}", size) for kind in ("nt", "tn", "tt") for size in transposed]
    cases += [("matmul_batched", size) for size in [(64, 128, 32, 128), (64, 17, 31, 17)]]
    singles = [Case("matmul", name, size, 2 * math.prod(size), FLOPS) for name, size in cases]
    small = [case.in_float64 for case in singles if case.work <= 2 * 512**3]
    return [*singles, *[case for case in small if len(set(case.sizes)) == 1 or case.operation != "matmul"]]


def _fused_products() -> list[Case]:
    sizes = [(2048, 128, 512), (128, 784, 512), (100, 100, 100)]  # rows, inputs, outputs
    passes = {"linear_gelu": 1, "linear_gelu_training": 3}
    cases = [
        Case("linear and activation", operation, size, 2 * count * math.prod(size), FLOPS)
        for operation, count in passes.items()
        for size in sizes
    ]
    return [*cases, *[case.in_float64 for case in cases if case.sizes == sizes[1]]]


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
    cases = [
        Case("elementwise", operation, (n,), 4 * n * count, BYTES)
        for operation, count in arrays.items()
        for n in (1_000, 100_000, 4_000_000)
    ]
    return [*cases, *[case.in_float64 for case in cases if case.sizes == (100_000,)]]


def _normalizing() -> list[Case]:
    shapes = {
        "softmax": [(128, 10), (1000, 17), (2048, 1000)],
        "log_softmax_training": [(2048, 100)],
        "cross_entropy_training": [(128, 10), (2048, 65), (2048, 1000)],
        "layer_norm": [(2048, 128), (2048, 1024)],
        "layer_norm_training": [(1000, 31), (2048, 128), (2048, 1024)],
        "rms_norm_training": [(1000, 31), (2048, 1024)],
        "batch_norm_training": [(64, 16, 32, 32), (64, 64, 8, 8), (17, 31, 17, 17)],
        "group_norm_training": [(64, 16, 32, 32)],
        "instance_norm_training": [(64, 16, 32, 32)],
    }
    passes = {"softmax": 2, "layer_norm": 2, "cross_entropy_training": 2}
    cases = [
        Case("normalization", operation, size, 4 * math.prod(size) * passes.get(operation, 5), BYTES)
        for operation, sizes in shapes.items()
        for size in sizes
    ]
    return [*cases, *[case.in_float64 for case in cases if case.sizes == shapes[case.operation][-1]]]


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
    """Those with options, of as many channels in as out: batch, channels, height = width (= depth)."""
    size, odd, n = (16, 64, 28), (5, 24, 31), 16 * 64
    taps = {  # products of an output, and outputs of an input along all axes
        "conv2d_same": (9 * 64, 1),
        "conv2d_pointwise": (64, 1),
        "conv2d_wide": (25 * 64, 1),
        "conv2d_strided": (9 * 64, 1 / 4),
        "conv2d_dilated": (9 * 64, 1),
        "conv2d_grouped": (9 * 64 / 4, 1),
        "conv2d_depthwise": (9, 1),
        "conv2d_depthwise_last": (9, 1),
        "conv2d_depthwise_strided": (9, 1 / 4),
        "conv_transpose2d": (9 * 64, 1),
        "conv_transpose2d_strided": (9 * 64, 1),
    }
    cases = [
        Case("convolution", operation, size, 2 * n * 28**2 * products * scale, FLOPS)
        for operation, (products, scale) in taps.items()
    ]
    cases.append(Case("convolution", "conv2d_depthwise_training", size, 3 * 2 * n * 28**2 * 9, FLOPS))
    cases.append(Case("convolution", "conv2d_depthwise", odd, 2 * 5 * 24 * 31**2 * 9, FLOPS))
    for operation, width, batch, channels, length in (
        ("conv1d", 1, 16, 64, 1000),
        ("conv1d", 1, 7, 17, 31),
        ("conv_transpose1d", 1, 16, 64, 1000),
        ("conv3d", 3, 4, 16, 17),
        ("conv_transpose3d", 3, 4, 16, 17),
    ):
        work = 2 * batch * channels * length**width * 3**width * channels
        cases.append(Case("convolution", operation, (batch, channels, length), work, FLOPS))
    doubles = {"conv2d_same", "conv2d_depthwise", "conv2d_grouped", "conv_transpose2d", "conv1d", "conv3d"}
    return [*cases, *[c.in_float64 for c in cases if c.operation in doubles and c.sizes[0] in (4, 16)]]


def _pooling() -> list[Case]:
    sizes = [(64, 64, 24), (8, 64, 55)]  # batch, channels, height = width
    passes = {"max_pool2d": 1.25, "max_pool2d_training": 2.5, "avg_pool2d": 1.25, "avg_pool2d_training": 2.5}
    cases = [
        Case("pooling", operation, size, 4 * count * math.prod(size) * size[-1], BYTES)
        for operation, count in passes.items()
        for size in sizes
    ]
    cases += [case.in_float64 for case in cases if case.sizes == sizes[1]]
    cases.append(Case("pooling", "max_pool1d", (16, 64, 1000), 4 * 1.5 * 16 * 64 * 1000, BYTES))
    return [*cases, Case("pooling", "max_pool3d", (4, 16, 31), 4 * 1.125 * 4 * 16 * 31**3, BYTES)]


def _attention() -> list[Case]:
    cases = []
    for size in [(16, 4, 128, 32), (2, 8, 1024, 64), (3, 5, 100, 31)]:  # batch, heads, length, width
        n, heads, length, width = size
        flops = 2 * 2 * n * heads * length**2 * width / 2  # two products; one half of them is masked
        cases.append(Case("attention", "causal_attention", size, flops, FLOPS))
        cases.append(Case("attention", "causal_attention_training", size, 3.5 * flops, FLOPS))
    cases.append(Case("attention", "masked_attention", size, 2 * flops, FLOPS))
    cases.append(Case("attention", "masked_attention_training", size, 7 * flops, FLOPS))
    cases.append(Case("attention", "dropped_attention_training", size, 7 * flops, FLOPS))
    return [*cases, *[case.in_float64 for case in cases if case.sizes == size]]


def _recurrent() -> list[Case]:
    cases = []
    for size in [(64, 32, 128), (100, 17, 31)]:  # length, batch, width of inputs and state
        length, batch, width = size
        flops = 2 * length * batch * 4 * width * 2 * width
        for kind, gates in (("lstm", 4), ("gru", 3)):
            cases.append(Case("recurrent", kind, size, flops * gates / 4, FLOPS))
            cases.append(Case("recurrent", f"{kind}_training", size, 3 * flops * gates / 4, FLOPS))
    return [*cases, *[case.in_float64 for case in cases if case.sizes == size]]


def _embeddings() -> list[Case]:
    cases = []
    for size in [(65, 128, 2048), (1000, 31, 100), (50_000, 128, 2048)]:  # rows, width, number of indices
        rows, width, indices = size
        cases.append(Case("embedding", "embedding", size, 8 * indices * width, BYTES))
        # The gradient has the size of the table.
        cases.append(Case("embedding", "embedding_gradient", size, 4 * (rows + indices) * width, BYTES))
    return [*cases, *[case.in_float64 for case in cases if case.sizes[0] == 65]]


def _sorts() -> list[Case]:
    sizes = [(1, 1_000), (1, 1_000_000), (1000, 100), (31, 17)]
    operations = ("sort", "argsort", "top_10", "median")
    cases = [Case("sort", name, size, math.prod(size), ELEMENTS) for name in operations for size in sizes]
    return [*cases, *[case.in_float64 for case in cases if case.sizes == (1000, 100)]]


def _optimizers() -> list[Case]:
    return [Case("optimizer", "adam", (n,), 4 * n * 7, BYTES) for n in (1_000, 100_000, 10_000_000)]


def _reductions() -> list[Case]:
    shapes = [(128, 512), (1000, 31), (4096, 1024)]
    operations = ("sum_all", "sum_rows", "sum_columns", "max_rows", "argmax_rows", "variance_rows")
    cases = [
        Case("reduction", name, size, 4 * math.prod(size), BYTES) for name in operations for size in shapes
    ]
    return [*cases, *[case.in_float64 for case in cases if case.sizes == shapes[1]]]


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
