"""Calls of linalg whose values and derivatives are checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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
