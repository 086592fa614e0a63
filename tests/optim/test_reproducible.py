"""Training that is repeated gives the same bits: full batches, seeds, one order of every sum."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nbdl
from nbdl import nn, optim

METHODS = ["SGD", "Adam", "LAMB", "Adafactor", "Muon"]


def trained(name: str) -> str:
    """A digest of the parameters and losses of a small convolutional network."""
    nbdl.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(8 * 7 * 7, 16), nn.Tanh(), nn.Linear(16, 10),
    )  # fmt: skip
    images, labels = nbdl.randn(128, 1, 14, 14), nbdl.randint(0, 10, (128,))
    weights = [param for param in model.parameters() if name != "Muon" or param.ndim == 2]
    optimizer = getattr(optim, name)(weights, lr=1e-2)
    digest = hashlib.sha256()
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        digest.update(loss.detach().numpy().tobytes())
    for param in model.parameters():
        digest.update(param.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", METHODS)
def test_reruns_are_bit_equal(name, backend):
    assert trained(name) == trained(name)


@pytest.mark.slow
def test_other_processes_give_the_same_bits(backend):
    program = "import sys, test_reproducible as t\nprint(*[t.trained(name) for name in t.METHODS])"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        env={**os.environ, "NBDL_BACKEND": backend},
    )  # fmt: skip
    assert result.stdout.split() == [trained(name) for name in METHODS]
