"""How often the host reads a value, and so waits for a device: once an evaluation, whatever the method.

On the host a reading waits for nothing, and methods look whenever that saves work. So most of these tests let
them take the host for a device, and compare what they find.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import nbdl
from nbdl import linalg, nn, optim
from nbdl.autograd.tensor import Tensor
from nbdl.optim import least_squares, minimize, vectors
from nbdl.optim.methods import METHODS

READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
CHECKED = ("inv", "solve", "cholesky")  # they look whether it worked
ENDS = 6  # readings at the start and the end: the first point, a last look at the curvature, the result


def replace(monkeypatch, old, new):
    """Put a function of :mod:`nbdl.optim.vectors` in place of another, wherever it is known."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("nbdl") and getattr(module, old.__name__, None) is old:
            monkeypatch.setattr(module, old.__name__, new)


@pytest.fixture
def device(monkeypatch):
    """Lets methods take the host for a device."""
    replace(monkeypatch, vectors.is_on_host, lambda x: False)


@pytest.fixture
def reads(monkeypatch):
    """A list with an entry for each reading so far."""
    found, depth = [], [0]

    def counted(function):
        def call(*args, **kwargs):
            if not depth[0]:
                found.append(function.__name__)
            depth[0] += 1
            try:
                return function(*args, **kwargs)
            finally:
                depth[0] -= 1

        return call

    replace(monkeypatch, vectors.fetch, counted(vectors.fetch))
    for name in READING:
        monkeypatch.setattr(Tensor, name, counted(getattr(Tensor, name)))
    for name in CHECKED:
        monkeypatch.setattr(linalg, name, counted(getattr(linalg, name)))
    return found


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def convex(x):
    scale = nbdl.linspace(1, 50, x.numel(), dtype=x.dtype)
    return (scale * x * x).sum() / 2 + (x**4).sum() / 4 - x.sum()


PROBLEMS = {"convex": (convex, [1.0] * 8), "rosenbrock": (rosenbrock, [-1.2, 1.0, -1.2, 1.0])}


def minimized(method, problem, **options):
    function, start = PROBLEMS[problem]
    bounds = [(-5, 0.9)] * len(start) if method == "l-bfgs-b" else None
    options = {"maxiter": 60, "xtol": 1e-300, **options}
    return minimize(function, start, method=method, bounds=bounds, options=options)


CASES = [(method, {}) for method in (*METHODS, "l-bfgs-b")] + [("saddle-free-newton", {"subspace": 3})]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("method", "options"), CASES)
def test_once_an_evaluation(method, options, problem, device, reads):
    found = minimized(method, problem, **options)
    assert found.nit >= 3
    assert found.nit < len(reads) <= found.nfev + ENDS, reads


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("method", "options"), CASES)
def test_a_device_finds_what_the_host_finds(method, options, problem, monkeypatch):
    host = minimized(method, problem, **options)
    replace(monkeypatch, vectors.is_on_host, lambda x: False)
    found = minimized(method, problem, **options)
    assert found.status == host.status
    assert found.message == host.message
    if method != "trust-krylov":  # whose space is larger than it must be
        np.testing.assert_allclose(found.x, host.x, rtol=1e-6)
        assert (found.nit, found.nfev) == (host.nit, host.nfev)


@pytest.mark.parametrize("name", ["LBFGS", "BFGS", "NonlinearCG", "Newton", "SaddleFreeNewton"])
def test_optimizers(name, reads):
    x = nbdl.ones(6, dtype=nbdl.float64, requires_grad=True)
    settings = {"line_search_fn": "strong_wolfe"} if name == "LBFGS" else {}
    optimizer = getattr(optim, name)([x], max_iter=15, **settings)

    def closure():
        optimizer.zero_grad()
        loss = convex(x)
        if name not in ("Newton", "SaddleFreeNewton"):
            loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.result.nit >= 3
    # On the CPU, where it costs nothing, L-BFGS looks at the slope before it evaluates, as PyTorch's does.
    more = optimizer.result.nit if name == "LBFGS" else 0
    assert len(reads) <= optimizer.result.nfev + more + ENDS


def exponential(p):
    t = nbdl.linspace(0, 3, 30, dtype=nbdl.float64)
    return p[0] * (-p[1] * t).exp() - 2 * (-1.3 * t).exp()


@pytest.mark.parametrize("options", [{"method": "lm"}, {"method": "gauss-newton"}, {"x_scale": "jac"}])
def test_least_squares(options, monkeypatch, reads):
    host = least_squares(exponential, [1.0, 1.0], **options)
    replace(monkeypatch, vectors.is_on_host, lambda x: False)
    reads.clear()
    found = least_squares(exponential, [1.0, 1.0], **options)
    assert found.success
    assert found.nit < len(reads) <= found.nfev + 2 + ENDS  # the result has more arrays
    assert found.nfev <= host.nfev + 1  # the last one is noticed to be so when the next was computed
    assert (found.status, found.nit, found.x.tolist()) == (host.status, host.nit, host.x.tolist())


@pytest.mark.parametrize("name", ["LevenbergMarquardt", "GaussNewton"])
def test_least_squares_optimizers(name, device, reads):
    p = nbdl.ones(2, dtype=nbdl.float64, requires_grad=True)
    optimizer = getattr(optim, name)([p], max_iter=12)
    optimizer.step(lambda: exponential(p))
    assert optimizer.result.success
    assert len(reads) <= optimizer.result.nfev + ENDS


STEPS = {
    "KFAC": lambda model: optim.KFAC(model, nn.CrossEntropyLoss()),
    "NaturalGradient": lambda model: optim.NaturalGradient(
        model.parameters(), nn.CrossEntropyLoss(), max_kl=1e-2
    ),
    "HessianFree": lambda model: optim.HessianFree(
        model.parameters(), nn.CrossEntropyLoss(), preconditioner=0.75
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_on_a_mini_batch(name, monkeypatch, reads):
    def trained():
        nbdl.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        x, y = nbdl.randn(8, 3), nbdl.randint(0, 2, (8,))
        optimizer = STEPS[name](model)
        for _ in range(4):
            reads.clear()
            optimizer.step(lambda: (model(x), y))
            counts.append((len(reads), optimizer.result.nfev))
        return nbdl.cat([p.detach().reshape(-1) for p in model.parameters()])

    counts = []
    host = trained()
    counts.clear()
    replace(monkeypatch, vectors.is_on_host, lambda x: False)
    np.testing.assert_allclose(trained().numpy(), host.numpy(), rtol=1e-4, atol=1e-6)
    assert all(number <= nfev for number, nfev in counts), counts
