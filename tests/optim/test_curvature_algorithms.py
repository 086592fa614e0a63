"""Eigenvalues, traces, determinants and solvers against NumPy and SciPy; estimates within their errors."""

from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import strategies as st

import nbdl
from nbdl import linalg
from nbdl.optim import curvature
from nbdl.optim.curvature import DenseOperator, DiagonalOperator, FunctionOperator


def symmetric(n, seed=0, values=None):
    """A matrix with given eigenvalues, or random ones."""
    r = np.random.default_rng(seed)
    q, _ = np.linalg.qr(r.standard_normal((n, n)))
    values = r.standard_normal(n) if values is None else np.asarray(values, float)
    return (q * values) @ q.T


def operator(matrix):
    """One that knows nothing but products."""
    tensor = nbdl.tensor(matrix)
    return FunctionOperator(matrix.shape, matrix.dtype, lambda v: tensor @ v, lambda v: tensor.T @ v)


def generator(seed=0):
    return nbdl.Generator().manual_seed(seed)


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_eigenvalues(which, k, backend):
    matrix = symmetric(30)
    values, vectors = curvature.eigsh(DenseOperator(nbdl.tensor(matrix)), k, which, generator=generator())
    everything = np.linalg.eigvalsh(matrix)
    wanted = {
        "LM": np.sort(everything[np.argsort(-abs(everything))[:k]]),
        "LA": everything[-k:],
        "SA": everything[:k],
    }[which]
    np.testing.assert_allclose(values.numpy(), wanted, atol=1e-10)
    np.testing.assert_allclose(matrix @ vectors.numpy(), vectors.numpy() * values.numpy(), atol=1e-7)
    np.testing.assert_allclose(vectors.numpy().T @ vectors.numpy(), np.eye(k), atol=1e-10)


def test_large_operators_need_few_products():
    calls = 0
    diagonal = nbdl.linspace(0, 1, 4000, dtype=nbdl.float64)
    diagonal[-3:] = nbdl.tensor([5.0, 6.0, 7.0])

    def product(v):
        nonlocal calls
        calls += 1
        return diagonal * v

    a = FunctionOperator((4000, 4000), np.float64, product)
    found = curvature.eigsh(a, 3, return_eigenvectors=False, generator=generator())
    np.testing.assert_allclose(found.numpy(), [5, 6, 7], atol=1e-10)
    assert calls < 60


@pytest.mark.parametrize(
    "values", [[2.0] * 5 + [1.0] * 5, [1.0] * 10, [0.0] * 8 + [3.0, 3.0]], ids=["two", "one", "low rank"]
)
def test_multiple_eigenvalues_where_the_space_closes(values):
    a = operator(symmetric(10, values=values))
    found = curvature.eigsh(a, 3, "LA", return_eigenvectors=False, generator=generator())
    np.testing.assert_allclose(found.numpy(), np.sort(values)[-3:], atol=1e-8)


def test_traces_and_diagonals_within_their_errors():
    matrix = symmetric(60, values=1e3 / np.arange(1, 61) ** 2)
    a, trace = operator(matrix), np.trace(matrix)
    plain = curvature.hutchinson_trace(a, 60, generator())
    better = curvature.hutchpp_trace(a, 60, generator())
    for estimate in (plain, better):
        assert estimate.error > 0
        assert abs(estimate.value - trace) < 3 * estimate.error
    assert better.error < plain.error / 10
    low_rank = operator(symmetric(60, values=[5.0, 4.0, 3.0] + [0.0] * 57))
    assert curvature.hutchpp_trace(low_rank, 12, generator()).value == pytest.approx(12.0, abs=1e-8)
    diagonal = curvature.hutchinson_diagonal(a, 500, generator()).numpy()
    spread = np.sqrt(((matrix - np.diag(matrix.diagonal())) ** 2).sum(1) / 500)
    assert abs((diagonal - matrix.diagonal()) / spread).max() < 4
    exact = DiagonalOperator(nbdl.tensor([1.0, 2.0, 3.0]))
    assert curvature.hutchinson_trace(exact, 1).value == pytest.approx(6.0)
    assert math.isnan(curvature.hutchinson_trace(exact, 1).error)


