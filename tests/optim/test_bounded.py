"""L-BFGS-B: its Cauchy point against the loop of the paper, its counts beside SciPy's."""

from __future__ import annotations

import copy

import hypothesis
import numpy as np
import pytest
import scipy.optimize
from hypothesis import strategies as st

import nbdl
from nbdl.optim import LBFGSB, minimize
from nbdl.optim.bounded import BoundedLBFGS, _Model
from nbdl.optim.bounds import Box
from nbdl.optim.curvature.quasi_newton import compact


def plain_cauchy(x, g, low, high, matrix):
    """Algorithm CP of Byrd, Lu, Nocedal, Zhu (1995) with a dense matrix: breakpoint after breakpoint."""
    breaks = np.full(len(x), np.inf)
    for i in range(len(x)):
        if g[i] < 0:
            breaks[i] = (x[i] - high[i]) / g[i]
        elif g[i] > 0:
            breaks[i] = (x[i] - low[i]) / g[i]
    d = np.where(breaks > 0, -g, 0.0)
    z, time = np.zeros_like(x), 0.0
    for following in np.unique(breaks[breaks > 0]):
        slope, bend = g @ d + d @ matrix @ z, d @ matrix @ d
        best = -slope / bend if bend > 0 else np.inf
        if slope >= 0:
            return x + z
        if time + best < following:
            return x + z + best * d
        z = z + (following - time) * d
        time = following
        d = np.where(breaks <= following, 0.0, d)
    return x + z


@hypothesis.given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 10**6))
@hypothesis.settings(max_examples=60)
def test_the_cauchy_point_is_that_of_the_paper(n, m, seed):
    r = np.random.default_rng(seed)
    hessian = r.standard_normal((n, n))
    hessian = hessian @ hessian.T + 0.5 * np.eye(n)
    steps = r.standard_normal((min(m, n), n))
    theta, w, middle, _ = compact(nbdl.tensor(steps), nbdl.tensor(steps @ hessian))
    low, high = -r.uniform(0.1, 2, n), r.uniform(0.1, 2, n)
    low[r.random(n) < 0.2], high[r.random(n) < 0.2] = -np.inf, np.inf
    x, g = np.clip(r.uniform(-2, 2, n), low, high), r.standard_normal(n)
    x[r.random(n) < 0.2] = 0.0
    g[r.random(n) < 0.1] = 0.0
    matrix = theta.item() * np.eye(n) - (w @ middle @ w.T).numpy()
    method = BoundedLBFGS(Box(nbdl.tensor(low), nbdl.tensor(high)))
    model = _Model(nbdl.tensor(x), nbdl.tensor(g), theta, w, middle)
    found = method._cauchy(model)
    np.testing.assert_allclose(found.x.numpy(), plain_cauchy(x, g, low, high, matrix), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.c.numpy(), w.T.numpy() @ (found.x.numpy() - x), rtol=1e-6, atol=1e-6)
    # The minimizer in the subspace is no worse than the Cauchy point, and within the bounds.
    end = method._in_subspace(model, found)[0].numpy()
    assert (low <= end).all()
    assert (end <= high).all()


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quadratic(n, seed):
    r = np.random.default_rng(seed)
    a = r.standard_normal((n, n))
    a, b = nbdl.tensor(a @ a.T / n + 0.01 * np.eye(n)), nbdl.tensor(r.standard_normal(n))
    return lambda x: (x @ (a @ x)) / 2 - (b * x).sum()


