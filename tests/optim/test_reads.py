"""How often the host reads a value, and so waits for the device: once an evaluation, whatever the method.

Methods that solve by products with the Hessian read one time more for each, those that solve the secular
equation one time for each matrix. Where a Hessian is not positive definite, each factorization is one.
"""

from __future__ import annotations

import sys

import pytest

import nbdl
from nbdl import linalg, nn, optim
from nbdl.autograd.tensor import Tensor
from nbdl.optim import least_squares, minimize, vectors
from nbdl.optim.methods import METHODS

READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
CHECKED = ("inv", "solve", "cholesky")  # they look whether it worked
ENDS = 6  # readings at the start and the end: the first point, a last look at the curvature, the result
PRODUCTS = {"newton-cg", "trust-ncg", "trust-krylov"}
MATRICES = {"trust-exact", "arc"}  # eigenvalues are read to solve the secular equation


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

    fetch = vectors.fetch
    counting = counted(fetch)
    for module in list(sys.modules.values()):
        if module.__name__.startswith("nbdl") and getattr(module, "fetch", None) is fetch:
            monkeypatch.setattr(module, "fetch", counting)
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


@pytest.mark.parametrize("method", [*METHODS, "l-bfgs-b"])
@pytest.mark.parametrize(("function", "start"), [(convex, [1.0] * 8), (rosenbrock, [-1.2, 1.0, -1.2, 1.0])])
def test_once_an_evaluation(method, function, start, reads):
    bounds = [(-5, 0.9)] * len(start) if method == "l-bfgs-b" else None
    found = minimize(function, start, method=method, bounds=bounds, options={"maxiter": 60, "xtol": 1e-300})
    more = found.nhev if method in PRODUCTS else found.nit if method in MATRICES else 0
    if function is rosenbrock and method in (
        "newton",
        "dogleg",
    ):  # where the Hessian is not positive definite
        more = found.nit // 2
    assert found.nit >= 3
    assert found.nit < len(reads) <= found.nfev + more + ENDS, reads


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


@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
def test_least_squares_reads_residuals_and_jacobians(method, reads):
    t = nbdl.linspace(0, 3, 30, dtype=nbdl.float64)
    y = 2 * (-1.3 * t).exp()
    found = least_squares(lambda p: p[0] * (-p[1] * t).exp() - y, [1.0, 1.0], method=method)
    assert found.success
    assert len(reads) <= found.nfev + found.njev + 8


def test_a_step_on_a_mini_batch(reads):
    nbdl.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y = nbdl.randn(8, 3), nbdl.randint(0, 2, (8,))
    kfac = optim.KFAC(model, nn.CrossEntropyLoss())
    natural = optim.NaturalGradient(model.parameters(), nn.CrossEntropyLoss(), max_kl=1e-2)
    for optimizer in (kfac, natural):
        reads.clear()
        optimizer.step(lambda: (model(x), y))
        products = optimizer.result.nhev
        assert len(reads) <= 1 + products
