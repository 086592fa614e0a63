"""All second-order optimizers and what can go wrong: an honest status, all counts, the best point kept."""

from __future__ import annotations

import math

import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim.result import Status

SETTINGS = {"max_iter": 40}


def fresh(values):
    return nbdl.tensor(values, dtype=nbdl.float64, requires_grad=True)


def of_gradients(make):
    """A step with a closure that calls backward."""

    def run(x, function, uphill=False):
        optimizer = make([x])

        def closure():
            optimizer.zero_grad()
            loss = function(x).sum()
            loss.backward()
            if uphill:
                x.grad = -x.grad
            return loss

        optimizer.step(closure)
        return optimizer

    return run


def of_loss(make):
    """A step with a closure that returns the loss."""

    def run(x, function):
        optimizer = make([x])
        optimizer.step(lambda: function(x).sum())
        return optimizer

    return run


def of_outputs(make):
    """A step with a closure that returns outputs and targets; the loss is the sum of the outputs."""

    def run(x, function):
        optimizer = make([x], lambda outputs, targets: outputs.sum())
        optimizer.step(lambda: (function(x), None))
        return optimizer

    return run


def kfac(x, function):
    """K-FAC has no function of a vector but a layer: its weight is x, and the loss follows its output."""
    layer = nn.Linear(1, x.numel(), bias=False, dtype=nbdl.float64)
    layer.weight = nn.Parameter(x.detach().unsqueeze(1))
    loss = lambda outputs, targets: function(outputs[0]).sum()  # noqa: E731
    optimizer = optim.KFAC(layer, loss, fisher="empirical")
    one = nbdl.ones(1, 1, dtype=nbdl.float64)
    optimizer.step(lambda: (layer(one), one))
    with nbdl.no_grad():
        x.copy_(layer.weight.squeeze(1))
    return optimizer


GRADIENT = {
    "LBFGS": lambda p: optim.LBFGS(p, line_search_fn="strong_wolfe", **SETTINGS),
    "LBFGS without a search": lambda p: optim.LBFGS(p, lr=0.1, **SETTINGS),
    "LBFGSB": lambda p: optim.LBFGSB(p, **SETTINGS),
    "LBFGSB in bounds": lambda p: optim.LBFGSB(p, bounds=(None, 9.0), **SETTINGS),
    "BFGS": lambda p: optim.BFGS(p, **SETTINGS),
    "NonlinearCG": lambda p: optim.NonlinearCG(p, **SETTINGS),
    "StochasticLBFGS": optim.StochasticLBFGS,
}
LOSS = {
    name: lambda p, make=make: make(p, **SETTINGS)
    for name, make in {
        "Newton": optim.Newton,
        "NewtonCG": optim.NewtonCG,
        "SaddleFreeNewton": optim.SaddleFreeNewton,
        "SaddleFreeNewton, subspace": lambda p, **kw: optim.SaddleFreeNewton(p, subspace=2, **kw),
        "ARC": optim.ARC,
        **{
            f"TrustRegion {name}": lambda p, name=name, **kw: optim.TrustRegion(p, subproblem=name, **kw)
            for name in ("steihaug", "gltr", "dogleg", "exact", "cauchy")
        },
    }.items()
}
RESIDUALS = {
    "LevenbergMarquardt": lambda p: optim.LevenbergMarquardt(p, **SETTINGS),
    "GaussNewton": lambda p: optim.GaussNewton(p, **SETTINGS),
}
OUTPUTS = {
    "HessianFree": optim.HessianFree,
    "NaturalGradient": lambda p, loss: optim.NaturalGradient(p, loss, fisher="ggn", damping=0.0),
}
ALL = {
    **{name: of_gradients(make) for name, make in GRADIENT.items()},
    **{name: of_loss(make) for name, make in LOSS.items()},
    **{name: of_outputs(make) for name, make in OUTPUTS.items()},
    "KFAC": kfac,
}
STEPPING = {"StochasticLBFGS", "KFAC", "NaturalGradient"}  # a step is taken without looking where it ends
ENDED = {
    "CONVERGED", "MAX_ITERATIONS", "MAX_EVALUATIONS", "SEARCH_FAILED", "SMALL_CHANGE", "SMALL_STEP",
    "STEPPED",
}  # fmt: skip
# Function of x elementwise (its sum is the loss), where, and the states that are honest.
HAZARDS = {
    "not finite": (lambda x: x * math.nan, [2.0, 1.0], {"NON_FINITE"}),
    "a gradient that is not finite": (
        lambda x: nbdl.where(x > 0, x, x * math.nan), [2.0, 1.0], {"NON_FINITE"}
    ),
    "infinite": (lambda x: x * math.inf, [2.0, 1.0], {"NON_FINITE"}),
    "constant": (lambda x: 0 * x + 3, [2.0, 1.0], {"CONVERGED"}),
    "a stationary point": (lambda x: x**3, [0.0, 0.0], {"CONVERGED"}),
    "no curvature": (lambda x: 2 * x, [2.0, 1.0], {*ENDED, "UNBOUNDED"} - {"CONVERGED"}),
    "a singular Hessian": (lambda x: (x.sum() - 1) ** 2 + 0 * x, [2.0, 1.0], ENDED),
    "a flat minimum": (lambda x: (x - 1) ** 4, [2.0, 1.5], ENDED),
    "a domain that ends": (lambda x: x - 2 * (x - 1).sqrt(), [1.5, 3.0], ENDED),
}  # fmt: skip


