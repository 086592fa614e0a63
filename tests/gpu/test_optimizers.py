"""Optimizers on the GPU backend, one for each way of computing a step: the same as NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu import standin

import nbdl
from nbdl import optim

pytestmark = pytest.mark.usefixtures("gpu", "products")

CASES: dict[str, Any] = {
    "formula": lambda params: optim.RMSprop(params, lr=0.05, momentum=0.9),
    "formula with counters": lambda params: optim.NAdam(params, lr=0.05),
    "counters afterwards": lambda params: optim.ASGD(params, lr=0.05, t0=1.0),
    "mask of rows": lambda params: optim.SparseAdam(params, lr=0.05),
    "norms": lambda params: optim.LAMB(params, lr=0.05),
    "rows and columns": lambda params: optim.Adafactor(params, lr=0.05),
    "scalars on the device": lambda params: optim.Prodigy(params, d0=0.1),
    "average": lambda params: optim.SGDScheduleFree(params, lr=0.05),
    "products": lambda params: optim.Muon(params, lr=0.05),
}


def steps(make: Any, backend: str, device: str) -> list[np.ndarray]:
    """Parameters after some steps; the state of the first two goes through a state_dict."""
    random = np.random.default_rng(0)
    with nbdl.use_backend(backend):
        params = [
            nbdl.tensor(random.standard_normal(shape).astype(np.float32), device=device, requires_grad=True)
            for shape in ((3, 4), (5, 2))
        ]
        optimizer = make(params)
        for k in range(4):
            for param in params:
                gradient = random.standard_normal(param.shape).astype(np.float32)
                gradient[1] = 0.0
                param.grad = nbdl.tensor(gradient, device=device)
            if k == 2:
                saved = optimizer.state_dict()
                optimizer = make(params)
                optimizer.load_state_dict(saved)
            optimizer.step()
        assert all(param.device.type == device for param in params)
        return [param.detach().cpu().numpy() for param in params]


@pytest.mark.parametrize("name", CASES)
def test_steps(name: str) -> None:
    for got, expected in zip(
        steps(CASES[name], "cupy", "cuda"), steps(CASES[name], "numpy", "cpu"), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_steps_are_one_graph(name: str, gpu: str) -> None:
    """A step with gradients and update reads nothing, and takes the rate of now and its own count."""

    def parameters(wrap: Any) -> list[np.ndarray]:
        nbdl.manual_seed(0)
        weights = [nbdl.randn(*shape, device="cuda").requires_grad_() for shape in ((3, 4), (4, 2))]
        optimizer = CASES[name](weights)

        def step(x: nbdl.Tensor) -> nbdl.Tensor:
            optimizer.zero_grad()
            loss = ((x @ weights[0]).tanh() @ weights[1]).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        for k in range(4):
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] / (k + 1)
            x = nbdl.tensor(
                np.random.default_rng(k).standard_normal((5, 3)).astype(np.float32), device="cuda"
            )
            standin.counters.reset()
            run(x)
        if gpu == "standin" and run is not step:
            assert (standin.counters.graphs, standin.counters.synchronisations) == (1, 0)
        return [weight.detach().cpu().numpy() for weight in weights]

    for got, expected in zip(parameters(nbdl.compile), parameters(lambda step: step), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs(search: str | None) -> None:
    def solution(backend: str, device: str) -> np.ndarray:
        with nbdl.use_backend(backend):
            x = nbdl.zeros(4, dtype=nbdl.float64, device=device, requires_grad=True)
            target = nbdl.arange(4.0, dtype=nbdl.float64, device=device)
            optimizer = optim.LBFGS([x], max_iter=6, history_size=3, line_search_fn=search)

            def closure() -> nbdl.Tensor:
                optimizer.zero_grad()
                loss = ((x - target) ** 2 * (1 + target)).sum()
                loss.backward()
                return loss

            for _ in range(2):
                optimizer.step(closure)
            return x.detach().cpu().numpy()

    np.testing.assert_allclose(solution("cupy", "cuda"), solution("numpy", "cpu"), rtol=1e-8)


LOSS = nbdl.nn.MSELoss()
WHOLE: dict[str, Any] = {
    "LBFGS": optim.LBFGS,
    "LBFGSB": optim.LBFGSB,
    "BFGS": optim.BFGS,
    "NonlinearCG": optim.NonlinearCG,
    "Newton": optim.Newton,
    "NewtonCG": optim.NewtonCG,
    "SaddleFreeNewton": optim.SaddleFreeNewton,
    "TrustRegion": optim.TrustRegion,
    "ARC": optim.ARC,
    "LevenbergMarquardt": optim.LevenbergMarquardt,
    "GaussNewton": optim.GaussNewton,
    "StochasticLBFGS": optim.StochasticLBFGS,
    "HessianFree": lambda params: optim.HessianFree(params, LOSS),
    "NaturalGradient": lambda params: optim.NaturalGradient(params, LOSS),
}


@pytest.mark.parametrize("name", WHOLE)
def test_parameters_on_two_devices(name: str) -> None:
    params = [nbdl.ones(2, device=device, requires_grad=True) for device in ("cpu", "cuda")]

    def made_and_stepped() -> None:
        optimizer = WHOLE[name](params)
        optimizer.step(lambda: (params[0], params[0].detach()))

    with pytest.raises(RuntimeError, match=f"{name}.*same device, but found cpu and cuda"):
        made_and_stepped()


def test_minimize_refuses_two_devices() -> None:
    start = tuple(nbdl.ones(2, device=device) for device in ("cpu", "cuda"))
    with pytest.raises(RuntimeError, match=r"minimize: .*same device, but found cpu and cuda"):
        optim.minimize(lambda xs: (xs[0] * xs[0]).sum(), start)


@pytest.mark.parametrize("bounds", [None, (-0.5, 0.25)])
def test_lbfgsb(bounds: tuple[float, float] | None) -> None:
    def solution(backend: str, device: str) -> np.ndarray:
        with nbdl.use_backend(backend):
            x, y = (nbdl.zeros(3, dtype=nbdl.float64, device=device, requires_grad=True) for _ in range(2))
            optimizer = optim.LBFGSB([{"params": [x], "bounds": bounds}, {"params": [y], "lr": 0.1}])

            def closure() -> nbdl.Tensor:
                optimizer.zero_grad()
                loss = ((x - 1) ** 2 + (y - x) ** 4 + x * y).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
            assert optimizer.result is not None
            assert optimizer.result.success
            return np.concatenate([p.detach().cpu().numpy() for p in (x, y)])

    np.testing.assert_allclose(solution("cupy", "cuda"), solution("numpy", "cpu"), rtol=1e-7, atol=1e-9)
