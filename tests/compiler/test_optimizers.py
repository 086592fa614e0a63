"""What programs notice of optimizers: settings, state, parameters and hooks."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import nbdl
from nbdl import nn


def same_steps(make_optimizer, *changes):
    """Weights after steps, some changes between them, compiled and not."""
    results = []
    for wrap in (nbdl.compile, lambda function: function):
        weights = [nbdl.ones(3, requires_grad=True), nbdl.full((2,), 2.0, requires_grad=True)]
        optimizer = make_optimizer(weights)

        def step(x, weights=weights, optimizer=optimizer):
            optimizer.zero_grad()
            sum((weight * x).square().sum() for weight in weights).backward()
            optimizer.step()

        run = wrap(step)
        for change in (lambda o: None, *changes):
            change(optimizer)
            for _ in range(3):
                run(nbdl.full((1,), 0.5))
        results.append([weight.tolist() for weight in weights])
    for compiled, eager in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def setting(**values):
    return lambda optimizer: optimizer.param_groups[0].update(values)


def test_settings_of_sgd_may_change():
    same_steps(
        lambda weights: nbdl.optim.SGD(weights, lr=0.1),
        setting(lr=0.0),
        setting(lr=0.2, momentum=0.9),
        setting(nesterov=True),
        setting(weight_decay=0.1),
        setting(maximize=True),
        setting(momentum=0.0, nesterov=False),
    )


def test_settings_and_state_of_adam_may_change():
    kept = {}
    same_steps(
        lambda weights: nbdl.optim.Adam(weights, lr=0.1),
        setting(betas=(0.5, 0.9)),
        setting(eps=0.1, weight_decay=0.1),
        lambda optimizer: kept.update(copy.deepcopy(optimizer.state_dict())),
        setting(betas=(0.0, 0.9)),
        lambda optimizer: optimizer.load_state_dict(kept),
        lambda optimizer: optimizer.state.clear(),
        lambda optimizer: next(iter(optimizer.state.values()))["exp_avg"].zero_(),
        lambda optimizer: optimizer.add_param_group({"params": [nbdl.ones(2, requires_grad=True)]}),
    )


def test_hooks_of_optimizers_are_noticed():
    weight, calls = nbdl.ones(2, requires_grad=True), []
    optimizer = nbdl.optim.SGD([weight], lr=1.0)

    @nbdl.compile
    def step():
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()

    for _ in range(3):
        step()
    optimizer.register_step_post_hook(lambda *args: calls.append(1))
    step()
    assert len(calls) == 1


def test_parameters_of_an_optimizer_may_move():
    weight = nbdl.ones(2, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=1.0)

    def step():
        optimizer.param_groups[0]["params"][0].sum().backward()
        optimizer.step()

    compiled = nbdl.compile(step)
    for start in (5.0, 7.0):
        weight.data = nbdl.full((2,), start)
        for _ in range(3):
            optimizer.zero_grad()
            compiled()
        assert weight.tolist() == [start - 3] * 2


OF_LOSSES = ("ARC", "Newton", "NewtonCG", "SaddleFreeNewton", "TrustRegion")
OF_RESIDUALS = ("GaussNewton", "LevenbergMarquardt")
OF_OUTPUTS = ("HessianFree", "KFAC", "NaturalGradient")


@pytest.mark.parametrize("name", [*OF_LOSSES, *OF_RESIDUALS, *OF_OUTPUTS])
def test_compiled_closures_of_second_order_methods(name):
    rng = np.random.default_rng(0)
    x, y = (nbdl.tensor(rng.normal(size=(8, n))) for n in (3, 2))
    results = []
    for transform in (nbdl.compile, lambda closure: closure):
        nbdl.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)).double()
        kind = getattr(nbdl.optim, name)
        if name in OF_OUTPUTS:
            optimizer = kind(model if name == "KFAC" else model.parameters(), nn.MSELoss())
            closure = transform(lambda model=model: (model(x), y))
        else:
            optimizer = kind(model.parameters())
            loss = nn.Flatten(0) if name in OF_RESIDUALS else lambda error: error.square().mean()
            closure = transform(lambda model=model, loss=loss: loss(model(x) - y))
        results.append([float(optimizer.step(closure)) for _ in range(3)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
