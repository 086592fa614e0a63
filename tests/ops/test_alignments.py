"""Connectionist temporal classification as a primitive: derivatives, batches, programs, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.ops.alignments import CtcLoss, CtcLossInput

LABELS = nbdl.tensor([[1, 1, 2], [2, 9, -7], [3, 0, 1]])  # behind its length a label may be anything
STEPS, COUNTS = nbdl.tensor([5, 3, 4]), nbdl.tensor([3, 1, 2])
PARAMS = (0, True, False)


def scores(*shape: int) -> nbdl.Tensor:
    return nbdl.tensor(np.random.default_rng(2).normal(size=shape), requires_grad=True)


def losses_of(x: nbdl.Tensor) -> Any:
    return CtcLoss.of(*PARAMS)(x.log_softmax(2), LABELS, STEPS, COUNTS)


def test_derivatives(backend: str) -> None:
    x = scores(5, 3, 4)
    assert gradcheck(losses_of, x, check_forward_ad=True)
    if backend == "numpy":  # elsewhere the same compositions compile many kernels; the next test has some
        assert gradgradcheck(losses_of, x, fast_mode=True)


@pytest.mark.parametrize("g_shape", [(), (3,)], ids=["total", "losses"])
def test_derivatives_of_the_gradient(backend: str, g_shape: tuple[int, ...]) -> None:
    x = scores(5, 3, 4)

    def gradient(x: nbdl.Tensor, g: nbdl.Tensor) -> Any:
        return CtcLossInput.of(*PARAMS)(x.log_softmax(2), LABELS, STEPS, COUNTS, g)

    g = scores(*g_shape)
    assert gradcheck(gradient, (x, g), fast_mode=True)
    assert gradcheck(lambda g: gradient(x.detach(), g), g, check_forward_ad=True)


def test_the_kernel_is_the_composition(backend: str) -> None:
    x = scores(5, 3, 4)
    operands = (x.log_softmax(2), LABELS, STEPS, COUNTS)
    for fused, composed in zip(CtcLoss.of(*PARAMS)(*operands), CtcLoss.of(*PARAMS).compose(*operands)):
        np.testing.assert_allclose(fused.detach().numpy(), composed.detach().numpy(), rtol=1e-12)
        slopes = [nbdl.autograd.grad(y.sum(), x, retain_graph=True)[0].numpy() for y in (fused, composed)]
        np.testing.assert_allclose(*slopes, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("zero_infinity", [True, False])
def test_targets_longer_than_the_input(backend: str, zero_infinity: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def run(lib: Any, functional: Any) -> tuple[Any, Any]:
        x = lib.tensor(scores(5, 3, 4).detach().tolist(), dtype=lib.float64, requires_grad=True)
        lengths = [lib.tensor(v) for v in ([2, 3, 4], [3, 1, 2])]
        labels = lib.tensor([[1, 1, 2], [2, 1, 1], [3, 2, 1]])
        loss = functional.ctc_loss(
            x.log_softmax(2), labels, *lengths, reduction="none", zero_infinity=zero_infinity
        )
        (loss * lib.tensor([1.0, 2.0, -1.0])).sum().backward()
        return loss.detach().numpy(), x.grad.numpy()

    for ours, theirs in zip(run(nbdl, F), run(torch, torch.nn.functional)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def test_many_batches_and_programs(backend: str) -> None:
    x = scores(2, 5, 3, 4).detach()

    def loss(x: nbdl.Tensor) -> nbdl.Tensor:
        return F.ctc_loss(x.log_softmax(2), LABELS, STEPS, COUNTS)

    expected = [loss(part).item() for part in x]
    np.testing.assert_allclose(nbdl.func.vmap(loss)(x).numpy(), expected, rtol=1e-12)
    one = x[0].clone().requires_grad_()
    compiled = nbdl.compile(loss)
    for _ in range(3):
        value = compiled(one)
        (slope,) = nbdl.autograd.grad(value, one)
    assert value.item() == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(slope.numpy(), nbdl.autograd.grad(loss(one), one)[0].numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "steps", "counts", "error", "text"),
    [
        ([[1, 4]], [3], [2], IndexError, "label 4 is out of bounds: there are 4 classes"),
        ([[1, -1]], [3], [2], IndexError, "label -1 is out of bounds"),
        ([[1, 2]], [4], [2], RuntimeError, "input_lengths to have values from 0 to 3, but got 4"),
        ([[1, 2]], [-1], [2], RuntimeError, "input_lengths to have values from 0 to 3, but got -1"),
        ([[1, 2]], [3], [3], RuntimeError, "target_lengths to have values from 0 to 2, but got 3"),
    ],
)
def test_errors(backend: str, labels: Any, steps: Any, counts: Any, error: type, text: str) -> None:
    for _ in range(2):
        with pytest.raises(error, match=text):
            F.ctc_loss(nbdl.zeros(3, 1, 4), nbdl.tensor(labels), steps, counts)