PROBLEMS = {
    "rosenbrock 2": (rosenbrock, [-1.2, 1.0], [(None, 0.5), (None, None)]),
    "rosenbrock 10": (rosenbrock, [-1.2, 1.0] * 5, [(-1.5, 0.8)] * 10),
    "rosenbrock 30": (rosenbrock, [-1.2, 1.0] * 15, [(None, 0.5 if k % 3 == 0 else None) for k in range(30)]),
    "quadratic 50": (quadratic(50, 0), np.zeros(50), [(-1, 1)] * 50),
    "quadratic 200": (quadratic(200, 1), np.zeros(200), [(-1, 1)] * 200),
    "nonnegative 200": (quadratic(200, 2), np.ones(200), [(0, None)] * 200),
    "linear": (lambda x: x[0] - 2 * x[1], [0.0, 0.0], [(-1, 2), (-1, 3)]),
    "fixed": (rosenbrock, [0.5, 0.5, 0.5], [(0.5, 0.5), (None, None), (0, 2)]),
    "outside": (rosenbrock, [5.0, 5.0], [(-2, 2), (-2, 0.3)]),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_evaluations_beside_scipy(name, backend):
    function, start, bounds = PROBLEMS[name]
    low, high = np.array([[-np.inf if a is None else a, np.inf if b is None else b] for a, b in bounds]).T
    outside = []

    def watched(x):
        values = x.detach().numpy()
        outside.extend(values[(values < low) | (values > high)])
        return function(x)

    def with_gradient(x):
        gradient, value = nbdl.func.grad_and_value(function)(nbdl.tensor(np.array(x)))
        return value.item(), gradient.numpy()

    theirs = scipy.optimize.minimize(
        with_gradient, np.clip(start, low, high), jac=True, bounds=bounds, method="L-BFGS-B",
        options={"gtol": 1e-8, "ftol": 0.0},
    )  # fmt: skip
    ours = minimize(watched, start, bounds=bounds, tol=1e-7)
    assert ours.success
    assert ours.fun == pytest.approx(theirs.fun, rel=1e-8, abs=1e-10)
    assert ours.nfev <= 1.5 * theirs.nfev + 3
    assert not outside


def test_float32_and_an_unbounded_function():
    found = minimize(rosenbrock, nbdl.tensor([-1.2, 1.0]), bounds=[(None, 0.5), (None, None)], tol=1e-3)
    assert found.x.dtype == np.float32
    np.testing.assert_allclose(found.x.numpy(), [0.5, 0.25], atol=1e-3)
    found = minimize(lambda x: x.sum(), [0.0, 0.0], bounds=[(0, None), (None, 1)])
    assert found.status.name == "UNBOUNDED"


# ------------------------------------------------------------------------------------------ as an optimizer
def with_gradients(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def stepped(function, start, steps=1, **settings):
    """The parameter and the optimizer after some steps, and what the closure saw."""
    x = nbdl.tensor(np.asarray(start, float), requires_grad=True)
    optimizer, seen = LBFGSB([x], **settings), []

    def loss():
        seen.append(x.detach().numpy().copy())
        return function(x)

    for _ in range(steps):
        optimizer.step(with_gradients(optimizer, loss))
    return x.detach().numpy(), optimizer, np.array(seen)


@pytest.mark.parametrize("name", PROBLEMS)
def test_steps_are_those_of_minimize(name, backend):
    function, start, pairs = PROBLEMS[name]
    low, high = np.array([[-np.inf if a is None else a, np.inf if b is None else b] for a, b in pairs]).T
    x, optimizer, seen = stepped(function, start, bounds=(low, high), max_iter=1000)
    expected = minimize(function, start, bounds=pairs, tol=1e-7)
    assert optimizer.result.success
    assert optimizer.result.nfev == expected.nfev
    np.testing.assert_array_equal(x, expected.x)
    assert ((low <= seen) & (seen <= high)).all()


def test_without_bounds_it_is_lbfgs():
    x, optimizer, _ = stepped(rosenbrock, [-1.2, 1.0], max_iter=100)
    expected = minimize(rosenbrock, [-1.2, 1.0], method="l-bfgs", tol=1e-7)
    assert optimizer.result.nfev == expected.nfev
    np.testing.assert_array_equal(x, expected.x)


def test_groups_have_their_own_bounds_and_rates():
    # A rate counts parameters in other units: the same as another variable, but for rounding.
    def loss(a, b):
        return (b - a**2).square().sum() * 5 + (1 - a).square().sum() + (a * b).sum()

    def run(unit, lr):
        a, b = (nbdl.tensor(v, dtype=nbdl.float64, requires_grad=True) for v in ([-1.2, 0.3], [1.0, 2.0]))
        with nbdl.no_grad():
            b.div_(unit)
        optimizer = LBFGSB(
            [
                {"params": [a], "bounds": (None, 0.7)},
                {"params": [b], "bounds": (np.array([0.1, 0.9]) / unit, 3 / unit), "lr": lr},
            ],
            max_iter=4,
        )
        seen = []

        def watched():
            seen.append([*a.tolist(), *(unit * b).tolist()])
            return loss(a, unit * b)

        for _ in range(3):
            optimizer.step(with_gradients(optimizer, watched))
        return np.array(seen)

    ours, expected = run(1.0, 0.04), run(0.2, 1.0)
    assert len(ours) == len(expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)
    assert (ours[:, :2] <= 0.7).all()
    assert (ours[:, 2:] >= [0.1, 0.9]).all()


def test_a_rate_of_0_freezes_a_group():
    a, b = (nbdl.tensor([v], dtype=nbdl.float64, requires_grad=True) for v in (2.0, 5.0))
    optimizer = LBFGSB([{"params": [a], "bounds": (1.0, None)}, {"params": [b], "lr": 0.0}])
    optimizer.step(with_gradients(optimizer, lambda: (a * a + (b - a) ** 2).sum()))
    assert (a.item(), b.item()) == (pytest.approx(2.5), 5.0)


def test_a_resumed_run_is_the_same():
    bounds = ([-1.5, -2.0], [0.8, 2.0])
    x, optimizer, _ = stepped(rosenbrock, [-1.2, 1.0], 3, bounds=bounds, max_iter=2)
    y = nbdl.tensor(x.copy(), requires_grad=True)
    twin = LBFGSB([y], bounds=(None, None), history_size=10)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin.step(with_gradients(twin, lambda: rosenbrock(y)))
    again, _, _ = stepped(rosenbrock, [-1.2, 1.0], 4, bounds=bounds, max_iter=2)
    assert y.tolist() == again.tolist()


def leaf(*values):
    return nbdl.tensor(values, dtype=nbdl.float64, requires_grad=True)


BAD = {
    "crossed": (lambda: LBFGSB([leaf(1.0, 2.0)], bounds=(3, 2)), "lower bound must be at most the upper"),
    "crossed in a group": (
        lambda: LBFGSB([leaf(1.0)]).add_param_group({"params": [leaf(1.0)], "bounds": ([2.0], [1.0])}),
        "variable 0 has bounds",
    ),
    "nan": (lambda: LBFGSB([leaf(1.0)], bounds=(float("nan"), 2)), "must not be NaN"),
    "shape": (lambda: LBFGSB([leaf(1.0, 2.0)], bounds=([0, 0, 0], None)), r"shape \(2,\), got \(3,\)"),
    "pair": (lambda: LBFGSB([leaf(1.0)], bounds=1.0), "None or a pair"),
    "history": (
        lambda: LBFGSB([leaf(1.0)], history_size=0),
        "history_size must be an integer of at least 1, got 0",
    ),
    "rate": (lambda: LBFGSB([leaf(1.0)], lr=-1.0), "learning rate: -1.0"),
    "tolerance": (lambda: LBFGSB([leaf(1.0)], tolerance_grad=-1e-3), "tolerance_grad"),
    "empty": (lambda: LBFGSB([]), "empty parameter list"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(name):
    action, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        action()
