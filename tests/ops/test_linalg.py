"""nbdl.linalg: values, first and second derivatives, batches, dtypes, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import linalg

RNG = np.random.default_rng(7)
A = RNG.standard_normal((3, 3)) + 2 * np.eye(3)
BATCH = RNG.standard_normal((2, 3, 3)) + 2 * np.eye(3)
TALL = RNG.standard_normal((4, 2))
WIDE = RNG.standard_normal((2, 4))
MANY = RNG.standard_normal((2, 4, 3))
B = RNG.standard_normal((3, 2))
VECTOR = RNG.standard_normal(3)
SINGULAR = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.5, -1.0, 1.0]])
# Pairs of real matrices that stand for complex ones.
PAIR = RNG.standard_normal((2, 3, 3)) + 2 * np.eye(3)


def positive(x: Any) -> Any:
    """A positive-definite matrix of any square one."""
    return x @ x.mT + (x * 0 + 1).diagonal(0, -2, -1).diag_embed()


def symmetric(x: Any) -> Any:
    return x + x.mT


def complex_matrix(lib: Any, x: Any) -> Any:
    return lib.complex(x[0], x[1])


def hermitian(lib: Any, x: Any) -> Any:
    z = complex_matrix(lib, x)
    return z + z.mH


def parts(lib: Any, *values: Any) -> list[Any]:
    return [lib.view_as_real(value.contiguous()) if value.is_complex() else value for value in values]


def projectors(u: Any) -> Any:
    """What does not depend on the signs or phases of the columns: the products u_i u_i^H."""
    return u[..., :, None, :] * u.conj()[..., None, :, :]


def of_svd(lib: Any, x: Any, full: bool = False) -> list[Any]:
    u, s, vh = lib.linalg.svd(x, full_matrices=full)
    k = s.shape[-1]
    return parts(lib, s, projectors(u[..., :k]), u[..., :k] @ vh[..., :k, :])


CASES: dict[str, tuple[Any, ...]] = {
    "cholesky": (lambda lib, x: lib.linalg.cholesky(positive(x)), BATCH),
    "cholesky, upper": (lambda lib, x: lib.linalg.cholesky(positive(x), upper=True), A),
    "cholesky_ex": (lambda lib, x: lib.linalg.cholesky_ex(positive(x)), A),
    "cholesky_solve": (lambda lib, b, x: lib.cholesky_solve(b, lib.linalg.cholesky(positive(x))), B, A),
    "cholesky_solve, upper": (
        lambda lib, b, x: b.cholesky_solve(lib.linalg.cholesky(positive(x)).mT, upper=True),
        B,
        A,
    ),
    "cholesky_inverse": (lambda lib, x: lib.cholesky_inverse(lib.linalg.cholesky(positive(x))), A),
    "solve": (lambda lib, a, b: lib.linalg.solve(a, b), A, B),
    "solve, vector": (lambda lib, a, b: lib.linalg.solve(a, b), A, VECTOR),
    "solve, batch": (lambda lib, a, b: lib.linalg.solve(a, b), BATCH, B),
    "solve, vectors": (lambda lib, a, b: lib.linalg.solve(a, b), BATCH, RNG.standard_normal((2, 3))),
    "solve, right": (lambda lib, a, b: lib.linalg.solve(a, b, left=False), BATCH, MANY[0]),
    "solve_ex": (lambda lib, a, b: lib.linalg.solve_ex(a, b), A, B),
    "solve_triangular": (lambda lib, a, b: lib.linalg.solve_triangular(a, b, upper=True), BATCH, B),
    "solve_triangular, lower": (lambda lib, a, b: lib.linalg.solve_triangular(a, b, upper=False), A, B),
    "solve_triangular, unit": (
        lambda lib, a, b: lib.linalg.solve_triangular(a, b, upper=True, unitriangular=True),
        A,
        B,
    ),
    "solve_triangular, right": (
        lambda lib, a, b: lib.linalg.solve_triangular(a, b.mT, upper=False, left=False),
        A,
        B,
    ),
    "inv": (lambda lib, x: lib.linalg.inv(x), BATCH),
    "inv_ex": (lambda lib, x: lib.linalg.inv_ex(x), A),
    "inverse": (lambda lib, x: x.inverse() + lib.inverse(x), A),
    "pinv, tall": (lambda lib, x: lib.linalg.pinv(x), MANY),
    "pinv, wide": (lambda lib, x: lib.linalg.pinv(x), WIDE),
    "pinv, symmetric": (lambda lib, x: lib.linalg.pinv(symmetric(x), hermitian=True), A),
    "pinv, low rank": (lambda lib, x: lib.linalg.pinv(x @ x.mT, rtol=1e-8), TALL),
    "lstsq, tall": (lambda lib, a, b: lib.linalg.lstsq(a, b), TALL, RNG.standard_normal((4, 3))),
    "lstsq, wide": (lambda lib, a, b: lib.linalg.lstsq(a, b)[0], WIDE, RNG.standard_normal((2, 3))),
    "lstsq, batch": (lambda lib, a, b: lib.linalg.lstsq(a, b)[0], MANY, RNG.standard_normal((2, 4, 2))),
    "lstsq, gels": (
        lambda lib, a, b: lib.linalg.lstsq(a, b, driver="gels")[:2],
        TALL,
        RNG.standard_normal((4, 3)),
    ),
    "det": (lambda lib, x: lib.linalg.det(x), BATCH),
    "det, 1 x 1": (lambda lib, x: x.det(), A[:1, :1]),
    "slogdet": (lambda lib, x: lib.linalg.slogdet(x), BATCH),
    "logdet": (lambda lib, x: lib.logdet(positive(x)), BATCH),
    "tensorsolve": (
        lambda lib, a, b: lib.linalg.tensorsolve(a, b),
        RNG.standard_normal((2, 3, 6)),
        RNG.standard_normal((2, 3)),
    ),
    "tensorsolve, dims": (
        lambda lib, a, b: lib.linalg.tensorsolve(a, b, dims=(0,)),
        RNG.standard_normal((6, 2, 3)),
        RNG.standard_normal((2, 3)),
    ),
    "tensorinv": (lambda lib, a: lib.linalg.tensorinv(a, ind=1), RNG.standard_normal((4, 2, 2))),
    "lu": (lambda lib, x: lib.linalg.lu(x), BATCH),
    "lu, tall": (lambda lib, x: lib.linalg.lu(x), MANY),
    "lu, wide": (lambda lib, x: lib.linalg.lu(x), WIDE),
    "lu_factor": (lambda lib, x: lib.linalg.lu_factor(x), BATCH),
    "lu_factor_ex": (lambda lib, x: lib.linalg.lu_factor_ex(x), A),
    "lu_solve": (lambda lib, x, b: lib.linalg.lu_solve(*lib.linalg.lu_factor(x), b), BATCH, B),
    "lu_solve, adjoint": (
        lambda lib, x, b: lib.linalg.lu_solve(*lib.linalg.lu_factor(x), b, adjoint=True),
        BATCH,
        B,
    ),
    "lu_solve, right": (
        lambda lib, x, b: lib.linalg.lu_solve(*lib.linalg.lu_factor(x), b.mT, left=False),
        BATCH,
        B,
    ),
    "lu_unpack": (lambda lib, x: lib.lu_unpack(*lib.linalg.lu_factor(x)), TALL),
    "qr": (lambda lib, x: lib.linalg.qr(x), BATCH),
    "qr, tall": (lambda lib, x: lib.linalg.qr(x), MANY),
    "qr, wide": (lambda lib, x: lib.linalg.qr(x), WIDE),
    "qr, complete": (lambda lib, x: lib.linalg.qr(x, mode="complete"), WIDE),
    "qr, Q only": (lambda lib, x: lib.linalg.qr(x)[0], TALL),
    "svd": (of_svd, BATCH),
    "svd, tall": (of_svd, TALL),
    "svd, wide": (of_svd, WIDE),
    "svd, U only": (lambda lib, x: projectors(lib.linalg.svd(x, full_matrices=False)[0]), TALL),
    "svdvals": (lambda lib, x: lib.linalg.svdvals(x), MANY),
    "eigh": (
        lambda lib, x: [v if v.ndim < 3 else projectors(v) for v in lib.linalg.eigh(symmetric(x))],
        BATCH,
    ),
    "eigh, upper": (lambda lib, x: projectors(lib.linalg.eigh(symmetric(x), UPLO="U")[1]), A),
    "eigvalsh": (lambda lib, x: lib.linalg.eigvalsh(symmetric(x)), BATCH),
    "eigvals": (lambda lib, x: parts(lib, lib.linalg.eigvals(x)), A),
    "eig": (
        lambda lib, x: parts(lib, lib.linalg.eig(x)[0], projectors(lib.linalg.eig(x)[1])),
        A,
    ),
    "matrix_exp": (lambda lib, x: lib.linalg.matrix_exp(x), BATCH),
    "matrix_exp, large": (lambda lib, x: lib.matrix_exp(4 * x), A / 3),
    "matrix_power": (lambda lib, x: lib.linalg.matrix_power(x, 5), BATCH),
    "matrix_power, inverse": (lambda lib, x: x.matrix_power(-2), A),
    "matrix_power, one": (lambda lib, x: x.matrix_power(1), A),
    "multi_dot": (
        lambda lib, a, b, c: lib.linalg.multi_dot([a, b, c]),
        TALL,
        WIDE,
        RNG.standard_normal((4, 1)),
    ),
    "multi_dot, vectors": (lambda lib, v, a, b: lib.linalg.multi_dot([v, a, b]), VECTOR, A, VECTOR[::-1]),
    "chain_matmul": (lambda lib, a, b: lib.linalg.multi_dot([a, b, a]), TALL, WIDE),
    "householder_product": (
        lambda lib, x, tau: lib.linalg.householder_product(x, tau),
        MANY,
        RNG.standard_normal((2, 2)),
    ),
    "ormqr": (lambda lib, x, tau, c: lib.ormqr(x, tau, c), TALL, VECTOR[:2], RNG.standard_normal((4, 3))),
    "cross": (lambda lib, a, b: lib.linalg.cross(a, b), BATCH, A[None]),
    "cross, axis": (lambda lib, a, b: lib.linalg.cross(a, b, dim=0), A, A[::-1]),
    "diagonal": (lambda lib, x: lib.linalg.diagonal(x, offset=1), BATCH),
    "vander": (lambda lib, x: lib.linalg.vander(x, N=4), BATCH[0]),
    "vander of a number": (lambda lib, x: lib.linalg.vander(x[0, 0], N=3), PAIR[0]),
    "vecdot": (lambda lib, a, b: lib.linalg.vecdot(a, b, dim=0), A, A[::-1]),
    "cond": (lambda lib, x: lib.linalg.cond(x), BATCH),
    "cond, -2": (lambda lib, x: lib.linalg.cond(x, -2), MANY),
    **{
        f"cond, {p}": (lambda lib, x, p=p: lib.linalg.cond(x, p), BATCH)
        for p in ("fro", "nuc", 1, -1, math.inf, -math.inf)
    },
    **{
        f"matrix_norm, {p}": (lambda lib, x, p=p: lib.linalg.matrix_norm(x, p), MANY)
        for p in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
    },
    **{
        f"matrix_norm, {p}, axes": (
            lambda lib, x, p=p: lib.linalg.matrix_norm(x, p, dim=(2, 0), keepdim=True),
            MANY,
        )
        for p in ("nuc", 1, math.inf)
    },
    **{
        f"vector_norm, {p}": (lambda lib, x, p=p: lib.linalg.vector_norm(x, p, dim=1), MANY)
        for p in (0.5, 1, 2, 3, math.inf, -math.inf)
    },
    "norm": (lambda lib, x: lib.linalg.norm(x), MANY),
    "norm, matrix": (lambda lib, x: lib.linalg.norm(x, ord=1), TALL),
    "norm, vector": (lambda lib, x: lib.linalg.norm(x, ord=3), VECTOR),
    "norm, nuc": (lambda lib, x: lib.linalg.norm(x, "nuc", (0, 1)), MANY),
    # complex matrices
    "complex cholesky": (
        lambda lib, x: parts(lib, lib.linalg.cholesky(hermitian(lib, x) + 9 * lib.eye(3, dtype=lib.float64))),
        PAIR,
    ),
    "complex solve": (
        lambda lib, x, b: parts(lib, lib.linalg.solve(complex_matrix(lib, x), lib.complex(b, 2 * b))),
        PAIR,
        B,
    ),
    "complex solve_triangular": (
        lambda lib, x, b: parts(
            lib, lib.linalg.solve_triangular(complex_matrix(lib, x), lib.complex(b, 2 * b), upper=False)
        ),
        PAIR,
        B,
    ),
    "complex inv": (lambda lib, x: parts(lib, lib.linalg.inv(complex_matrix(lib, x))), PAIR),
    "complex pinv": (lambda lib, x: parts(lib, lib.linalg.pinv(complex_matrix(lib, x)[:, :2])), PAIR),
    "complex det": (lambda lib, x: parts(lib, lib.linalg.det(complex_matrix(lib, x))), PAIR),
    "complex slogdet": (lambda lib, x: parts(lib, *lib.linalg.slogdet(complex_matrix(lib, x))), PAIR),
    "complex lu": (lambda lib, x: parts(lib, *lib.linalg.lu_factor(complex_matrix(lib, x))), PAIR),
    "complex qr": (lambda lib, x: parts(lib, *lib.linalg.qr(complex_matrix(lib, x))), PAIR),
    "complex qr, tall": (lambda lib, x: parts(lib, *lib.linalg.qr(complex_matrix(lib, x)[:, :2])), PAIR),
    "complex svd": (lambda lib, x: of_svd(lib, complex_matrix(lib, x)), PAIR),
    "complex svd, wide": (lambda lib, x: of_svd(lib, complex_matrix(lib, x)[:2]), PAIR),
    "complex eigh": (
        lambda lib, x: parts(
            lib, *[v if v.ndim < 2 else projectors(v) for v in lib.linalg.eigh(hermitian(lib, x))]
        ),
        PAIR,
    ),
    "complex eig": (
        lambda lib, x: parts(
            lib, *[v if v.ndim < 2 else projectors(v) for v in lib.linalg.eig(complex_matrix(lib, x))]
        ),
        PAIR,
    ),
    "complex matrix_exp": (lambda lib, x: parts(lib, lib.linalg.matrix_exp(complex_matrix(lib, x))), PAIR),
    "complex norm": (lambda lib, x: lib.linalg.matrix_norm(complex_matrix(lib, x), 2), PAIR),
    "complex vecdot": (
        lambda lib, x: parts(lib, lib.linalg.vecdot(complex_matrix(lib, x), lib.complex(x[1], x[0]))),
        PAIR,
    ),
    "complex vander": (lambda lib, x: parts(lib, lib.linalg.vander(lib.complex(x[0, 0], x[1, 0]))), PAIR),
}  # fmt: skip
# PyTorch's condition numbers overwrite what their derivatives need.
WITHOUT_TWIN = {f"cond, {p}" for p in ("fro", 1, -1, math.inf, -math.inf)}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, check_op: Any) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, twin=name not in WITHOUT_TWIN)


@pytest.mark.parametrize(
    "name", ["cholesky", "solve, batch", "det", "eigh", "svd, tall", "qr, tall", "lu, wide"]
)
def test_on_every_backend(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, orders=1)


@pytest.mark.parametrize("name", CASES)
def test_single_precision(name: str) -> None:
    function, *arrays = CASES[name]
    if "float64" in function.__code__.co_names:
        pytest.skip("the case is written in double precision")
    single = function(nbdl, *[nbdl.tensor(x.astype(np.float32)) for x in arrays])
    double = function(nbdl, *[nbdl.tensor(x.astype(np.float32).astype(np.float64)) for x in arrays])
    one, two = ([y] if isinstance(y, nbdl.Tensor) else list(y) for y in (single, double))
    for a, b in zip(one, two, strict=True):
        expected = {"float64": "float32", "complex128": "complex64"}.get(b.dtype.name, b.dtype.name)
        assert a.dtype.name == expected
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-3, atol=2e-3)


def test_determinant_of_a_singular_matrix() -> None:
    x = nbdl.tensor(SINGULAR, requires_grad=True)
    y = nbdl.linalg.det(x)
    y.backward()
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(SINGULAR, i, 0), j, 1)) for j in range(3)]
        for i in range(3)
    ]
    assert abs(y.item()) < 1e-14
    np.testing.assert_allclose(x.grad.numpy(), cofactors, atol=1e-13)
    nbdl.autograd.gradcheck(nbdl.linalg.det, nbdl.zeros(2, 2, dtype="float64", requires_grad=True))


def test_information_instead_of_errors() -> None:
    batch = nbdl.tensor(np.stack([np.eye(3), SINGULAR, -np.eye(3)]))
    factor, info = linalg.cholesky_ex(batch)
    assert info.dtype == np.int32
    assert info.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(factor[0].numpy(), np.eye(3))
    singular = nbdl.tensor(np.stack([np.eye(3), np.diag([1.0, 0.0, 2.0])]))
    inverse, info = linalg.inv_ex(singular)
    assert info.tolist() == [0, 2]
    np.testing.assert_array_equal(inverse[0].numpy(), np.eye(3))
    solution, info = linalg.solve_ex(singular, nbdl.ones(3, 1, dtype="float64"))
    assert info.tolist() == [0, 2]
    assert solution[0].flatten().tolist() == [1, 1, 1]
    assert linalg.lu_factor_ex(singular).info.tolist() == [0, 2]
    sign, logarithm = linalg.slogdet(singular)
    assert (sign.tolist(), logarithm.tolist()) == ([1, 0], [0, -math.inf])


def test_ranks_and_conditions() -> None:
    x = nbdl.tensor(np.stack([SINGULAR, A, np.zeros((3, 3))]))
    assert linalg.matrix_rank(x).tolist() == [2, 3, 0]
    assert linalg.matrix_rank(x, atol=100).tolist() == [0, 0, 0]
    assert linalg.matrix_rank(x[0] + x[0].mT, hermitian=True).item() == 3
    assert linalg.cond(nbdl.tensor(np.diag([1.0, 0.0])), 1).item() == math.inf
    assert linalg.pinv(x[2]).abs().sum().item() == 0


def test_least_squares_outputs() -> None:
    a, b = nbdl.tensor(MANY), nbdl.tensor(RNG.standard_normal((2, 4, 2)))
    solution, residuals, rank, values = linalg.lstsq(a, b, driver="gelss")
    assert linalg.lstsq(a, b).residuals.numel() == 0
    np.testing.assert_allclose(residuals.numpy(), ((a @ solution - b) ** 2).sum(-2).numpy())
    assert rank.tolist() == [3, 3]
    np.testing.assert_allclose(values.numpy(), linalg.svdvals(a).numpy(), rtol=1e-12)
    deficient = linalg.lstsq(nbdl.tensor(SINGULAR), nbdl.tensor(B), driver="gelsd")
    assert deficient.rank.item() == 2
    assert deficient.residuals.numel() == 0
    np.testing.assert_allclose(deficient.solution.numpy(), np.linalg.pinv(SINGULAR) @ B, atol=1e-13)


# Results without elements, or without slope: a backward pass goes through them all the same.
CONSTANTS: dict[str, Any] = {
    "gather": lambda lib, x: x.gather(0, lib.zeros(0, 3, dtype=lib.int64)),
    "gather, other rank": lambda lib, x: x.gather(0, lib.zeros(0, dtype=lib.int64)),
    "sort": lambda lib, x: x[:0].sort().values,
    "power": lambda lib, x: lib.linalg.matrix_power(x, 0),
    "powers": lambda lib, x: lib.linalg.matrix_power(x.expand(2, 3, 3), 0),
    "residuals": lambda lib, x: lib.linalg.lstsq(x, x).residuals,
    "residuals, wide": lambda lib, x: lib.linalg.lstsq(x[:2], x[:2], driver="gelsd").residuals,
    "lu_solve": lambda lib, x: lib.linalg.lu_solve(*lib.linalg.lu_factor(x), x[:0], left=False),
    "pdist": lambda lib, x: lib.nn.functional.pdist(x, 0.0),
    "norm": lambda lib, x: lib.linalg.vector_norm(x, 0),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_a_history(name: str, backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, twin = nbdl.tensor(PAIR[0], requires_grad=True), torch.tensor(PAIR[0], requires_grad=True)
    found, expected = CONSTANTS[name](nbdl, x), CONSTANTS[name](torch, twin)
    assert tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
    assert found.requires_grad and expected.requires_grad
    found.sum().backward()
    assert x.grad.tolist() == np.zeros((3, 3)).tolist()


@pytest.mark.torch
@pytest.mark.parametrize("is_hermitian", [False, True])
def test_symmetric_factors(is_hermitian: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    z = PAIR[0] + 1j * PAIR[1]
    z = (z + z.conj().T if is_hermitian else z + z.T) - 4 * np.eye(3)
    b = PAIR[0][:, :2] + 0j
    for a, c in ((z, b), (z.real, b.real)):
        packed, pivots = linalg.ldl_factor(nbdl.tensor(a), hermitian=is_hermitian)
        expected = torch.linalg.ldl_factor(torch.tensor(a), hermitian=is_hermitian)
        np.testing.assert_allclose(packed.numpy(), expected[0].numpy(), rtol=1e-12)
        assert pivots.tolist() == expected[1].tolist()
        solution = linalg.ldl_solve(packed, pivots, nbdl.tensor(c), hermitian=is_hermitian)
        np.testing.assert_allclose(a @ solution.numpy(), c, atol=1e-12)
    assert linalg.ldl_factor_ex(nbdl.zeros(2, 2)).info.item() == 1


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    x = nbdl.zeros(shape, dtype="float64", requires_grad=True)
    for function in (linalg.inv, linalg.cholesky, linalg.matrix_exp, linalg.svdvals, linalg.eigvalsh):
        y = function(x)
        assert tuple(y.shape[:-1]) == shape[:-1] if y.ndim == len(shape) else shape[:-1]
    assert linalg.det(x).tolist() == np.linalg.det(np.zeros(shape)).tolist()
    assert tuple(linalg.solve(x, x).shape) == shape
    assert tuple(linalg.qr(x).Q.shape) == shape
    linalg.det(x).sum().backward()
    assert tuple(x.grad.shape) == shape


def test_exponential_of_very_different_matrices() -> None:
    x = np.stack([np.zeros((2, 2)), [[0, -30.0], [30.0, 0]], [[1e-9, 0], [0, -700.0]]])
    expected = [
        np.eye(2),
        [[math.cos(30), -math.sin(30)], [math.sin(30), math.cos(30)]],
        [[1 + 1e-9, 0], [0, 0]],
    ]
    np.testing.assert_allclose(linalg.matrix_exp(nbdl.tensor(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrix_exp_of_half_precision_is_that_of_float32_rounded(dtype: str):
    x = nbdl.tensor(A / 3).to(dtype)
    y = linalg.matrix_exp(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.float().numpy(), linalg.matrix_exp(x.float()).to(dtype).float().numpy())
    assert linalg.matrix_exp(x.requires_grad_()).sum().requires_grad


ERRORS = {
    "indefinite": (lambda x: linalg.cholesky(-x @ x.mT), linalg.LinAlgError, "leading minor of order 1"),
    "indefinite, batch": (
        lambda x: linalg.cholesky(nbdl.stack([x @ x.mT, -x @ x.mT])),
        linalg.LinAlgError,
        r"\(Batch element 1\)",
    ),
    "singular": (lambda x: linalg.inv(x * 0), linalg.LinAlgError, "The diagonal element 1 is zero"),
    "unsolvable": (lambda x: linalg.solve(x * 0, x), linalg.LinAlgError, "linalg.solve: The solver failed"),
    "not a number": (
        lambda x: linalg.eigvals(x * math.nan),
        linalg.LinAlgError,
        "eigvals: .*failed to converge",
    ),
    "not square": (
        lambda x: linalg.det(x[:2]),
        RuntimeError,
        "linalg.det: A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    "vector": (
        lambda x: linalg.inv(x[0]),
        RuntimeError,
        "linalg.inv: The input tensor A must have at least 2",
    ),
    "integers": (lambda x: linalg.svd(x.to("int64")), RuntimeError, "Expected a floating point or complex"),
    "half": (lambda x: linalg.qr(x.to("float16")), RuntimeError, "Low precision dtypes not supported"),
    "no tensor": (lambda x: linalg.eigh([[1.0]]), TypeError, "eigh.*must be Tensor, not list"),
    "shapes": (lambda x: linalg.solve(x, x[:2]), RuntimeError, "Incompatible shapes of A and B"),
    "dtypes": (lambda x: linalg.solve(x, x.float()), RuntimeError, "same dtype, got float64 and float32"),
    "triangle": (lambda x: linalg.eigh(x, "X"), RuntimeError, "Expected UPLO argument to be 'L' or 'U'"),
    "mode": (lambda x: linalg.qr(x, "full"), RuntimeError, "unrecognized mode 'full'"),
    "driver": (lambda x: linalg.lstsq(x, x, driver="svd"), RuntimeError, "parameter `driver`"),
    "order": (lambda x: linalg.matrix_norm(x, 3), RuntimeError, "Order 3 not supported"),
    "axes": (lambda x: linalg.matrix_norm(x, dim=(0, 0)), RuntimeError, "dims must be different"),
    "pivot": (lambda x: linalg.lu(x, pivot=False), RuntimeError, "without pivoting"),
    "cross": (lambda x: linalg.cross(x[:, :2], x[:, :2]), RuntimeError, "must have length 3"),
    "multi_dot": (lambda x: linalg.multi_dot([x]), RuntimeError, "expected at least 2 tensors"),
    "vander": (lambda x: linalg.vander(x, N=1), RuntimeError, "N must be greater than 1"),
    "vander of one": (lambda x: linalg.vander(x[0, :1]), RuntimeError, "N must be greater than 1, got 1"),
    "complete": (
        lambda x: linalg.qr(x.requires_grad_()[:, :2], "complete").Q.sum().backward(),
        RuntimeError,
        "derivative of mode='complete'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(A))


def test_errors_are_runtime_errors() -> None:
    assert issubclass(linalg.LinAlgError, RuntimeError)
