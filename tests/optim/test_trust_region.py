"""Trust-region subproblems, against the conditions that characterize their solutions."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.optim.function import FunctionObjective, Variables
from nbdl.optim.krylov import Lanczos, Watch, truncated_cg
from nbdl.optim.operators import DenseOperator
from nbdl.optim.trust_region import GLTR, Cauchy, Dogleg, Exact, Steihaug, cubic_step, trust_region_step
from nbdl.optim.trust_region.secular import model_decrease
from nbdl.optim.vectors import fetch

N = 12


def symmetric(eigenvalues, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    return q @ np.diag(eigenvalues) @ q.T, q


def solved(solver, values, coefficients, bound):
    """Step and multiplier of a secular equation, on the host."""
    step, nu = solver(nbdl.tensor(values), nbdl.tensor(coefficients), bound)
    return step.numpy(), nu.item()


SPECTRA = {
    "definite": np.geomspace(1e-2, 10, N),
    "indefinite": np.linspace(-3, 5, N),
    "singular": np.r_[0.0, np.linspace(1, 2, N - 1)],
    "negative": -np.geomspace(0.1, 4, N)[::-1],
    "multiple": np.r_[[-2.0] * 4, [1.0] * (N - 4)],
}


@pytest.mark.parametrize("radius", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("hard", [False, True])
def test_secular_equation_gives_global_minimizers(name, radius, hard):
    values = SPECTRA[name]
    c = np.random.default_rng(1).standard_normal(N)
    if hard:
        c[values == values[0]] = 0.0
    p, nu = solved(trust_region_step, values, c, radius)
    # Nocedal & Wright (2006), theorem 4.1
    assert np.linalg.norm(p) <= radius * (1 + 1e-10)
    assert nu >= 0
    assert (values + nu).min() >= -1e-12 * abs(values).max()
    np.testing.assert_allclose((values + nu) * p, -c, atol=1e-9 * np.linalg.norm(c) * max(1, nu))
    assert nu * (radius - np.linalg.norm(p)) <= 1e-8 * max(1, nu) * radius


@pytest.mark.parametrize("weight", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("hard", [False, True])
def test_cubic_step_gives_global_minimizers(name, weight, hard):
    values = SPECTRA[name]
    c = np.random.default_rng(1).standard_normal(N)
    if hard:
        c[values == values[0]] = 0.0
    p, nu = solved(cubic_step, values, c, weight)
    assert nu == pytest.approx(weight * np.linalg.norm(p), rel=1e-8, abs=1e-10)
    assert (values + nu).min() >= -1e-12 * abs(values).max()
    np.testing.assert_allclose((values + nu) * p, -c, atol=1e-8 * np.linalg.norm(c) * max(1, nu))


def quadratic(eigenvalues, gradient):
    """An objective with this Hessian and gradient at 0, and the point 0."""
    matrix, _ = symmetric(eigenvalues)
    a, g = nbdl.tensor(matrix), nbdl.tensor(gradient)
    variables = Variables("test", np.zeros(len(gradient)))
    objective = FunctionObjective(
        "test", variables, lambda x: (g * x).sum() + (x * (a @ x)).sum() / 2, needs_hessian=True
    )
    return matrix, objective, objective.evaluate(variables.start)


@pytest.mark.parametrize("radius", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("solver", [Exact, GLTR, Steihaug, Dogleg, Cauchy])
def test_solvers_report_what_they_do(solver, name, radius, backend):
    if radius > 1e3 and name == "negative":
        radius = 10.0
    g = np.random.default_rng(2).standard_normal(N)
    matrix, objective, point = quadratic(SPECTRA[name], g)
    with nbdl.no_grad():
        found = solver()(objective, point, radius)
        found = found.read(fetch(*found.unread))
    p = found.step.numpy()
    model = -(g @ p + p @ matrix @ p / 2)
    assert found.length == pytest.approx(np.linalg.norm(p), rel=1e-6)
    assert found.length <= radius * (1 + 1e-6)
    assert found.decrease == pytest.approx(model, rel=1e-6)
    assert found.at_boundary == (found.length > radius * (1 - 1e-6))
    values, q = np.linalg.eigh(matrix)
    values, c = nbdl.tensor(values), nbdl.tensor(q.T @ g)
    best = model_decrease(values, c, trust_region_step(values, c, radius)[0]).item()
    cauchy = Cauchy()(objective, point, radius).decrease.item()
    assert cauchy * (1 - 1e-8) <= found.decrease <= best * (1 + 1e-8)
    if solver is Exact:
        assert found.decrease == pytest.approx(best, rel=1e-9)
    if solver is GLTR:
        assert found.decrease >= 0.9 * best


def test_lanczos_is_orthonormal_and_stops_at_an_invariant_subspace():
    matrix, q = symmetric(np.r_[1.0, 1.0, 1.0, 2.0, 2.0, 5.0])
    start = nbdl.tensor(q.sum(1))
    lanczos = Lanczos(DenseOperator(nbdl.tensor(matrix)), start)
    sizes = list(lanczos.sizes(Watch(), 6))
    assert sizes == [1, 2, 3]  # three different eigenvalues
    basis = nbdl.stack(lanczos.vectors).numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(lanczos.eigen()[0].numpy(), [1, 2, 5], atol=1e-13)


def test_truncated_cg():
    matrix, _ = symmetric(np.linspace(1, 3, N))
    g = np.random.default_rng(0).standard_normal(N)
    for sign, solution, products in ((1, -np.linalg.solve(matrix, g), N), (-1, -g, 0)):
        # -matrix: negative curvature at once
        operator = DenseOperator(nbdl.tensor(sign * matrix))
        p, used = truncated_cg(operator, nbdl.tensor(g), lambda size: size * 0 + 1e-12, 100, Watch())
        np.testing.assert_allclose(p.numpy(), solution, atol=1e-11)
        assert used.item() == products


def test_operators():
    matrix = nbdl.tensor(np.arange(6.0).reshape(2, 3))
    operator = DenseOperator(matrix)
    assert operator.shape == (2, 3)
    assert operator.dtype == np.float64
    columns = nbdl.tensor(np.ones((3, 2)))
    np.testing.assert_array_equal((operator @ columns).numpy(), (matrix @ columns).numpy())
    with pytest.raises(RuntimeError, match="multiplies a vector"):
        operator @ nbdl.ones(2, dtype=nbdl.float64)
