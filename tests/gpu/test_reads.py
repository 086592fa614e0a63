"""How often second-order methods wait for the device: once an evaluation of the function."""

from __future__ import annotations

from typing import Any

import pytest
from gpu import standin

import nbdl
from nbdl import optim
from nbdl.optim import minimize


def function(x: Any) -> Any:
    return ((x - 1) ** 2).sum() * 3 + (x**4).sum()


def waits(gpu: str) -> int:
    if gpu != "standin":
        pytest.skip("only the stand-in for CuPy counts how often the host waits")
    return standin.counters.synchronisations


@pytest.mark.parametrize(
    "method", ["gradient-descent", "cg", "bfgs", "dfp", "l-bfgs", "newton-cg", "trust-ncg"]
)
def test_minimize(method: str, gpu: str) -> None:
    with nbdl.use_backend("cupy"):
        start = nbdl.zeros(5, dtype=nbdl.float64, device="cuda")
        before = waits(gpu)
        found = minimize(function, start, method=method, options={"maxiter": 12})
        assert waits(gpu) - before <= found.nfev + found.nhev + 8
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