def check(result, statuses):
    assert result.status.name in statuses, result
    assert result.message
    assert result.success == result.status.success
    for name in ("nit", "nfev", "njev", "nhev"):
        assert isinstance(result[name], int), name
        assert result[name] >= 0, name
    assert result.nfev >= 1


@pytest.mark.parametrize("hazard", HAZARDS)
@pytest.mark.parametrize("name", ALL)
def test_hazards(name, hazard):
    function, start, statuses = HAZARDS[hazard]
    x = fresh(start)
    optimizer = ALL[name](x, function)
    check(optimizer.result, statuses)
    assert bool(x.isfinite().all())
    if optimizer.result.status is Status.NON_FINITE:
        assert x.tolist() == start
    elif name not in STEPPING and name != "LBFGS without a search":
        before, after = (function(fresh(p)).sum().item() for p in (start, x.tolist()))
        assert after <= before


@pytest.mark.parametrize("name", GRADIENT)
def test_gradients_that_point_uphill(name):
    x = fresh([2.0, 1.0])
    optimizer = of_gradients(GRADIENT[name])(x, lambda x: x * x, uphill=True)
    check(optimizer.result, ENDED - {"CONVERGED"})
    assert name in STEPPING or "without" in name or (x * x).sum().item() <= 5.0


@pytest.mark.parametrize(
    ("residuals", "start", "statuses"),
    [
        (lambda x: x * math.nan, [2.0, 1.0], {"NON_FINITE"}),
        (lambda x: nbdl.where(x > 0, x, x * math.nan), [2.0, 1.0], {"NON_FINITE"}),
        (lambda x: 0 * x + 3, [2.0, 1.0], {"CONVERGED"}),
        (lambda x: x**2 + 1, [0.0, 0.0], {"CONVERGED"}),
        (lambda x: (x.sum() - 1) * nbdl.ones(2, dtype=nbdl.float64), [2.0, 1.0], {"CONVERGED"}),
        (lambda x: (x - 1) ** 2, [2.0, 1.5], ENDED),
        (lambda x: (x - 1).sqrt() - 0.1, [1.5, 3.0], ENDED),
    ],
)
@pytest.mark.parametrize("name", RESIDUALS)
def test_residuals(name, residuals, start, statuses):
    x = fresh(start)
    optimizer = RESIDUALS[name]([x])
    optimizer.step(lambda: residuals(x))
    check(optimizer.result, statuses)
    assert bool(x.isfinite().all())
    if optimizer.result.status is Status.NON_FINITE:
        assert x.tolist() == start
    else:
        before, after = ((residuals(fresh(p)) ** 2).sum().item() for p in (start, x.tolist()))
        assert after <= before


def test_natural_gradient_without_curvature_stays():
    x = fresh([2.0, 1.0])
    optimizer = ALL["NaturalGradient"](x, lambda x: 2 * x)
    assert optimizer.result.status is Status.SEARCH_FAILED
    assert "no positive curvature" in optimizer.result.message
    assert x.tolist() == [2.0, 1.0]
