"""Second-order optimizers with closures: they descend, report, resume, and refuse what they cannot take."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim import (
    ARC,
    BFGS,
    GaussNewton,
    LevenbergMarquardt,
    Newton,
    NewtonCG,
    NonlinearCG,
    SaddleFreeNewton,
    StochasticLBFGS,
    TrustRegion,
)
from nbdl.optim.result import Status

GRADIENT = {
    "BFGS": lambda params: BFGS(params),
    "DFP": lambda params: BFGS(params, formula="dfp"),
    "NonlinearCG": lambda params: NonlinearCG(params),
    "NonlinearCG hz": lambda params: NonlinearCG(params, beta="hz", line_search="hager-zhang"),
}
CURVATURE = {
    "Newton": lambda params: Newton(params, max_iter=5),
    "NewtonCG": lambda params: NewtonCG(params, max_iter=5),
    "SaddleFreeNewton": lambda params: SaddleFreeNewton(params, max_iter=5),
    "ARC": lambda params: ARC(params, max_iter=5),
    **{
        f"TrustRegion {name}": lambda params, name=name: TrustRegion(params, max_iter=5, subproblem=name)
        for name in ("steihaug", "gltr", "dogleg", "exact")
    },
}


def model_and_loss():
    """A regression whose minimum is known by the normal equations: parameters, loss, expected parameters."""
    random = np.random.default_rng(0)
    features, targets = random.standard_normal((20, 3)), random.standard_normal((20, 2))
    weight = nbdl.zeros(3, 2, dtype=nbdl.float64, requires_grad=True)
    bias = nbdl.zeros(2, dtype=nbdl.float64, requires_grad=True)
    x, y = nbdl.tensor(features), nbdl.tensor(targets)

    def residuals():
        return x @ weight + bias - y

    def loss():
        return (residuals() ** 2).mean()

    solution, *_ = np.linalg.lstsq(np.c_[features, np.ones(20)], targets, rcond=None)
    return [weight, bias], loss, residuals, solution


def with_gradients(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def assert_solved(params, solution, tolerance=1e-6):
    weight, bias = (p.detach().numpy() for p in params)
    np.testing.assert_allclose(weight, solution[:3], atol=tolerance)
    np.testing.assert_allclose(bias, solution[3], atol=tolerance)


@pytest.mark.parametrize("name", [*GRADIENT, *CURVATURE])
def test_steps_reach_the_minimum(name, backend):
    params, loss, _, solution = model_and_loss()
    optimizer = (GRADIENT | CURVATURE)[name](params)
    closure = with_gradients(optimizer, loss) if name in GRADIENT else loss
    first = optimizer.step(closure)
    assert first.item() == pytest.approx((model_and_loss()[1])().item())
    for _ in range(5):
        optimizer.step(closure)
    assert_solved(params, solution)
    assert optimizer.result.status is Status.CONVERGED
    assert optimizer.result.success
    assert optimizer.result.nfev >= 1


@pytest.mark.parametrize("make", [LevenbergMarquardt, GaussNewton])
@pytest.mark.parametrize("loss", ["linear", "huber"])
def test_residual_closures(make, loss):
    params, _, residuals, solution = model_and_loss()
    optimizer = make(params, max_iter=30, loss=loss, f_scale=10.0)
    optimizer.step(residuals)
    assert_solved(params, solution)
    assert optimizer.result.success
    assert optimizer.result.njev > 0


def test_a_network_is_fitted():
    nbdl.manual_seed(0)
    x = nbdl.linspace(-2, 2, 40).unsqueeze(1)
    y = nbdl.sin(2 * x)
    model = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))
    optimizer = LevenbergMarquardt(model.parameters(), max_iter=60)
    optimizer.step(lambda: model(x) - y)
    assert (model(x) - y).square().mean().item() < 1e-3


def test_trust_region_after_a_rejected_trial():
    # The first step leaves the valley: the radius shrinks, and the Hessian is wanted again at the old point.
    w = nbdl.tensor([3.0, -2.0], dtype=nbdl.float64, requires_grad=True)
    optimizer = TrustRegion([w], max_iter=100, initial_trust_radius=50.0)

    def loss():
        return 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2

    optimizer.step(loss)
    assert optimizer.result.success
    np.testing.assert_allclose(w.detach().numpy(), 1, atol=1e-6)
    # it goes on with the radius
    assert optimizer.state[w]["radius"] == optimizer._method.radius


def test_stochastic_lbfgs_on_mini_batches():
    random = np.random.default_rng(0)
    features = random.standard_normal((256, 5))
    x, y = nbdl.tensor(features), nbdl.tensor(features @ np.arange(1.0, 6.0))
    w = nbdl.zeros(5, dtype=nbdl.float64, requires_grad=True)
    optimizer = StochasticLBFGS([w], lr=0.3, damping=0.01)
    for _ in range(60):
        rows = nbdl.tensor(random.permutation(256)[:32])
        optimizer.step(with_gradients(optimizer, lambda rows=rows: ((x[rows] @ w - y[rows]) ** 2).mean()))
    np.testing.assert_allclose(w.detach().numpy(), np.arange(1.0, 6.0), atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: BFGS(p, max_iter=1),
        lambda p: NonlinearCG(p, max_iter=1),
        lambda p: TrustRegion(p, max_iter=1),
        lambda p: ARC(p, max_iter=1),
        lambda p: StochasticLBFGS(p),
    ],
    ids=["bfgs", "cg", "trust", "arc", "olbfgs"],
)
def test_resumed_run_is_the_same(make):
    def start(values):
        w = nbdl.tensor(values, dtype=nbdl.float64, requires_grad=True)
        optimizer = make([w])

        def loss():
            return 10 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2

        uses_gradients = isinstance(optimizer, (BFGS, NonlinearCG, StochasticLBFGS))
        return w, optimizer, with_gradients(optimizer, loss) if uses_gradients else loss

    w, optimizer, closure = start([-1.2, 1.0])
    for _ in range(3):
        optimizer.step(closure)
    saved = copy.deepcopy(optimizer.state_dict())
    twin, resumed, twin_closure = start(w.tolist())
    resumed.load_state_dict(saved)
    for _ in range(3):
        optimizer.step(closure)
        resumed.step(twin_closure)
    assert w.tolist() == twin.tolist()


def test_the_parameters_keep_their_memory():
    params, loss, _, _ = model_and_loss()
    addresses = [p.data_ptr() for p in params]
    Newton(params).step(loss)
    assert [p.data_ptr() for p in params] == addresses


BAD = {
    "no parameters": (ValueError, "empty parameter list", lambda: Newton([])),
    "formula": (ValueError, "formula must be", lambda: BFGS(one(), formula="sr1")),
    "search": (ValueError, "line_search must be", lambda: BFGS(one(), line_search="exact")),
    "beta": (ValueError, "rule of beta must be one of", lambda: NonlinearCG(one(), beta="x")),
    "subproblem": (ValueError, "subproblem must be one of", lambda: TrustRegion(one(), subproblem="x")),
    "radius": (ValueError, "trust region", lambda: TrustRegion(one(), initial_trust_radius=-1.0)),
    "tolerance": (ValueError, "tolerance_grad", lambda: Newton(one(), tolerance_grad=-1.0)),
    "history": (ValueError, "history_size", lambda: StochasticLBFGS(one(), history_size=0)),
    "loss": (ValueError, "loss must be one of", lambda: GaussNewton(one(), loss="l3")),
    "no closure": (TypeError, "needs a closure", lambda: Newton(one()).step()),
    "no tensor": (TypeError, "must return a tensor", lambda: Newton(one()).step(lambda: 1.0)),
    "no scalar": (RuntimeError, "scalar", lambda: Newton(one()).step(lambda: nbdl.ones(2))),
    "not differentiable": (RuntimeError, "differentiably", lambda: Newton(one()).step(lambda: nbdl.ones(()))),
    "no residuals": (TypeError, "residuals must be", lambda: GaussNewton(one()).step(lambda: 1.0)),
    "dtypes": (
        RuntimeError,
        "same dtype",
        lambda: Newton([*one(), nbdl.ones(2, dtype=nbdl.float64, requires_grad=True)]),
    ),
}


def one():
    return [nbdl.ones(2, requires_grad=True)]


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    error, message, call = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "closes"),
    [
        *[(name, "loss") for name in ("Newton", "NewtonCG", "SaddleFreeNewton", "TrustRegion", "ARC")],
        *[(name, "residuals") for name in ("LevenbergMarquardt", "GaussNewton")],
        *[(name, "gradient") for name in ("BFGS", "LBFGS", "NonlinearCG")],
    ],
)
def test_frozen_parameters_stay(name, closes):
    frozen = nbdl.full((2,), 5.0)
    w = nbdl.ones(3, requires_grad=True)
    optimizer = getattr(optim, name)([frozen, w], max_iter=20)

    def closure():
        optimizer.zero_grad()
        residuals = (w - 3) * frozen.sum()
        if closes == "residuals":
            return residuals
        loss = (residuals**2).sum() / 100
        if closes == "gradient":
            loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(w.detach().numpy(), 3, rtol=1e-4)
    assert frozen.tolist() == [5.0, 5.0]
    w.requires_grad_(False)
    if closes != "gradient":
        with pytest.raises(RuntimeError, match=f"{name}: no parameter requires a gradient"):
            optimizer.step(closure)
