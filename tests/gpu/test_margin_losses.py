"""Margin losses on the GPU backend: those of NumPy, NaN for a class that does not exist, and in graphs."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import assert_close, assert_same, layouts, on_device
from gpu.test_compile import steps_of
from gpu.test_rows import KINDS, random

import nbdl
from nbdl.backend import registry
from nbdl.nn import functional as F
from nbdl.ops.margin_losses import (
    MultilabelMarginLoss,
    MultilabelMarginLossInput,
    MultiMarginLoss,
    MultiMarginLossInput,
)

pytestmark = pytest.mark.usefixtures("gpu")

SHAPES = [(6, 10), (1, 1), (3, 300), (40, 3)]


def several(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Targets of every row, one of them twice; a row without any, and one where all are."""
    rng = np.random.default_rng(seed)
    target = np.stack([rng.permutation(shape[1]) for _ in range(shape[0])])
    for row, count in enumerate(rng.integers(0, shape[1] + 1, shape[0])):
        target[row, count : count + 1] = -1
    if shape[1] > 3:
        target[0, :4] = [2, 0, 2, -1]
    return target


def slopes(primitive: object, x: np.ndarray, target: np.ndarray, scale: float = 8) -> None:
    """The gradient for a number that is on the device, and for NumPy beside it."""
    g = np.array(0.75, x.dtype)
    expected = registry.load("numpy").execute(primitive, [g, x, target])
    operands = on_device(g.reshape(1)).reshape(()), on_device(x), on_device(target)
    assert_close(registry.load("cupy").execute(primitive, operands), expected, scale=scale)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("dtype", KINDS)
def test_losses_and_gradients(dtype: str, mean: bool) -> None:
    for shape in SHAPES:
        x = random(*shape, dtype=dtype)
        target = np.random.default_rng(1).integers(0, shape[1], shape[0])
        for p, margin in ((1, 1.0), (2, 0.5)):
            assert_same(MultiMarginLoss.of(p, margin, mean), x, target, scale=16)
            slopes(MultiMarginLossInput.of(p, margin, mean), x, target, scale=16)
        assert_same(MultilabelMarginLoss.of(mean), x, several(shape), scale=64)
        slopes(MultilabelMarginLossInput.of(mean), x, several(shape), scale=64)


def test_layouts_and_special_values() -> None:
    for name, x in layouts((4, 5), np.float32).items():
        target = np.array([3, 0, 4, 1], np.int32)
        assert_same(MultiMarginLoss.of(1, 1.0, True), x, target, label=name, scale=4)
        assert_same(MultilabelMarginLoss.of(False), x, several((4, 5)).astype(np.int32), label=name, scale=4)
    x = np.array([[np.nan, 1, 2], [np.inf, 0, 1], [0, np.inf, 1]], np.float32)
    for p in (1, 2):
        assert_same(MultiMarginLoss.of(p, 1.0, False), x, np.array([1, 1, 1]))
        slopes(MultiMarginLossInput.of(p, 1.0, False), x, np.array([1, 1, 1]))
    assert_same(MultilabelMarginLoss.of(False), x, np.array([[1, -1, 0], [0, 1, 2], [2, 0, -1]]))


def test_a_class_that_does_not_exist_gives_nan() -> None:
    execute, x = registry.load("cupy").execute, on_device(random(3, 4))
    one, ones = (
        on_device(np.array([0, 4, -1])),
        on_device(np.array([[0, 4, 1, 2], [5, -1, 0, 0], [1, -1, 9, 9]])),
    )
    g = on_device(np.ones(1, np.float32)).reshape(())
    for primitive, target, wrong in (
        (MultiMarginLoss.of(1, 1.0, False), one, [False, True, True]),
        (MultilabelMarginLoss.of(False), ones, [True, True, False]),
    ):
        assert np.isnan(execute(primitive, [x, target])[1].get()).tolist() == wrong
        found = execute(primitive.backward.of(**primitive.params), [g, x, target]).get()
        assert np.isnan(found).all(1).tolist() == wrong
        assert np.isnan(found).any(1).tolist() == wrong


def test_a_step_is_one_graph() -> None:
    values, labels = random(5, 4), several((5, 4))

    def step(x):
        loss = F.multi_margin_loss(x, one, p=2) + F.multilabel_margin_loss(x, many)
        return nbdl.autograd.grad(loss, x)[0]

    found = []
    for device, wrap in (("cuda", nbdl.compile), ("cpu", lambda function: function)):
        with nbdl.use_backend("cupy" if device == "cuda" else "numpy"):
            one, many = nbdl.tensor(labels[:, 0] % 4, device=device), nbdl.tensor(labels, device=device)
            x, run = nbdl.tensor(values, device=device, requires_grad=True), wrap(step)
            for _ in range(3):
                y = run(x)
            found.append(y.cpu().numpy())
            if device == "cuda":
                (steps,) = steps_of(run)
                assert (steps.graphs, steps.eager) == (1, [])
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)
