"""Training that is repeated gives the same bits: full batches, seeds, one order of every sum."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nbdl
from nbdl import config, nn, optim
from nbdl.optim.methods import METHODS as METHOD_NAMES

METHODS = ["SGD", "Adam", "LAMB", "Adafactor", "Muon", "Shampoo"]
LOSS = nn.CrossEntropyLoss()
# Second order: what makes the optimizer, and what its closure does.
SECOND_ORDER = {
    "LBFGS": (lambda model: optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe"), "backward"),
    "BFGS": (lambda model: optim.BFGS(model.parameters()), "backward"),
    "LBFGSB": (
        lambda model: optim.LBFGSB([{"params": [p], "bounds": (-0.3, 0.4)} for p in model.parameters()]),
        "backward",
    ),
    "NewtonCG": (lambda model: optim.NewtonCG(model.parameters(), max_iter=2), "loss"),
    "TrustRegion": (lambda model: optim.TrustRegion(model.parameters(), max_iter=2), "loss"),
    "NaturalGradient": (
        lambda model: optim.NaturalGradient(model.parameters(), LOSS, fisher="mc"),
        "outputs",
    ),
    "HessianFree": (
        lambda model: optim.HessianFree(model.parameters(), LOSS, preconditioner=0.75),
        "outputs",
    ),
    "KFAC": (lambda model: optim.KFAC(model, LOSS, fisher="mc"), "outputs"),
}


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


def trained_in_second_order(name: str) -> str:
    """Likewise of a small perceptron, full batch."""
    nbdl.manual_seed(3)
    model = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 10))
    x, y = nbdl.randn(400, 10), nbdl.randint(0, 10, (400,))
    make, wanted = SECOND_ORDER[name]
    optimizer = make(model)

    def closure():
        outputs = model(x)
        if wanted == "outputs":
            return outputs, y
        loss = LOSS(outputs, y)
        if wanted == "backward":
            optimizer.zero_grad()
            loss.backward()
        return loss

    digest = hashlib.sha256()
    for _ in range(2):
        digest.update(optimizer.step(closure).detach().numpy().tobytes())
    for param in model.parameters():
        digest.update(param.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = nbdl.get_num_threads()
    nbdl.set_num_threads(request.param)
    yield request.param
    nbdl.set_num_threads(before)
    config.NUM_THREADS.set(None)  # back to what the environment says


@pytest.mark.parametrize("name", METHODS)
def test_reruns_are_bit_equal(name, backend, threads):
    assert trained(name) == trained(name)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_reruns_are_bit_equal(name, backend, threads):
    assert trained_in_second_order(name) == trained_in_second_order(name)


@pytest.mark.parametrize("method", [*METHOD_NAMES, "l-bfgs-b"])
def test_minimize_gives_the_same_bits(method, backend, threads):
    # 70 variables: work that is shared among threads has blocks that do not depend on their number.
    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    def run():
        bounds = [(-1.5, 0.9)] * 70 if method == "l-bfgs-b" else None
        found = optim.minimize(
            rosenbrock, [-1.2, 1.0] * 35, method=method, bounds=bounds, options={"maxiter": 8}
        )
        return found.x.tobytes(), found.nfev, found.nhev

    assert run() == run()


def test_random_estimates_follow_the_seed():
    matrix = optim.curvature.DenseOperator(nbdl.randn(30, 30, dtype=nbdl.float64))
    for estimate in (optim.curvature.hutchinson_trace, optim.curvature.hutchpp_trace):
        first, again, other = (
            estimate(matrix, 12, nbdl.Generator().manual_seed(seed)).value for seed in (0, 0, 1)
        )
        assert first == again != other


@pytest.mark.slow
def test_other_processes_give_the_same_bits(backend):
    program = (
        "import test_reproducible as t\n"
        "print(*map(t.trained, t.METHODS), *map(t.trained_in_second_order, t.SECOND_ORDER))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        env={**os.environ, "NBDL_BACKEND": backend},
    )  # fmt: skip
    here = [*map(trained, METHODS), *map(trained_in_second_order, SECOND_ORDER)]
    assert result.stdout.split() == here
