"""Every method and optimizer: what it says where there is no minimum, and of input that it cannot take."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim import minimize
from nbdl.optim.methods import METHODS
from nbdl.optim.result import Status

PROBLEMS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "second_order_problems.py"


def load_endings():
    spec = importlib.util.spec_from_file_location("second_order_endings", PROBLEMS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return {ending.name: ending for ending in module.endings()}


ENDINGS = load_endings()
# Optimizers by what their closure returns.
GRADIENT = {
    "LBFGS": lambda p, **kw: optim.LBFGS(p, line_search_fn="strong_wolfe", **kw),
    "LBFGSB": optim.LBFGSB,
    "BFGS": optim.BFGS,
    "NonlinearCG": optim.NonlinearCG,
}
LOSS = {
    "Newton": optim.Newton,
    "NewtonCG": optim.NewtonCG,
    "SaddleFreeNewton": optim.SaddleFreeNewton,
    "ARC": optim.ARC,
    **{
        f"TrustRegion {name}": lambda p, name=name, **kw: optim.TrustRegion(p, subproblem=name, **kw)
        for name in ("steihaug", "gltr", "dogleg", "exact", "cauchy")
    },
}
RESIDUALS = {"LevenbergMarquardt": optim.LevenbergMarquardt, "GaussNewton": optim.GaussNewton}
STOCHASTIC = {"StochasticLBFGS": optim.StochasticLBFGS}
OUTPUTS = {
    "HessianFree": lambda p, **kw: optim.HessianFree(p, nn.MSELoss(), **kw),
    "NaturalGradient": lambda p, **kw: optim.NaturalGradient(p, nn.MSELoss(), **kw),
}
ALL = {**GRADIENT, **LOSS, **RESIDUALS, **STOCHASTIC, **OUTPUTS}


def leaf(values, dtype=nbdl.float64):
    return nbdl.tensor(values, dtype=dtype, requires_grad=True)


def closure_of(name, optimizer, function):
    """What an optimizer wants to be called with, of a function without arguments that gives the loss."""
    if name in LOSS:
        return function

    def closure():
        optimizer.zero_grad()
        loss = function()
        loss.backward()
        return loss

    return closure


# ------------------------------------------------------------------------------------------ honest endings
@pytest.mark.parametrize("name", ENDINGS)
def test_methods(name):
    one = ENDINGS[name]
    for method, make in METHODS.items():
        knows = make().needs_hessian
        found = minimize(one.function, one.start, method=method, tol=1e-6, options={"maxiter": 300})
        assert found.status.name in (one.curved if knows else one.honest), (method, found.message)
        assert found.success == (found.status is Status.CONVERGED)
        assert not knows or one.note in found.message, (method, found.message)


@pytest.mark.parametrize("ending", ENDINGS)
def test_optimizers(ending):
    one = ENDINGS[ending]
    for name, make in {**GRADIENT, **LOSS}.items():
        x = leaf(one.start)
        optimizer = make([x], max_iter=300)
        optimizer.step(closure_of(name, optimizer, lambda x=x: one.function(x)))
        expected = one.curved if name in LOSS else (*one.honest, "SEARCH_FAILED" if name == "LBFGS" else "")
        if (
            name == "LBFGS"
        ):  # PyTorch's has no bottom: it ends where a step changes too little, or anything fails
            expected = (*expected, "SMALL_CHANGE", "SMALL_STEP", "MAX_EVALUATIONS", "NON_FINITE")
        assert optimizer.result.status.name in expected, (name, optimizer.result.message)
        assert name not in LOSS or one.note in optimizer.result.message
        if optimizer.result.status is Status.NON_FINITE and one.honest == ("NON_FINITE",):
            assert x.tolist() == one.start, name


@pytest.mark.parametrize("name", [*RESIDUALS, *STOCHASTIC, *OUTPUTS])
def test_nan_leaves_the_parameters(name):
    x = leaf([2.0, 1.0])
    optimizer = ALL[name]([x])
    if name in STOCHASTIC:
        optimizer.step(closure_of(name, optimizer, lambda: (x * math.nan).sum()))
    elif name in RESIDUALS:
        optimizer.step(lambda: x * math.nan)
    elif name == "HessianFree":
        optimizer.step(lambda: ((x * math.nan).unsqueeze(0), nbdl.zeros(1, 2, dtype=nbdl.float64)))
    else:
        return
    assert x.tolist() == [2.0, 1.0]
    assert optimizer.result.status is Status.NON_FINITE
    assert not optimizer.result.success
    assert "not finite" in optimizer.result.message


def test_a_search_that_fails_keeps_the_best_point():
    # Each gradient points uphill: nothing can be gained.
    for name, make in GRADIENT.items():
        x = leaf([1.0, -2.0])
        optimizer = make([x], max_iter=5)

        def closure(x=x, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (x * x).sum()
            loss.backward()
            x.grad = -x.grad
            return loss

        optimizer.step(closure)
        assert (x * x).sum().item() <= 5.0, name
        assert not optimizer.result.success, name


def test_residual_optimizers_tell_why_they_stop():
    t = nbdl.linspace(0, 1, 10, dtype=nbdl.float64)
    for make in RESIDUALS.values():
        for settings, status in (
            ({"max_iter": 1, "tolerance_grad": 1e-12}, Status.MAX_ITERATIONS),
            ({"max_iter": 50}, Status.CONVERGED),
            ({"max_iter": 50, "tolerance_grad": 0.0, "tolerance_change": 1e-2}, Status.SMALL_STEP),
        ):
            x = leaf([1.0, 0.5])
            optimizer = make([x], **settings)
            optimizer.step(lambda x=x: x[1] * nbdl.exp(-x[0] * t) - nbdl.exp(-2 * t))
            assert optimizer.result.status is status
            assert optimizer.result.message


# ------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize("name", ALL)
def test_no_parameters(name):
    with pytest.raises(ValueError, match="empty parameter list"):
        ALL[name]([])


@pytest.mark.parametrize("name", ALL)
def test_no_closure(name):
    with pytest.raises(TypeError, match="needs a closure"):
        ALL[name]([leaf([1.0])]).step()


@pytest.mark.parametrize("name", ALL)
def test_closures_without_a_scalar(name):
    x = leaf([1.0, 2.0])
    optimizer = ALL[name]([x])
    if name in RESIDUALS:
        with pytest.raises(TypeError, match="residuals must be a tensor, got str"):
            optimizer.step(lambda: "loss")
        return
    if name in OUTPUTS:
        optimizer.loss = lambda outputs, targets: outputs - targets
        with pytest.raises(RuntimeError, match="scalar"):
            optimizer.step(lambda: (x, nbdl.zeros(2, dtype=nbdl.float64)))
        return
    with pytest.raises(RuntimeError, match=r"scalar.* got shape \(2,\)"):
        optimizer.step(closure_of(name, optimizer, lambda: x * x) if name in LOSS else lambda: x * x)
    with pytest.raises(TypeError, match=r"return .*(loss|tensor).* got str"):
        optimizer.step(lambda: "loss")


@pytest.mark.parametrize("name", ALL)
def test_closures_that_cannot_be_differentiated(name):
    optimizer = ALL[name]([leaf([1.0, 2.0])])
    constant = nbdl.ones(2, dtype=nbdl.float64)
    value = (constant, constant) if name in OUTPUTS else constant if name in RESIDUALS else constant.sum()
    with pytest.raises(RuntimeError, match=r"differentiably|left no gradient"):
        optimizer.step(lambda: value)


@pytest.mark.parametrize("name", [*GRADIENT, *LOSS, *RESIDUALS])
def test_negative_tolerances(name):
    for setting in ("tolerance_grad", "tolerance_change", "max_iter"):
        with pytest.raises(ValueError, match=rf"{setting}(:| must be an integer of at least 0, got) -1"):
            ALL[name]([leaf([1.0])], **{setting: -1})


@pytest.mark.parametrize("name", ["LBFGS", "LBFGSB", "StochasticLBFGS"])
def test_an_empty_history(name):
    with pytest.raises(ValueError, match="history_size must be an integer of at least 1, got 0"):
        ALL[name]([leaf([1.0])], history_size=0)


@pytest.mark.parametrize("name", ALL)
def test_parameters_of_two_dtypes(name):
    params = [leaf([1.0]), leaf([1.0], nbdl.float32)]

    def made_and_stepped():
        optimizer = ALL[name](params)
        optimizer.step((lambda: params) if name in OUTPUTS else lambda: params[0].sum())

    with pytest.raises(RuntimeError, match=r"same dtype, but found float32 and float64"):
        made_and_stepped()


@pytest.mark.parametrize("name", [*GRADIENT, *LOSS])
def test_options_that_a_method_has_not(name):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        ALL[name]([leaf([1.0])], nesterov=True)


@pytest.mark.parametrize("method", [*METHODS, "l-bfgs-b"])
def test_minimize(method):
    def square(x):
        return (x * x).sum()

    for error, message, call in (
        (RuntimeError, "no elements", lambda: minimize(square, [], method=method)),
        (TypeError, "real numbers", lambda: minimize(square, "start", method=method)),
        (TypeError, "floating", lambda: minimize(square, nbdl.tensor([1, 2]), method=method)),
        (RuntimeError, "scalar", lambda: minimize(lambda x: x * x, [1.0, 2.0], method=method)),
        (TypeError, "return a tensor", lambda: minimize(lambda x: 1.0, [1.0], method=method)),
        (RuntimeError, "differentiably", lambda: minimize(lambda x: nbdl.ones(()), [1.0], method=method)),
        (
            ValueError,
            "gtol must be a number of at least 0, got -1",
            lambda: minimize(square, [1.0], method=method, tol=-1.0),
        ),
        (ValueError, "ftol", lambda: minimize(square, [1.0], method=method, options={"ftol": -1.0})),
        (ValueError, "maxiter", lambda: minimize(square, [1.0], method=method, options={"maxiter": -1})),
        (ValueError, "option", lambda: minimize(square, [1.0], method=method, bounds=None, options={"x": 1})),
        (
            ValueError,
            "one pair for each",
            lambda: minimize(square, [1.0], method=method, bounds=[(0, 1)] * 2),
        ),
        (ValueError, "at most the upper", lambda: minimize(square, [1.0], method=method, bounds=[(1, 0)])),
    ):
        with pytest.raises(error, match=message):
            call()
    if method != "l-bfgs-b":
        with pytest.raises(ValueError, match="takes no bounds"):
            minimize(square, [1.0], method=method, bounds=[(0, 1)])


@pytest.mark.parametrize("method", ["l-bfgs", "l-bfgs-b"])
def test_minimize_with_an_empty_history(method):
    bounds = [(0.0, 1.0)] if method == "l-bfgs-b" else None
    with pytest.raises(ValueError, match="maxcor must be an integer of at least 1, got 0"):
        minimize(lambda x: (x * x).sum(), np.ones(1), method=method, bounds=bounds, options={"maxcor": 0})