def test_spectral_density():
    values = np.r_[np.full(40, 1.0), np.full(15, 4.0), np.full(5, 10.0)]
    density = curvature.SpectralDensity(operator(symmetric(60, values=values)), 30, 10, generator())
    grid = np.linspace(-1, 12, 2000)
    curve = density(grid, width=0.05)
    assert np.trapezoid(curve, grid) == pytest.approx(1.0, abs=1e-3)
    for low, high, share in ((0, 2, 40 / 60), (3, 5, 15 / 60), (9, 11, 5 / 60)):
        part = (grid > low) & (grid < high)
        assert np.trapezoid(curve[part], grid[part]) == pytest.approx(share, abs=0.05)
    squares = density.sum_of(np.square)
    assert abs(squares.value - (values**2).sum()) < 3 * squares.error
    assert density(grid).shape == grid.shape


def test_log_determinants():
    matrix = symmetric(40, values=np.linspace(0.5, 20, 40))
    exact = np.linalg.slogdet(matrix + 0.5 * np.eye(40))[1]
    assert curvature.logdet(operator(matrix), 0.5).value == pytest.approx(exact)
    estimate = curvature.logdet(operator(matrix), 0.5, n_vectors=40, n_steps=25, generator=generator())
    assert abs(estimate.value - exact) < 3 * estimate.error
    assert estimate.error < 0.05 * abs(exact)


@hypothesis.given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
@hypothesis.settings(max_examples=25)
def test_solvers_for_square_systems(n, seed, damping):
    r = np.random.default_rng(seed)
    b = nbdl.tensor(r.standard_normal(n))
    positive = symmetric(n, seed, r.uniform(0.1, 3, n))
    signs = np.where(r.random(n) < 0.5, -1, 1)
    indefinite = symmetric(n, seed, signs * r.uniform(0.5, 3, n))
    for solve, matrix in (
        (curvature.cg, positive),
        (curvature.minres, positive),
        (curvature.minres, indefinite),
    ):
        shift = damping if matrix is positive else 0.0
        found = solve(operator(matrix), b, rtol=1e-10, damping=shift, maxiter=20 * n)
        assert found.info == 0
        truth = np.linalg.solve(matrix + shift * np.eye(n), b.numpy())
        np.testing.assert_allclose(found.x.numpy(), truth, rtol=1e-6, atol=1e-6)
    direct = curvature.cholesky(operator(positive), b, damping)
    np.testing.assert_allclose(
        direct.numpy(), np.linalg.solve(positive + damping * np.eye(n), b.numpy()), rtol=1e-8, atol=1e-8
    )


@hypothesis.given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.7]))
@hypothesis.settings(max_examples=25)
def test_lsmr(m, n, seed, damp):
    r = np.random.default_rng(seed)
    matrix, b = r.standard_normal((m, n)), r.standard_normal(m)
    found = curvature.lsmr(operator(matrix), nbdl.tensor(b), damp, rtol=1e-12, maxiter=200)
    truth, *_ = np.linalg.lstsq(
        np.r_[matrix, damp * np.eye(n)], np.r_[b, np.zeros(n)], rcond=1e-10
    )  # of least length where there are several
    scale = max(1.0, abs(truth).max())
    np.testing.assert_allclose(found.x.numpy() / scale, truth / scale, atol=1e-5)
    size = np.linalg.norm(matrix.T @ (b - matrix @ found.x.numpy()) - damp**2 * found.x.numpy())
    assert size == pytest.approx(found.residual, abs=1e-8)


