"""Metrics against scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
from nbdl.utils import metrics

rng = np.random.default_rng(0)
SCORES = rng.normal(size=(50, 6))
TARGET = rng.integers(0, 6, 50)


def halves(*arrays):
    for part in (slice(0, 7), slice(7, 7), slice(7, 50)):
        yield tuple(nbdl.tensor(array[part]) for array in arrays)


@pytest.mark.parametrize("k", range(1, 7))
def test_accuracy(k, backend):
    best = np.argsort(-SCORES, axis=1)[:, :k]
    expected = (best == TARGET[:, None]).any(1).mean()
    found = metrics.accuracy(nbdl.tensor(SCORES), nbdl.tensor(TARGET), k)
    assert found.dtype == nbdl.float32
    assert found.item() == pytest.approx(expected, rel=1e-6)
    gathered = metrics.Accuracy(k)
    for _ in range(2):
        for batch in halves(SCORES, TARGET):
            gathered.update(*batch)
        assert gathered.compute().item() == pytest.approx(expected, rel=1e-6)
        gathered.reset()
    assert math.isnan(gathered.compute().item())


def test_classes_instead_of_scores():
    predicted = nbdl.tensor(SCORES).argmax(1)
    for metric in (metrics.accuracy, lambda a, b: metrics.confusion_matrix(a, b, 6)):
        a, b = metric(predicted, nbdl.tensor(TARGET)), metric(nbdl.tensor(SCORES), nbdl.tensor(TARGET))
        assert nbdl.equal(a, b)


def test_confusion_matrix(backend):
    expected = np.zeros((6, 6), np.int64)
    for true, taken in zip(TARGET, SCORES.argmax(1), strict=True):
        expected[true, taken] += 1
    found = metrics.confusion_matrix(nbdl.tensor(SCORES), nbdl.tensor(TARGET), 6)
    np.testing.assert_array_equal(found.numpy(), expected, strict=True)
    gathered = metrics.ConfusionMatrix(6)
    assert gathered.compute().sum().item() == 0
    for batch in halves(SCORES, TARGET):
        gathered.update(*batch)
    np.testing.assert_array_equal(gathered.compute().numpy(), expected)


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_r2(shape, offset, backend):
    sklearn = pytest.importorskip("sklearn.metrics")
    target = rng.normal(size=shape) + offset
    prediction = target + 0.3 * rng.normal(size=shape)
    expected = sklearn.r2_score(target, prediction)
    assert metrics.r2_score(nbdl.tensor(prediction), nbdl.tensor(target)).item() == pytest.approx(
        expected, rel=1e-9
    )
    gathered = metrics.R2Score()
    for batch in halves(prediction, target):
        gathered.update(*batch)
    assert gathered.compute().item() == pytest.approx(expected, rel=1e-9)


def test_mean():
    mean = metrics.Mean()
    assert math.isnan(mean.compute().item())
    mean.update(nbdl.tensor(2.0, requires_grad=True))
    mean.update(8, weight=2)
    assert mean.compute().item() == 6.0
    assert not mean.compute().requires_grad


ERRORS = [
    (lambda: metrics.accuracy(nbdl.ones(3, 4), nbdl.ones(2)), r"got shapes \[3, 4\] and \[2\]"),
    (lambda: metrics.accuracy(nbdl.ones(3, 4), nbdl.ones(3), 5), "k must be from 1 to 4 .* got 5"),
    (lambda: metrics.accuracy(nbdl.ones(3), nbdl.ones(3), 2), "k must be from 1 to 1"),
    (lambda: metrics.r2_score(nbdl.ones(3), nbdl.ones(3, 1)), r"got \[3\] and \[3, 1\]"),
]


@pytest.mark.parametrize(("action", "message"), ERRORS)
def test_errors(action, message):
    with pytest.raises(ValueError, match=message):
        action()
    with pytest.raises(RuntimeError, match="before update"):
        metrics.R2Score().compute()
    with pytest.raises(IndexError):
        metrics.confusion_matrix(nbdl.tensor([0, 5]), nbdl.tensor([0, 1]), 3)
