"""How often second-order methods wait for the device: once an evaluation of the function."""

from __future__ import annotations

from typing import Any

import pytest
from gpu import standin

import nbdl
from nbdl import optim
from nbdl.optim import least_squares, minimize
from nbdl.optim.methods import METHODS


def function(x: Any) -> Any:
    return ((x - 1) ** 2).sum() * 3 + (x**4).sum()


def waits(gpu: str) -> int:
    if gpu != "standin":
        pytest.skip("only the stand-in for CuPy counts how often the host waits")
    return standin.counters.synchronisations


@pytest.mark.parametrize("method", [*METHODS, "l-bfgs-b"])
def test_minimize(method: str, gpu: str) -> None:
    with nbdl.use_backend("cupy"):
        start = nbdl.zeros(5, dtype=nbdl.float64, device="cuda")
        before = waits(gpu)
        bounds = [(-5, 5)] * 5 if method == "l-bfgs-b" else None
        found = minimize(function, start, method=method, bounds=bounds, options={"maxiter": 12})
        assert waits(gpu) - before <= found.nfev + 8
        assert found.success


@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
def test_least_squares(method: str, gpu: str) -> None:
    with nbdl.use_backend("cupy"):
        start = nbdl.ones(2, dtype=nbdl.float64, device="cuda")
        t = nbdl.linspace(0, 3, 10, dtype=nbdl.float64, device="cuda")
        y = 2 * (-1.3 * t).exp()
        before = waits(gpu)
        found = least_squares(lambda p: p[0] * (-p[1] * t).exp() - y, start, method=method)
        assert waits(gpu) - before <= found.nfev + 8
        assert found.success


def test_lbfgs(gpu: str) -> None:
    with nbdl.use_backend("cupy"):
        x = nbdl.zeros(5, dtype=nbdl.float64, device="cuda", requires_grad=True)
        optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe")

        def closure() -> Any:
            optimizer.zero_grad()
            loss = function(x)
            loss.backward()
            return loss

        before = waits(gpu)
        optimizer.step(closure)
        assert waits(gpu) - before <= optimizer.result.nfev + 5