@pytest.mark.parametrize("name", ["cg", "minres"])
def test_iterations_are_those_of_scipy(name):
    """SciPy's MINRES stops by estimated norms, so its own count says nothing: compare with
    the first of its iterates that meets the criterion of nbdl, |r| <= rtol |b|."""
    matrix = symmetric(50, values=np.geomspace(1, 100, 50))
    b = np.random.default_rng(0).standard_normal(50)
    iterates = []
    solve = getattr(scipy.sparse.linalg, name)
    truth, _ = solve(matrix, b, rtol=1e-12, callback=lambda x: iterates.append(x.copy()))
    found = getattr(curvature, name)(operator(matrix), nbdl.tensor(b), rtol=1e-8)
    np.testing.assert_allclose(found.x.numpy(), truth, rtol=1e-4, atol=1e-6)
    sizes = [np.linalg.norm(b - matrix @ x) for x in iterates]
    count = next(i for i, size in enumerate(sizes, 1) if size <= 1e-8 * np.linalg.norm(b))
    assert abs(found.iterations - count) <= 2
    residual = np.linalg.norm(b - matrix @ found.x.numpy())
    assert residual == pytest.approx(found.residual, rel=1e-3)


def test_cg_with_preconditioner_start_and_callback():
    values = np.geomspace(1, 1e6, 40)
    a, b = DiagonalOperator(nbdl.tensor(values)), nbdl.ones(40, dtype=nbdl.float64)
    steps = []
    inverse = DiagonalOperator(nbdl.tensor(1 / values))
    found = curvature.cg(a, b, rtol=1e-12, M=inverse, callback=steps.append)
    assert found.iterations == len(steps) == 1
    assert curvature.cg(a, b, found.x, rtol=1e-9).iterations == 0
    assert curvature.cg(a, b, rtol=1e-12, maxiter=3).info == 3
    assert curvature.cg(a * -1.0, b).info == -1
    assert curvature.cg(a, b * 0).info == 0
    assert curvature.minres(a, b * 0).info == 0
    assert curvature.lsmr(a, b * 0).info == 0


SQUARE = DiagonalOperator(nbdl.tensor([1.0, -2.0, 3.0]))
WIDE = DenseOperator(nbdl.ones(2, 3))
B = nbdl.ones(3)
WRONG = {
    "k": (lambda: curvature.eigsh(SQUARE, 4), ValueError, "k must be from 1 to 3"),
    "which": (lambda: curvature.eigsh(SQUARE, 1, "SM"), ValueError, "which must be"),
    "start": (lambda: curvature.eigsh(SQUARE, 1, v0=nbdl.zeros(3)), ValueError, "other than 0"),
    "first guess": (lambda: curvature.cg(SQUARE, B, nbdl.ones(2)), RuntimeError, "x0 must have shape"),
    "maxiter": (lambda: curvature.eigsh(SQUARE, 2, maxiter=1), ValueError, "at least k"),
    "not square": (lambda: curvature.eigsh(WIDE, 1), RuntimeError, "square"),
    "not converged": (
        lambda: curvature.eigsh(operator(symmetric(30)), 2, maxiter=5), RuntimeError, "not enough",
    ),
    "no operator": (lambda: curvature.hutchinson_trace(np.eye(2)), TypeError, "LinearOperator"),
    "samples": (lambda: curvature.hutchinson_trace(SQUARE, 0), ValueError, "at least 1"),
    "few": (lambda: curvature.hutchpp_trace(SQUARE, 5), ValueError, "at least 6"),
    "vectors": (lambda: curvature.SpectralDensity(SQUARE, 0), ValueError, "n_vectors"),
    "logdet": (lambda: curvature.logdet(SQUARE), linalg.LinAlgError, "not positive definite"),
    "estimated": (lambda: curvature.logdet(SQUARE, n_vectors=2), linalg.LinAlgError, "raise damping"),
    "cholesky": (lambda: curvature.cholesky(SQUARE, B), linalg.LinAlgError, "damping 0.0"),
    "shape": (lambda: curvature.cg(SQUARE, nbdl.ones(2)), RuntimeError, "b must have shape"),
    "array": (lambda: curvature.minres(SQUARE, np.ones(3)), TypeError, "b must be a tensor"),
    "matrix": (lambda: curvature.lsmr(nbdl.eye(3), B), TypeError, "LinearOperator"),
    "rtol": (lambda: curvature.cg(SQUARE, B, rtol=-1.0), ValueError, "rtol"),
    "iterations": (lambda: curvature.minres(SQUARE, B, maxiter=0), ValueError, "maxiter"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case):
    function, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        function()
