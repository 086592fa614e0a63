"""Curvature on the GPU backend, and the optimizers over it: the same as NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim import curvature

LOSS = nn.CrossEntropyLoss()


def problem(device: str) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    layers = nn.Linear(3, 4, device="cpu"), nn.Tanh(), nn.Linear(4, 3, device="cpu")
    model = nn.Sequential(*layers).to(device)
    with nbdl.no_grad():
        for param in model.parameters():
            param.copy_(nbdl.tensor(random.standard_normal(param.shape).astype(np.float32), device=device))
    x = nbdl.tensor(random.standard_normal((6, 3)).astype(np.float32), device=device)
    return model, x, nbdl.tensor(random.integers(0, 3, 6), device=device)


def matrix_of(kind: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda model, x, y: kind(curvature.Risk(model, LOSS, (x, y))).to_dense()


def trained(make: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def run(model: Any, x: Any, y: Any) -> Any:
        optimizer = make(model)
        for _ in range(3):
            optimizer.step(lambda: (model(x), y))
        return nbdl.cat([p.detach().reshape(-1) for p in model.parameters()])

    return run


def solved(model: Any, x: Any, y: Any) -> Any:
    risk = curvature.Risk(model, LOSS, (x, y))
    return curvature.cg(curvature.GGN(risk), risk.gradient(), damping=0.1, rtol=1e-6).x


def largest(model: Any, x: Any, y: Any) -> Any:
    start = nbdl.ones(31, device=x.device)
    hessian = curvature.Hessian(curvature.Risk(model, LOSS, (x, y)))
    return curvature.eigsh(hessian, 2, v0=start, tol=1e-4, return_eigenvectors=False)


CASES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "Hessian": matrix_of(curvature.Hessian),
    "Fisher": matrix_of(curvature.Fisher),
    "EmpiricalFisher": matrix_of(curvature.EmpiricalFisher),
    "KFAC": matrix_of(curvature.KFAC),
    "cg": solved,
    "eigsh": largest,
    "NaturalGradient": trained(lambda model: optim.NaturalGradient(model.parameters(), LOSS)),
    "HessianFree": trained(lambda model: optim.HessianFree(model.parameters(), LOSS)),
    "KFAC steps": trained(lambda model: optim.KFAC(model, LOSS, fisher="exact")),
}


DECOMPOSING = {"KFAC steps"}


def skip_without_decompositions(gpu: str) -> None:
    if gpu == "standin":
        pytest.skip("the stand-in for CuPy has no decompositions of matrices")


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_numpy(name: str, gpu: str) -> None:
    if name in DECOMPOSING:
        skip_without_decompositions(gpu)
    with nbdl.use_backend("cupy"):
        found = CASES[name](*problem("cuda"))
        assert found.device.type == "cuda"
        got = found.cpu().numpy()
    with nbdl.use_backend("numpy"):
        expected = CASES[name](*problem("cpu")).numpy()
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4)


def test_bounds(gpu: str) -> None:
    skip_without_decompositions(gpu)

    def function(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    with nbdl.use_backend("cupy"):
        start = nbdl.tensor([-1.2, 1.0], dtype=nbdl.float64, device="cuda")
        found = optim.minimize(function, start, bounds=[(None, 0.5), (None, None)], tol=1e-7)
        assert found.x.device.type == "cuda"
        np.testing.assert_allclose(found.x.cpu().numpy(), [0.5, 0.25], atol=1e-6)
