"""least_squares, its Jacobian and robust losses, against SciPy and finite differences."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import nbdl
from nbdl.ops.pointwise import call
from nbdl.optim import least_squares
from nbdl.optim.function import Variables
from nbdl.optim.residuals import ROBUST_LOSSES, jacobian
from nbdl.optim.vectors import Layout

T = np.linspace(0, 4, 40)
Y = 2.5 * np.exp(-1.3 * T) + 0.5 + 0.02 * np.sin(37 * T)
Y[::7] += 1.5
START = [2.0, 1.0, 0.4]


def decay(x):
    return x[0] * nbdl.exp(-x[1] * nbdl.tensor(T)) + x[2] - nbdl.tensor(Y)


def numpy_decay(x):
    return x[0] * np.exp(-x[1] * T) + x[2] - Y


def rosenbrock(x):
    return nbdl.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), ([0, 0, 0], [2, 1, 10]), (-10, 10)], ids=str)
def test_against_scipy(bounds, loss):
    optimize = pytest.importorskip("scipy.optimize")
    options = {"loss": loss, "f_scale": 0.1, "bounds": bounds, "ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-10}
    found = least_squares(decay, START, **options)
    expected = optimize.least_squares(numpy_decay, START, **options)
    assert found.success
    assert found.cost == pytest.approx(expected.cost, rel=1e-8)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-4)
    np.testing.assert_allclose(found.fun, numpy_decay(found.x), atol=1e-14)
    assert found.active_mask.tolist() == expected.active_mask.tolist()
    assert found.nfev <= 3 * expected.nfev


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm", "gauss-newton"])
@pytest.mark.parametrize("x_scale", [1.0, "jac", [0.1, 10.0]])
def test_methods(method, x_scale, backend):
    found = least_squares(rosenbrock, [-1.2, 1.0], method=method, x_scale=x_scale)
    assert found.success
    np.testing.assert_allclose(found.x, 1, atol=1e-7)


@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
@pytest.mark.parametrize("loss", ["linear", "huber", "cauchy"])
def test_gauss_newton_with_robust_losses(method, loss):
    found = least_squares(decay, [2.0, 1.0, 0.5], method=method, loss=loss, f_scale=0.1, gtol=1e-6)
    assert found.success
    assert found.optimality < 1e-3


def test_given_jacobian_arguments_and_callback():
    points = []
    found = least_squares(
        lambda x, scale, shift=0.0: nbdl.stack([scale * (x[1] - x[0] ** 2), shift - x[0]]),
        [-1.2, 1.0],
        lambda x, scale, shift=0.0: np.array([[-2 * scale * x[0].item(), scale], [-1.0, 0.0]]),
        args=(10.0,),
        kwargs={"shift": 1.0},
        callback=points.append,
    )
    np.testing.assert_allclose(found.x, 1, atol=1e-7)
    assert len(points) <= found.nit

    def stop(x):
        raise StopIteration

    assert least_squares(rosenbrock, [-1.2, 1.0], callback=stop).status == 99


def test_rank_deficient_jacobians_give_the_shortest_step():
    found = least_squares(lambda x: (x.sum() - 4).reshape(1), [0.0, 0.0], method="gauss-newton")
    np.testing.assert_allclose(found.x, [2, 2], atol=1e-8)
    found = least_squares(lambda x: (x[0] - 4).reshape(1), [0.0, 7.0])
    np.testing.assert_allclose(found.x, [4, 7], atol=1e-8)


def test_what_is_not_finite():
    found = least_squares(lambda x: nbdl.log(x), [-1.0])
    assert found.status == -2
    found = least_squares(lambda x: nbdl.log(x), [1e-3], method="lm")  # full steps leave the domain
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


def test_nests_of_tensors():
    found = least_squares(
        lambda x: nbdl.cat([x["a"] - 1, (x["b"] - 2).reshape(-1)]),
        {"a": nbdl.zeros(2, dtype=nbdl.float64), "b": nbdl.zeros(1, 2, dtype=nbdl.float64)},
    )
    assert found.x["b"].tolist() == [[2.0, 2.0]]
    assert found.jac.shape == (4, 4)


@pytest.mark.parametrize("m", [2, 5])
def test_jacobian_in_both_modes(m):
    layout_source = Variables("test", (nbdl.tensor([0.3, -0.2]), nbdl.tensor([[0.7]])))
    matrix = nbdl.tensor(np.random.default_rng(0).standard_normal((m, 3)).astype(np.float32))

    def function(x):
        a, b = layout_source.nest(x)
        return nbdl.sin(matrix @ nbdl.cat([a, b.reshape(-1) ** 2]))

    leaves = layout_source.leaves(layout_source.start)
    found = jacobian(function(leaves), leaves, Layout("test", leaves)).numpy()
    for k in range(3):
        step = np.zeros(3, np.float32)
        step[k] = 1e-2
        high, low = (
            function(layout_source.leaves(layout_source.start + nbdl.tensor(sign * step))).detach().numpy()
            for sign in (1, -1)
        )
        np.testing.assert_allclose(found[:, k], (high - low) / 2e-2, atol=2e-3)


@pytest.mark.parametrize("name", ROBUST_LOSSES)
def test_derivatives_of_the_losses(name):
    z = np.array([0.0, 0.3, 0.99, 1.01, 2.5, 30.0])
    step = 1e-5
    _, slope, bend = (part.numpy() for part in call(ROBUST_LOSSES[name], nbdl.tensor(z)))
    (high, high_slope, _), (low, low_slope, _) = (
        [part.numpy() for part in call(ROBUST_LOSSES[name], nbdl.tensor(z + sign * step))] for sign in (1, -1)
    )
    np.testing.assert_allclose(slope, (high - low) / (2 * step), atol=1e-9)
    np.testing.assert_allclose(bend, (high_slope - low_slope) / (2 * step), atol=1e-9)


BAD = {
    "method": (ValueError, "method must be one of", {"method": "newton"}),
    "loss": (ValueError, "loss must be one of", {"loss": "l2"}),
    "f_scale": (ValueError, "f_scale must be a number above 0, got 0", {"f_scale": 0.0}),
    "ftol": (ValueError, "ftol must be a number of at least 0, got -1", {"ftol": -1.0}),
    "x_scale": (ValueError, "x_scale must be", {"x_scale": "hess"}),
    "x_scale 0": (ValueError, "x_scale must be greater", {"x_scale": 0.0}),
    "crossed": (ValueError, "lower bound must be at most", {"bounds": (1.0, 0.0)}),
    "sizes": (ValueError, "must be scalars or have 2 elements", {"bounds": ([0, 0, 0], 1)}),
    "outside": (ValueError, "x0 must lie within", {"bounds": (2.0, 3.0)}),
    "gauss-newton": (ValueError, "takes no bounds", {"method": "gauss-newton", "bounds": (-3.0, 3.0)}),
    "jac": (ValueError, "jac must return a matrix of shape", {"jac": lambda x: np.zeros((3, 3))}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options(name):
    error, message, options = BAD[name]
    with pytest.raises(error, match=message):
        least_squares(rosenbrock, [1.0, 1.0], **options)


def test_bad_functions():
    with pytest.raises(TypeError, match="residuals must be a tensor"):
        least_squares(lambda x: 1.0, [1.0])
    with pytest.raises(RuntimeError, match="differentiably"):
        least_squares(lambda x: nbdl.ones(3), [1.0])
    with pytest.raises(RuntimeError, match="no elements"):
        least_squares(rosenbrock, [])


def test_scipys_signature():
    """All arguments of SciPy's function, in its order; its own losses as functions."""
    scipy = pytest.importorskip("scipy.optimize")
    mine = list(inspect.signature(least_squares).parameters)
    theirs = list(inspect.signature(scipy.least_squares).parameters)
    shared = mine.index("callback")  # the last one in SciPy before 1.16
    assert mine[:shared] == theirs[:shared]

    def soft_l1(z):
        root = (1 + z).sqrt() if isinstance(z, nbdl.Tensor) else np.sqrt(1 + z)
        rows = [2 * (root - 1), 1 / root, -0.5 / root**3]
        return nbdl.stack(rows) if isinstance(z, nbdl.Tensor) else np.array(rows)

    def line(x):
        return (
            x[0] * nbdl.arange(6, dtype=nbdl.float64) - nbdl.tensor([0.0, 1.1, 2.0, 3.1, 9.0, 5.0]).double()
        )

    named = least_squares(line, [0.5], loss="soft_l1", f_scale=0.3)
    for given in (soft_l1, lambda z: soft_l1(z).numpy()):
        found = least_squares(line, [0.5], "2-point", loss=given, f_scale=0.3, tr_solver="exact")
        np.testing.assert_allclose([*found.x, found.cost], [*named.x, named.cost], rtol=1e-9)
    with pytest.raises(ValueError, match=r"loss must return an array of shape \(3, 6\), got \(6,\)"):
        least_squares(line, [0.5], loss=lambda z: z)
    with pytest.raises(ValueError, match="tr_solver must be one of exact, got 'lsmr'"):
        least_squares(line, [0.5], tr_solver="lsmr")


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_verbose(verbose, capsys):
    found = least_squares(lambda x: x**2 - 2, [1.0], verbose=verbose)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (0, 1, found.nit + 1)[verbose]
    assert all("cost" in line for line in lines)
