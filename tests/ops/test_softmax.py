"""Softmax, log-softmax and the fused cross-entropy: extremes, derivatives, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.ops.class_losses import CrossEntropyLoss, CrossEntropyLossInput, NllLoss, NllLossInput
from nbdl.ops.margin_losses import (
    MultilabelMarginLoss,
    MultilabelMarginLossInput,
    MultiMarginLoss,
    MultiMarginLossInput,
)
from nbdl.ops.softmax import (
    CrossEntropy,
    CrossEntropyInput,
    LogSoftmaxInput,
    SoftmaxInput,
    cross_entropy_rows,
)

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.0, 0.0], [0.5, 0.5]),
        ([1000.0, 0.0], [1.0, 0.0]),
        ([-60000.0, -60000.0], [0.5, 0.5]),
        ([-INF, 0.0], [0.0, 1.0]),
        ([-INF, -INF], [NAN, NAN]),
        ([INF, 0.0], [NAN, NAN]),
        ([NAN, 0.0], [NAN, NAN]),
        ([3.0], [1.0]),
    ],
)
def test_extreme_rows(backend: str, dtype: str, row: list, expected: list) -> None:
    y = nbdl.softmax(nbdl.tensor([row, row], dtype=dtype), 1).numpy()
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([expected, expected], dtype))


def test_log_softmax_of_far_apart_logits(backend: str) -> None:
    x = nbdl.tensor([[0.0, 1e30, -1e30], [0.0, -5.0, -INF]])
    y = nbdl.log_softmax(x, 1).numpy()
    np.testing.assert_array_equal(y[0], np.float32([-1e30, 0.0, -2e30]))
    np.testing.assert_allclose(
        y[1], [-math.log1p(math.exp(-5)), -5 - math.log1p(math.exp(-5)), -INF], rtol=1e-6
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 5, 1), (3, 1, 2)])
def test_slices_sum_to_one(backend: str, axis: int, shape: tuple[int, ...]) -> None:
    x = nbdl.tensor(np.random.default_rng(0).normal(size=shape) * 30)
    for y in (nbdl.softmax(x, axis), nbdl.log_softmax(x, axis).exp(), F.softmin(x, axis)):
        np.testing.assert_allclose(y.sum(axis).numpy(), 1.0, rtol=1e-12)
        assert y.shape == shape


def test_odd_shapes(backend: str) -> None:
    assert nbdl.softmax(nbdl.tensor(3.0), 0).item() == 1.0
    assert nbdl.log_softmax(nbdl.tensor(3.0), -1).item() == 0.0
    assert nbdl.softmax(nbdl.zeros(0, 3), 1).shape == (0, 3)
    assert nbdl.softmax(nbdl.zeros(3, 0), 1).shape == (3, 0)
    transposed = nbdl.tensor(np.arange(12.0).reshape(3, 4)).T
    np.testing.assert_allclose(
        nbdl.softmax(transposed, 1).numpy(), nbdl.softmax(transposed.contiguous(), 1).numpy()
    )


def real(*shape: int) -> nbdl.Tensor:
    return nbdl.tensor(np.random.default_rng(3).normal(size=shape), requires_grad=True)


TARGET = nbdl.tensor([[0, 2], [1, -100], [2, 2]])
CLASS, CLASSES = nbdl.tensor([0, 3, 1]), nbdl.tensor([[2, 0, -1, -1], [-1, 1, 0, 2], [3, -1, 0, -1]])
SHARE = nbdl.tensor(0.3, dtype="float64")
FUNCTIONS = {
    "softmax": (lambda x: nbdl.softmax(x, 1), [(3, 4)]),
    "log_softmax": (lambda x: nbdl.log_softmax(x, 0), [(3, 2, 2)]),
    "softmax_input": (SoftmaxInput.of(1), [(2, 4), (2, 4)]),
    "log_softmax_input": (LogSoftmaxInput.of(1), [(2, 4), (2, 4)]),
    "losses": (lambda x: cross_entropy_rows(x, TARGET), [(3, 3, 2)]),
    "losses_and_probabilities": (lambda x: CrossEntropy.of(-100)(x, TARGET), [(3, 3, 2)]),
    "cross_entropy_loss": (lambda x: CrossEntropyLoss.of(-100, True)(x, TARGET)[1:3], [(3, 3, 2)]),
    "cross_entropy_loss_input": (
        lambda p, g: CrossEntropyLossInput.of(-100)(p, TARGET, g, SHARE),
        [(3, 3, 2), ()],
    ),
    "nll_loss": (lambda x: NllLoss.of(-100, True)(x, TARGET)[0] ** 2, [(3, 3, 2)]),
    "nll_loss_input": (lambda g: NllLossInput.of(-100, (3, 3, 2))(g, TARGET, SHARE), [()]),
    "multi_margin_loss": (lambda x: MultiMarginLoss.of(2, 0.7, True)(x, CLASS)[0], [(3, 4)]),
    "multi_margin_loss_input": (
        lambda g, x: MultiMarginLossInput.of(2, 0.7, False)(g, x, CLASS)[0],
        [(), (3, 4)],
    ),
    "multilabel_margin_loss": (lambda x: MultilabelMarginLoss.of(True)(x, CLASSES)[0] ** 2, [(3, 4)]),
    "multilabel_margin_loss_input": (
        lambda g, x: MultilabelMarginLossInput.of(False)(g, x, CLASSES)[0],
        [(), (3, 4)],
    ),
    "cross_entropy_input": (lambda p, g: CrossEntropyInput.of(-100)(p, TARGET, g), [(3, 3, 2), (3, 2)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    with nbdl.use_backend("numpy"):
        inputs = [real(*shape) for shape in shapes]
        assert gradcheck(function, inputs, check_forward_ad=True)
        assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "losses"])
def test_third_derivatives(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    with nbdl.use_backend("numpy"):

        def slope(x: nbdl.Tensor) -> nbdl.Tensor:
            y = (function(x) ** 2).sum()
            return nbdl.autograd.grad(y, x, create_graph=True)[0]

        assert gradgradcheck(slope, real(*shapes[0]), fast_mode=True)


def test_an_operand_given_twice() -> None:
    x = real(2, 3)
    with nbdl.use_backend("numpy"):
        assert gradcheck(lambda x: SoftmaxInput.of(1)(x, x), x, check_forward_ad=True)
        assert gradgradcheck(lambda x: SoftmaxInput.of(1)(x, x), x)


def test_ignored_rows_have_neither_loss_nor_gradient(backend: str) -> None:
    x = nbdl.tensor([[1.0, NAN], [0.0, 0.0]], requires_grad=True)
    losses = cross_entropy_rows(x, nbdl.tensor([7, 1]), ignore_index=7)
    np.testing.assert_allclose(losses.detach().numpy(), [0.0, math.log(2)], rtol=1e-6)
    losses.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), [[0.0, 0.0], [0.5, -0.5]])


def test_half_precision(backend: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float16)
    half = nbdl.tensor(x, requires_grad=True)
    full = nbdl.tensor(x.astype(np.float64), requires_grad=True)
    target = nbdl.tensor([0, 4, 2, 2])
    for tensor in (half, full):
        cross_entropy_rows(tensor, target).sum().backward()
    assert half.grad is not None and full.grad is not None and half.grad.dtype == np.float16
    np.testing.assert_allclose(half.grad.numpy(), full.grad.numpy(), atol=1e-3)


ERRORS = [
    (lambda: nbdl.softmax(nbdl.zeros(2, 3), 2), IndexError, "Dimension out of range"),
    (lambda: nbdl.softmax(nbdl.zeros(2, 3, dtype="int64"), 1), RuntimeError, "must be floating, got int64"),
    (lambda: nbdl.log_softmax(np.zeros(3), 0), TypeError, "must be Tensor, not numpy.ndarray"),
    (lambda: F.softmax(nbdl.zeros(2, 3)), TypeError, "dim is missing"),
    (lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([0, 3])), IndexError, "Target 3 is out of bounds"),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([0, -1])),
        IndexError,
        "Target -1 is out of bounds",
    ),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([0, 1, 2])),
        ValueError,
        r"batch_size \(2\) to match target",
    ),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3, 4), nbdl.zeros(2, 5, dtype="int64")),
        RuntimeError,
        r"Expected target size \[2, 4\]",
    ),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.zeros(2, 4)),
        RuntimeError,
        "target probabilities must have the shape",
    ),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([0, 1]), reduction="avg"),
        ValueError,
        "not a valid value for reduction",
    ),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([0, 1]), label_smoothing=2),
        RuntimeError,
        "between 0.0 and 1.0",
    ),
    (
        lambda: F.cross_entropy(nbdl.zeros(2, 3), nbdl.tensor([0, 1]), nbdl.ones(2)),
        RuntimeError,
        "all 3 classes",
    ),
    (
        lambda: cross_entropy_rows(nbdl.zeros(2, 3), nbdl.zeros(1, dtype="int64")),
        RuntimeError,
        r"need a target \(N, ...\)",
    ),
    (
        lambda: cross_entropy_rows(nbdl.zeros(2, 3), nbdl.zeros(2)),
        RuntimeError,
        "class indices must be integers",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call, error: type[Exception], message: str) -> None:
    with nbdl.use_backend("numpy"), pytest.raises(error, match=message):
        call()
