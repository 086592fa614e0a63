"""Line searches: their conditions, on the functions of Moré and Thuente and on hostile ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
from nbdl.optim.function import FunctionObjective, Variables
from nbdl.optim.result import Status
from nbdl.optim.search import (
    Armijo,
    FixedStep,
    Goldstein,
    HagerZhang,
    Line,
    MoreThuente,
    StrongWolfe,
    WeakWolfe,
)
from nbdl.optim.search.interpolation import backtracked, cubic_minimizer, quadratic_minimizer
from nbdl.optim.search.line import NotADescentDirectionError


def yanai(b1, b2):
    def gamma(b):
        return math.sqrt(1 + b * b) - b

    return lambda x: (
        gamma(b1) * nbdl.sqrt((1 - x) ** 2 + b2 * b2) + gamma(b2) * nbdl.sqrt(x * x + b1 * b1)
    ).sum()


# The test functions of Moré & Thuente (1994), section 5, without the third, which is noisy.
FUNCTIONS = {
    "rational": lambda x: (-x / (x * x + 2)).sum(),
    "quintic": lambda x: ((x + 0.004) ** 5 - 2 * (x + 0.004) ** 4).sum(),
    "yanai both": yanai(0.001, 0.001),
    "yanai left": yanai(0.01, 0.001),
    "yanai right": yanai(0.001, 0.01),
    "parabola": lambda x: (x * x - 2 * x).sum(),
    "softplus": lambda x: nbdl.log(1 + nbdl.exp(-x)).sum(),
}
STEPS = [1e-3, 1e-1, 1e1, 1e3]
C1, C2 = 1e-3, 0.1


def line(function, x=0.0, direction=1.0):
    variables = Variables("test", np.array([x]))
    objective = FunctionObjective("test", variables, function)
    start = objective.evaluate(variables.start)
    return Line(objective, start, nbdl.tensor([direction], dtype=nbdl.float64))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("search", [MoreThuente(C1, C2), StrongWolfe(C1, C2)], ids=["mt", "zoom"])
def test_strong_wolfe_conditions(search, name, step):
    phi = line(FUNCTIONS[name])
    found = search(phi, step)
    assert phi.evaluations <= 30
    if isinstance(search, StrongWolfe) and name == "rational" and step == 1e3:
        assert phi.evaluations == 26  # zooming into the flat tail, it runs out of trials, as PyTorch's does
        return
    sample = found.sample
    assert found.status is None
    assert sample.value <= phi.start.value + C1 * sample.step * phi.slope
    assert abs(sample.slope) <= C2 * abs(phi.slope)


# Table I and II of the paper: evaluations from these steps, with its tolerances.
@pytest.mark.parametrize(("step", "evaluations"), [(1e-3, 6), (1e-1, 3), (1e1, 1)])
def test_more_thuente_takes_the_published_number_of_evaluations(step, evaluations):
    phi = line(FUNCTIONS["rational"])
    MoreThuente(1e-3, 0.1)(phi, step)
    assert phi.evaluations == evaluations


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hager_zhang_conditions(name, step):
    phi = line(FUNCTIONS[name])
    sample = HagerZhang()(phi, step).sample
    assert sample.slope >= 0.9 * phi.slope
    assert sample.value <= phi.start.value


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_armijo_and_goldstein_conditions(name, step):
    phi = line(FUNCTIONS[name])
    sample = Armijo(0.2)(phi, step).sample
    assert sample.value <= phi.start.value + 0.2 * sample.step * phi.slope
    phi = line(FUNCTIONS[name])
    found = Goldstein(0.1)(phi, step)
    if found.status is None:
        change = found.sample.value - phi.start.value
        assert 0.9 * found.sample.step * phi.slope <= change <= 0.1 * found.sample.step * phi.slope


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_weak_wolfe_conditions(name, step):
    phi = line(FUNCTIONS[name])
    sample = WeakWolfe(C1, C2)(phi, step).sample
    assert sample.slope >= C2 * phi.slope
    assert sample.value <= phi.start.value + C1 * sample.step * phi.slope


def test_weak_wolfe_passes_a_kink():
    phi = line(lambda x: (x - 1).abs().sum() + 0.01 * x.sum())
    sample = WeakWolfe()(phi, 10.0).sample
    assert sample.value < phi.start.value
    assert sample.slope >= 0.9 * phi.slope


ALL = [MoreThuente(), StrongWolfe(), WeakWolfe(), HagerZhang(), Armijo(), Goldstein(), FixedStep()]
IDS = [type(search).__name__ for search in ALL]


@pytest.mark.parametrize("search", ALL, ids=IDS)
def test_a_step_beyond_the_domain_is_shortened(search):
    phi = line(lambda x: (x - nbdl.log(x)).sum(), x=3.0, direction=-1.0)  # defined for x > 0
    sample = search(phi, 50.0).sample
    assert sample.is_finite
    assert 0 < sample.step < 3
    assert sample.value < phi.start.value


@pytest.mark.parametrize("search", [MoreThuente(), HagerZhang(), Goldstein(), WeakWolfe()])
@pytest.mark.parametrize("function", [lambda x: -x.sum(), lambda x: -nbdl.exp(x).sum()], ids=["line", "exp"])
def test_unbounded(search, function):
    assert search(line(function), 1.0).status is Status.UNBOUNDED


@pytest.mark.parametrize("search", ALL, ids=IDS)
def test_an_ascent_direction_is_refused(search):
    with pytest.raises(NotADescentDirectionError):
        search(line(FUNCTIONS["parabola"], direction=-1.0), 1.0)


@pytest.mark.parametrize("search", [MoreThuente(), StrongWolfe(), HagerZhang(), Armijo()], ids=IDS[:4])
def test_a_wrong_gradient_ends_the_search(search):
    variables = Variables("test", np.array([0.0]))
    objective = FunctionObjective("test", variables, lambda x: (x * x).sum(), jac=lambda x: -1 - 0 * x)
    phi = Line(objective, objective.evaluate(variables.start), nbdl.ones(1, dtype=nbdl.float64))
    found = search(phi, 1.0)
    assert found.sample is None
    assert found.status is Status.SEARCH_FAILED


def test_interpolation():
    # (t - 1)^2 + 1 and t^3 - 3 t
    assert quadratic_minimizer(4.0, 2.0, -2.0, 10.0) == pytest.approx(1.0)
    assert cubic_minimizer(0.5, -1.375, -2.25, 2, 2, 9, 0, 3) == pytest.approx(1.0)
    assert cubic_minimizer(2, 2, 9, 0.5, -1.375, -2.25, 0, 3) == pytest.approx(1.0)
    assert cubic_minimizer(0.0, 0.0, -1.0, 1.0, -1.0, -1.0, 1.0, 10.0) == 5.5  # a line
    assert backtracked(2.0, -2.0, 4.0, 10.0, None) == pytest.approx(1.0)
    assert 0.1 <= backtracked(0.0, -1.0, 1.0, 5.0, (3.0, 700.0)) <= 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: MoreThuente(0.5, 0.1),
        lambda: StrongWolfe(0.0, 0.5),
        lambda: HagerZhang(delta=0.6),
        lambda: Armijo(1.0),
        lambda: Goldstein(0.5),
        lambda: FixedStep(0.0),
    ],
)
def test_bad_settings(make):
    with pytest.raises(ValueError, match=r"(expected|must)"):
        make()
