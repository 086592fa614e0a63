"""Half precision on the GPU backend: every kernel that adds up does so in float32, whatever it is about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import nbdl
from nbdl.nn import functional as F

pytestmark = pytest.mark.usefixtures("gpu")

# Ones, so many that float16 (2048) and bfloat16 (256) stop counting where they add them one by one.
N = 3000
Tensors = Callable[..., nbdl.Tensor]


def zeros(*shape: int) -> nbdl.Tensor:
    """Indices."""
    return nbdl.zeros(*shape, dtype=nbdl.int64, device="cuda")


def gradient(function: Callable[[nbdl.Tensor], nbdl.Tensor], x: nbdl.Tensor) -> nbdl.Tensor:
    """Of the sum of the results."""
    x = x.detach().requires_grad_()
    y = function(x)
    (g,) = nbdl.autograd.grad(y, [x], nbdl.ones_like(y))
    return g


def step_of_norms(ones: Tensors) -> nbdl.Tensor:
    """The norm that gradients are clipped by."""
    x = ones(N).requires_grad_()
    x.sum().backward()
    return nbdl.nn.utils.clip_grad_norm_([x], 1e9)


# Each gives numbers that are `wanted` in exact arithmetic, up to one rounding to the dtype.
CASES: dict[str, tuple[Callable[[Tensors], nbdl.Tensor], float]] = {
    "sum": (lambda ones: ones(N).sum(), N),
    "sum of columns": (lambda ones: ones(N, 2).sum(0), N),
    "mean": (lambda ones: ones(N).mean(), 1),
    "norm": (lambda ones: ones(N).norm(), N**0.5),
    "var": (lambda ones: (ones(2, N // 2) * nbdl.tensor([[1], [-1]], device="cuda")).var(), N / (N - 1)),
    "logsumexp": (lambda ones: ones(N).logsumexp(0), 1 + np.log(N)),
    "cumsum": (lambda ones: ones(N).cumsum(0)[-1], N),
    "a recurrence": (lambda ones: nbdl.linear_scan(ones(N), ones(N))[-1], N),
    "trace": (lambda ones: nbdl.eye(60, device="cuda", dtype=ones(1).dtype).mul(50).trace(), N),
    "dot": (lambda ones: ones(N) @ ones(N), N),
    "matmul": (lambda ones: ones(2, N) @ ones(N, 2), N),
    "linear": (lambda ones: F.linear(ones(2, N), ones(3, N), ones(3)), N + 1),
    "gradient of a bias": (lambda ones: gradient(lambda b: F.linear(ones(N, 2), ones(3, 2), b), ones(3)), N),
    "gradient of a weight": (lambda ones: gradient(lambda w: F.linear(ones(N, 2), w), ones(3, 2)), N),
    "gradient of a broadcast operand": (lambda ones: gradient(lambda b: ones(N, 2) * b, ones(2)), N),
    "convolution": (lambda ones: F.conv1d(ones(1, N // 3, 5), ones(2, N // 3, 3)), N),
    "gradient of filters": (
        lambda ones: gradient(lambda w: F.conv1d(ones(1, 1, N + 1), w), ones(1, 1, 2)), N,
    ),
    "avg_pool": (lambda ones: F.avg_pool1d(ones(1, 1, N), N), 1),
    "adaptive pooling": (lambda ones: F.adaptive_avg_pool2d(ones(1, 1, 60, 50), 1), 1),
    "gradient of windows": (lambda ones: F.fold(ones(1, N, 2), (N + 1, 1), (N, 1))[0, 0, 1:-1], 2),
    "softmax": (lambda ones: F.softmax(ones(2, N), 1) * N, 1),
    "gradient of log_softmax": (lambda ones: 1 - gradient(lambda x: F.log_softmax(x, 1), ones(2, N)), 1),
    "cross_entropy": (
        lambda ones: F.cross_entropy(ones(N, 2), zeros(N), reduction="sum"),
        N * np.log(2),
    ),
    "nll_loss": (
        lambda ones: -F.nll_loss(ones(N, 2), zeros(N), reduction="sum"), N,
    ),
    "mse_loss": (lambda ones: F.mse_loss(ones(N), 2 * ones(N), reduction="sum"), N),
    "multi_margin_loss": (
        lambda ones: F.multi_margin_loss(ones(N, 2), zeros(N), reduction="sum"),
        N / 2,
    ),
    "layer_norm": (lambda ones: F.layer_norm(ones(2, N), (N,), bias=ones(N)), 1),
    "rms_norm": (lambda ones: F.rms_norm(ones(2, N), (N,)), 1),
    "gradient of a norm's bias": (
        lambda ones: gradient(lambda b: F.layer_norm(ones(N, 2), (2,), ones(2), b), ones(2)), N,
    ),
    "batch_norm": (lambda ones: F.batch_norm(ones(N, 2), None, None, ones(2), ones(2), training=True), 1),
    "gradient of an embedding": (
        lambda ones: gradient(
            lambda table: F.embedding(zeros(N), table), ones(2, 3)
        )[0], N,
    ),
    "embedding_bag": (
        lambda ones: F.embedding_bag(zeros(1, N), ones(2, 3), mode="sum"), N,
    ),
    "index_add": (
        lambda ones: ones(1).mul(0).index_add(0, zeros(N), ones(N)), N,
    ),
    "scatter_add": (
        lambda ones: ones(1).mul(0).scatter_add(0, zeros(N), ones(N)), N,
    ),
    "attention": (
        lambda ones: F.scaled_dot_product_attention(ones(1, 2, 4), ones(1, N, 4), ones(1, N, 4)), 1,
    ),
    "gradient of values": (
        lambda ones: gradient(lambda v: F.scaled_dot_product_attention(ones(1, N, 4), v, v), ones(1, 1, 4)),
        N,
    ),
    "gradient of padding": (
        lambda ones: gradient(lambda x: F.pad(x, (N - 1, 0), mode="replicate"), ones(1, 1, 2))[..., 0], N,
    ),
    "gradient of interpolation": (
        lambda ones: gradient(lambda x: F.interpolate(x, size=N, mode="nearest"), ones(1, 1, 1)), N,
    ),
    "norm of gradients": (step_of_norms, N**0.5),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_sums_are_in_single_precision(name: str, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    kind = getattr(nbdl, dtype)

    def ones(*shape: int) -> nbdl.Tensor:
        return nbdl.ones(*shape, dtype=kind, device="cuda")

    compute, wanted = CASES[name]
    found = compute(ones)
    assert found.dtype == kind
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    np.testing.assert_allclose(found.float().cpu().numpy(), wanted, rtol=3 * rounding)


def test_optimizers_compute_in_single_precision() -> None:
    """One step of Adam: its square of a small gradient would vanish in float16."""
    x = nbdl.ones(4, dtype=nbdl.float16, device="cuda", requires_grad=True)
    x.grad = nbdl.full_like(x, 1e-3)
    nbdl.optim.Adagrad([x], lr=0.125).step()
    np.testing.assert_allclose(x.detach().float().cpu().numpy(), 0.875, rtol=1e-3)
