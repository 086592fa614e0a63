"""CTC on the GPU backend: the losses and gradients of NumPy, in graphs, too."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import assert_close, assert_same, on_device
from gpu.test_compile import steps_of
from gpu.test_rows import random

import nbdl
from nbdl.backend import registry
from nbdl.nn import functional as F
from nbdl.ops.alignments import CtcLoss, CtcLossInput

pytestmark = pytest.mark.usefixtures("gpu")


def operands(steps: int, labels: int, dtype: str, classes: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Samples of several lengths: one without labels, one without steps, one without a path."""
    generator = np.random.default_rng(seed)
    x = random(steps, 6, classes, dtype=dtype, seed=seed).astype(np.float64)
    x = (x - np.log(np.exp(x).sum(2, keepdims=True))).astype(random(1, dtype=dtype).dtype)
    table = generator.integers(0, classes, (6, labels))
    table[1] = 2
    inputs = np.array([steps, steps, steps - 1, steps, 0, min(steps, 1)])
    targets = np.array([min(labels, 2), labels // 2, labels, 0, 0, labels])
    return [x, table, inputs, targets]


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize(("steps", "labels"), [(7, 3), (1, 2), (9, 0), (40, 20)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_losses_and_gradients(dtype, steps, labels, zero_infinity, mean) -> None:
    values = operands(steps, labels, dtype)
    settings = (1, mean, zero_infinity)
    assert_same(CtcLoss.of(*settings), *values, scale=8)
    generator = np.random.default_rng(1)
    for g in (generator.random(6), generator.random(1)[0]):
        assert_same(CtcLossInput.of(*settings), *values, np.array(g, values[0].dtype), scale=40)


def test_what_does_not_exist_is_not_a_number() -> None:
    x, labels, inputs, targets = operands(6, 3, "float32")
    labels[0, 0], inputs[1], targets[2] = 9, 7, -1
    backend = registry.load("cupy")
    arrays = [on_device(value) for value in (x, labels, inputs, targets)]
    losses, _ = backend.execute(CtcLoss.of(0, False, True), arrays)
    assert np.isnan(losses.get()).tolist() == [True, True, True, False, False, False]
    ones = on_device(np.ones(6, np.float32))
    slopes = backend.execute(CtcLossInput.of(0, False, True), [*arrays, ones])
    assert np.isnan(slopes.get()).all((0, 2)).tolist() == [True, True, True, False, False, False]


def test_nothing() -> None:
    x, labels, inputs, targets = operands(4, 2, "float32")
    values = [x[:, :0], labels[:0], inputs[:0], targets[:0]]
    backend = registry.load("cupy")
    losses, total = backend.execute(
        CtcLoss.of(0, False, False), [on_device(value.copy()) for value in values]
    )
    assert_close(losses, np.zeros(0, np.float32))
    assert_close(total, np.zeros((), np.float32))


def test_a_step_is_one_graph() -> None:
    x, labels, inputs, targets = operands(6, 3, "float32")

    def run(device: str, wrap=lambda f: f) -> tuple[np.ndarray, object]:
        logits = nbdl.tensor(x, device=device, requires_grad=True)
        rest = [nbdl.tensor(value, device=device) for value in (labels, inputs, targets)]

        def step(logits):
            loss = F.ctc_loss(F.log_softmax(logits, 2), *rest, blank=0, zero_infinity=True)
            return nbdl.autograd.grad(loss, logits)[0]

        function = wrap(step)
        for _ in range(3):
            found = function(logits)
        return found.cpu().numpy(), function

    got, compiled = run("cuda", nbdl.compile)
    with nbdl.use_backend("numpy"):
        expected, _ = run("cpu")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    (steps,) = steps_of(compiled)
    assert (steps.graphs, steps.eager) == (1, [])
