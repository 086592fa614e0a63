"""minimize: published minima, honest endings, bounds, forms of x, bad input."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import nbdl
from nbdl.optim import minimize
from nbdl.optim.methods import METHODS
from nbdl.optim.result import Status

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"


def load_problems():
    spec = importlib.util.spec_from_file_location(
        "second_order_problems", FOLDER / "second_order_problems.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return {problem.name: problem for problem in module.problems()}


PROBLEMS = load_problems()
QUICK = [
    "Rosenbrock 2", "Beale", "helical valley", "Box", "Wood", "Watson 6", "Broyden tridiagonal 10",
    "Himmelblau", "logistic regression 20",
]  # fmt: skip
# These need thousands of iterations where it is badly scaled.
SLOW = ("gradient-descent", "trust-cauchy")
METHOD_NAMES = [name for name in METHODS if name not in SLOW]


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("name", QUICK)
def test_published_minima(name, method):
    problem = PROBLEMS[name]
    found = minimize(problem.function, problem.start, method=method, tol=1e-7)
    assert found.success, found.message
    assert abs(found.jac).max() <= 1e-7
    assert any(abs(found.fun - least) <= 1e-4 * abs(least) + 1e-9 for least in problem.minima)
    assert found.njev <= found.nfev


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_descend_on_every_backend(method, backend):
    found = minimize(rosenbrock, [-1.2, 1.0], method=method, options={"maxiter": 30})
    assert found.fun < 4.2
    assert found.fun == pytest.approx(rosenbrock(nbdl.tensor(found.x)).item(), rel=1e-12)


def test_saddle_free_newton_in_a_krylov_subspace():
    found = minimize(rosenbrock, [-1.2, 1.0], method="saddle-free-newton", options={"subspace": 2}, tol=1e-8)
    assert found.success
    assert found.nit < 40


@pytest.mark.parametrize("beta", ["fr", "pr+", "hs", "dy", "hz"])
@pytest.mark.parametrize("line_search", ["more-thuente", "strong-wolfe", "hager-zhang"])
def test_conjugate_gradient_rules(beta, line_search):
    options = {"beta": beta, "line_search": line_search, "maxiter": 5000}
    if line_search == "strong-wolfe":
        options["c2"] = 0.1
    found = minimize(rosenbrock, [-1.2, 1.0], method="cg", tol=1e-6, options=options)
    assert found.success
    assert found.fun < 1e-10


def test_conjugate_gradient_ends_a_quadratic_in_n_steps():
    scale = nbdl.tensor(np.arange(1.0, 7.0))
    for beta in ("fr", "pr+", "hs", "dy", "hz"):
        options = {"beta": beta, "line_search": "more-thuente", "c2": 1e-3, "c1": 1e-4}
        found = minimize(lambda x: (scale * x * x).sum(), np.ones(6), method="cg", tol=1e-8, options=options)
        assert found.nit <= 8


def test_newton_ends_a_quadratic_in_one_step():
    for method in ("newton", "arc", "trust-exact", "saddle-free-newton"):
        options = {"initial_trust_radius": 10.0} if method == "trust-exact" else {}
        options |= {"initial_weight": 1e-12} if method == "arc" else {}
        found = minimize(lambda x: (x[0] - 1) ** 2 + 5 * (x[1] + x[0]) ** 2, [3.0, 4.0], method=method,
                         options=options, tol=1e-6)  # fmt: skip
        assert found.nit == 1


# -------------------------------------------------------------------------------------------- honest endings
CURVED = [
    "newton",
    "saddle-free-newton",
    "newton-cg",
    "dogleg",
    "trust-ncg",
    "trust-krylov",
    "trust-exact",
    "arc",
]


@pytest.mark.parametrize("method", CURVED)
def test_a_saddle_is_left(method):
    found = minimize(lambda x: x[0] ** 2 + (x[1] ** 2 - 1) ** 2, [0.0, 0.0], method=method, tol=1e-8)
    assert found.success
    np.testing.assert_allclose(abs(found.x), [0, 1], atol=1e-6)


@pytest.mark.parametrize("method", CURVED)
@pytest.mark.parametrize("start", [[0.0, 0.0], [1.0, 0.0]])
def test_an_unbounded_saddle(method, start):
    found = minimize(lambda x: x[0] ** 2 - x[1] ** 2, start, method=method)
    assert found.status is Status.UNBOUNDED
    assert not found.success


@pytest.mark.parametrize("method", ["newton", "saddle-free-newton", "dogleg", "trust-exact", "arc"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2,  # the monkey saddle
        lambda x: (x[0] * x[1] * x[2] - 1) ** 2,  # a deep linear network of one neuron
        lambda x: 0 * x.sum(),
    ],
    ids=["monkey", "deep linear", "flat"],
)
def test_a_singular_hessian_is_told(function, method):
    found = minimize(function, [0.0, 0.0, 0.0], method=method)
    assert found.status is Status.CONVERGED
    assert "singular" in found.message


@pytest.mark.parametrize(
    "method", ["gradient-descent", "cg", "bfgs", "dfp", "l-bfgs", "newton", "trust-ncg", "arc"]
)
def test_what_is_not_finite(method):
    found = minimize(lambda x: nbdl.log(x).sum(), [-1.0, 2.0], method=method)
    assert found.status is Status.NON_FINITE
    assert found.nfev == 1
    found = minimize(lambda x: (x - nbdl.log(x)).sum(), [50.0, 1e-3], method=method, tol=1e-7)
    assert found.success  # though trials leave the domain
    np.testing.assert_allclose(found.x, 1, atol=1e-4)


@pytest.mark.parametrize("method", ["cg", "bfgs", "dfp", "l-bfgs"])
def test_unbounded_line(method):
    assert minimize(lambda x: x.sum(), [1.0, 2.0], method=method).status is Status.UNBOUNDED


def test_a_wrong_gradient_keeps_the_best_point():
    found = minimize(lambda x: (x * x).sum(), [1.0, -2.0], method="bfgs", jac=lambda x: -x)
    assert found.status is Status.SEARCH_FAILED
    assert found.fun <= 5.0


def test_limits():
    found = minimize(rosenbrock, [-1.2, 1.0], method="bfgs", options={"maxiter": 3})
    assert (found.status, found.nit) == (Status.MAX_ITERATIONS, 3)
    found = minimize(rosenbrock, [-1.2, 1.0], method="bfgs", options={"maxfun": 10})
    assert found.status is Status.MAX_EVALUATIONS
    found = minimize(rosenbrock, [-1.2, 1.0], method="bfgs", options={"ftol": 1e-2, "gtol": 0})
    assert found.status is Status.SMALL_CHANGE
    found = minimize(rosenbrock, [-1.2, 1.0], method="bfgs", options={"xtol": 1e-3, "gtol": 0})
    assert found.status is Status.SMALL_STEP


# ------------------------------------------------------------------------------------------------- interface
def test_forms_of_x():
    target = {"a": nbdl.tensor([1.0, 2.0], dtype=nbdl.float64), "b": nbdl.tensor([[3.0]], dtype=nbdl.float64)}

    def distance(x):
        return ((x["a"] - target["a"]) ** 2).sum() + (x["b"] - target["b"]).square().sum()

    start = {name: value.zeros_like() for name, value in target.items()}
    for method in ("bfgs", "trust-exact", "newton-cg"):
        found = minimize(distance, start, method=method, tol=1e-9)
        assert list(found.x) == ["a", "b"]
        assert found.x["b"].shape == (1, 1)
        np.testing.assert_allclose(found.x["a"].numpy(), [1, 2], atol=1e-8)
        assert start["a"].tolist() == [0.0, 0.0]
    single = minimize(lambda x: (x - 3) ** 2, 1)
    assert isinstance(single.x, np.ndarray)
    assert single.x.shape == (1,)
    matrix = minimize(lambda x: ((x - 3) ** 2).sum(), np.zeros((2, 3)))
    assert matrix.x.shape == (2, 3)
    low = minimize(lambda x: ((x - 3) ** 2).sum(), nbdl.zeros(2), tol=1e-3)
    assert low.x.dtype == nbdl.float32


def test_given_derivatives_are_used():
    calls = {"hess": 0, "hessp": 0}

    def gradient(x):
        return 4 * np.asarray(x) ** 3

    def hess(x):
        calls["hess"] += 1
        return np.diag(12 * np.asarray(x) ** 2)

    def hessp(x, v):
        calls["hessp"] += 1
        return 12 * np.asarray(x) ** 2 * np.asarray(v)

    def value(x):
        return float((np.asarray(x) ** 4).sum())

    for options in ({"hess": hess}, {"hessp": hessp}):
        found = minimize(value, [1.0, 2.0], method="trust-ncg", jac=gradient, tol=1e-6, **options)
        assert found.success
        assert found.nhev > 0
    assert min(calls.values()) > 0
    both = minimize(lambda x: (value(x), gradient(x)), [1.0, 2.0], method="l-bfgs", jac=True)
    assert both.success
    with pytest.raises(ValueError, match="give hess or hessp"):
        minimize(value, [1.0, 2.0], method="newton", jac=lambda x: 4 * x.detach() ** 3)
    # second derivatives of a gradient that is made of tensors
    assert minimize(value, [1.0, 2.0], method="newton", jac=lambda x: 4 * x**3).success


def test_args_and_callback():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.fun)
        if len(seen) == 3:
            raise StopIteration

    found = minimize(lambda x, a, b: ((x - a) ** 4).sum() + b, [5.0, 7.0], (1.0, 2.0), callback=callback)
    assert found.status is Status.STOPPED
    assert seen == sorted(seen, reverse=True)
    points = []
    minimize(lambda x: ((x - 1) ** 2).sum(), [5.0, 7.0], callback=points.append)
    assert points[-1].shape == (2,)


def test_reruns_are_equal():
    first, second = (minimize(rosenbrock, [-1.2, 1.0] * 5, method="l-bfgs") for _ in range(2))
    assert first.x.tolist() == second.x.tolist()


def test_default_method_follows_the_size():
    small = minimize(lambda x: ((x - 1) ** 2).sum(), np.zeros(3))
    large = minimize(lambda x: ((x - 1) ** 2).sum(), np.zeros(2000))
    assert small.success
    assert large.success


# ---------------------------------------------------------------------------------------------------- bounds
BOUNDS = [
    [(-2, 0.5)] * 10,
    [(0, None)] * 10,
    [(1.2, 3)] * 10,
    [(-5, -1)] * 10,
    [(None, 0.9), (None, None)] * 5,
    [(1, 1)] + [(None, None)] * 9,
]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_bounds_against_scipy(bounds):
    optimize = pytest.importorskip("scipy.optimize")
    start = np.tile([-1.2, 1.0], 5)
    trials = []

    def watched(x):
        trials.append(x.detach().numpy().copy())
        return rosenbrock(x)

    found = minimize(watched, start, bounds=bounds, tol=1e-8)
    expected = optimize.minimize(
        optimize.rosen, start, jac=optimize.rosen_der, bounds=bounds, method="L-BFGS-B",
        options={"gtol": 1e-8, "ftol": 0},
    )  # fmt: skip
    assert found.success
    assert found.fun == pytest.approx(expected.fun, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-5)
    assert found.nfev <= 3 * expected.nfev
    lower, upper = np.array(
        [[-np.inf if low is None else low, np.inf if high is None else high] for low, high in bounds]
    ).T
    assert all((lower <= x).all() and (x <= upper).all() for x in trials)


def test_scipys_bounds_object():
    optimize = pytest.importorskip("scipy.optimize")
    found = minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], bounds=optimize.Bounds([0, 0], [1, np.inf]))
    np.testing.assert_allclose(found.x, [1, 3], atol=1e-6)


# ------------------------------------------------------------------------------------------------- bad input
def square(x):
    return (x * x).sum()


BAD = {
    "method": (ValueError, "method must be one of", lambda: minimize(square, [1.0], method="simplex")),
    "option": (
        ValueError,
        "method bfgs has no option 'eta'; it has gtol, .* line_search, c1, c2, max_evaluations",
        lambda: minimize(square, [1.0], method="bfgs", options={"eta": 1}),
    ),
    "search": (
        ValueError,
        "line_search must be one of",
        lambda: minimize(square, [1.0], method="bfgs", options={"line_search": "none"}),
    ),
    "tolerance": (
        ValueError,
        "gtol must be a number of at least 0, got -1",
        lambda: minimize(square, [1.0], tol=-1),
    ),
    "radius": (
        ValueError,
        "trust region",
        lambda: minimize(square, [1.0], method="trust-ncg", options={"initial_trust_radius": -1}),
    ),
    "history": (
        ValueError,
        "minimize: maxcor must be an integer of at least 1, got 0",
        lambda: minimize(square, [1.0], method="l-bfgs", options={"maxcor": 0}),
    ),
    "number of bounds": (
        ValueError,
        "one pair for each",
        lambda: minimize(square, [1.0], bounds=[(0, 1)] * 2),
    ),
    "crossed bounds": (
        ValueError,
        "lower bound must be at most",
        lambda: minimize(square, [1.0], bounds=[(1, 0)]),
    ),
    "nan bounds": (ValueError, "must not be NaN", lambda: minimize(square, [1.0], bounds=[(np.nan, 0)])),
    "bounds for newton": (
        ValueError,
        "takes no bounds",
        lambda: minimize(square, [1.0], method="newton", bounds=[(0, 1)]),
    ),
    "x0 empty": (RuntimeError, "no elements", lambda: minimize(square, [])),
    "x0 of text": (TypeError, "real numbers", lambda: minimize(square, "start")),
    "x0 integers": (TypeError, "floating", lambda: minimize(square, nbdl.tensor([1, 2]))),
    "x0 mixed": (TypeError, "tensors only", lambda: minimize(square, (nbdl.ones(2), 1.0))),
    "dtypes": (
        RuntimeError,
        "same dtype",
        lambda: minimize(square, (nbdl.ones(2), nbdl.ones(2, dtype=nbdl.float64))),
    ),
    "no scalar": (RuntimeError, "scalar", lambda: minimize(lambda x: x * x, [1.0, 2.0])),
    "no tensor": (TypeError, "must return a tensor", lambda: minimize(lambda x: 1.0, [1.0])),
    "no dependence": (RuntimeError, "differentiably", lambda: minimize(lambda x: nbdl.ones(()), [1.0])),
    "jac by name": (ValueError, "jac must be a function", lambda: minimize(square, [1.0], jac="5-point")),
    "jac size": (
        ValueError,
        "as many elements",
        lambda: minimize(square, [1.0], jac=lambda x: np.zeros(3), method="bfgs"),
    ),
    "hess shape": (
        ValueError,
        "hess must return a matrix",
        lambda: minimize(square, [1.0], hess=lambda x: np.zeros(3), method="newton"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    error, message, call = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("method", CURVED)
def test_a_hessian_that_is_not_finite(method):
    # x^1.5 has an infinite second derivative at 0.
    found = minimize(lambda x: (x**1.5).sum() + x.sum(), [0.0, 1.0], method=method)
    assert found.status in (Status.NON_FINITE, Status.SEARCH_FAILED)
    assert np.isfinite(found.fun)


@pytest.mark.parametrize(
    "line_search", ["more-thuente", "strong-wolfe", "weak-wolfe", "hager-zhang", "armijo", "goldstein"]
)
def test_a_search_in_a_domain_of_one_point_ends(line_search):
    found = minimize(
        lambda x: nbdl.where(x == 1, x, x.detach() * np.nan).sum(), [1.0], method="bfgs",
        options={"line_search": line_search},
    )  # fmt: skip
    assert found.status is Status.SEARCH_FAILED
    assert found.x.tolist() == [1.0]


def test_disp(capsys):
    found = minimize(square, [1.0], options={"disp": True}, jac="2-point")
    assert capsys.readouterr().out.startswith(
        f"{found.message} {found.nit} iterations, {found.nfev} evaluations"
    )
    minimize(square, [1.0], options={"disp": False})
    assert not capsys.readouterr().out


@pytest.mark.parametrize("method", [*METHODS, "l-bfgs-b"])
def test_single_precision(method):
    bounds = [(-3, 3)] * 2 if method == "l-bfgs-b" else None
    found = minimize(
        lambda x: ((x - 1) ** 4).sum() + (x[0] - x[1]) ** 2, nbdl.tensor([-1.2, 1.0]), method=method,
        bounds=bounds, options={"gtol": 1e-4},
    )  # fmt: skip
    assert found.success
    assert found.x.dtype == nbdl.float32
    np.testing.assert_allclose(found.x.numpy(), 1.0, atol=0.05)
