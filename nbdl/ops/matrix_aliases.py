"""Linear algebra under the names that PyTorch has outside of ``torch.linalg``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.ops import (
    factorizations,
    lu_factors,
    matrix_functions,
    reflections,
    solving,
    spectra,
    triangular_systems,
)
from nbdl.ops.complex_numbers import adjoint
from nbdl.ops.determinants import det, logdet, slogdet
from nbdl.ops.factorizations import geqrf
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.lu_factors import lu_unpack
from nbdl.ops.matrix_functions import matrix_exp, matrix_power
from nbdl.ops.reflections import ormqr
from nbdl.ops.solving import cholesky_inverse, cholesky_solve

__all__ = [
    "chain_matmul", "cholesky", "cholesky_inverse", "cholesky_solve", "det", "frobenius_norm", "geqrf",
    "inverse", "logdet", "lu", "lu_solve", "lu_unpack", "matrix_exp", "matrix_power", "nuclear_norm", "orgqr",
    "ormqr", "pinverse", "qr", "slogdet", "svd", "triangular_solve",
]  # fmt: skip


class TriangularSolveResult(NamedTuple):
    """The solution, and the matrix."""

    solution: Tensor
    cloned_coefficient: Tensor


def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """:func:`nbdl.linalg.cholesky`."""
    return factorizations.cholesky(input, upper=upper)


def inverse(input: Tensor) -> Tensor:
    """:func:`nbdl.linalg.inv`."""
    return solving.inv(input)


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """:func:`nbdl.linalg.pinv`; singular values up to ``rcond`` times the largest count as 0."""
    return solving.pinv(input, rtol=rcond)


def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """:func:`nbdl.linalg.lu_solve` with the right-hand side first."""
    return lu_factors.lu_solve(LU_data, LU_pivots, b)


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
    """:func:`nbdl.linalg.lu_factor`; with ``get_infos`` also the places of zeros on the diagonals of U."""
    factors = lu_factors.lu_factor_ex(A, pivot=pivot)
    return tuple(factors) if get_infos else tuple(factors[:2])


def qr(input: Tensor, some: bool = True) -> factorizations.QRResult:
    """:func:`nbdl.linalg.qr`; ``some``: reduced."""
    return factorizations.qr(input, "reduced" if some else "complete")


class SVDResult(NamedTuple):
    """Left vectors, singular values and right vectors, both as columns."""

    U: Tensor
    S: Tensor
    V: Tensor


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVDResult:
    """:func:`nbdl.linalg.svd` with V in place of V^H; ``some``: reduced; else zeros unless ``compute_uv``."""
    if not compute_uv:
        m, n = input.shape[-2:]
        return SVDResult(
            input.new_zeros(*input.shape[:-2], m, m),
            spectra.svdvals(input),
            input.new_zeros(*input.shape[:-2], n, n),
        )
    u, s, vh = spectra.svd(input, not some)
    return SVDResult(u, s, adjoint(vh))


def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> TriangularSolveResult:
    """:func:`nbdl.linalg.solve_triangular` with the right-hand side first; ``transpose``: A^T X = b."""
    matrix = A.transpose(-2, -1) if transpose else A
    solution = triangular_systems.solve_triangular(
        matrix, b, upper=upper != transpose, unitriangular=unitriangular
    )
    return TriangularSolveResult(solution, A)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """:func:`nbdl.linalg.multi_dot`; one matrix is its own product."""
    return matrices[0] if len(matrices) == 1 else matrix_functions.multi_dot(matrices)


def orgqr(input: Tensor, tau: Tensor) -> Tensor:
    """:func:`nbdl.linalg.householder_product`."""
    return reflections.householder_product(input, tau)


@numpy_keywords
def frobenius_norm(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The 2-norm of all elements over ``dim``."""
    return matrix_functions.vector_norm(input, 2, dim, keepdim)


@numpy_keywords
def nuclear_norm(input: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """The sum of singular values."""
    return matrix_functions.matrix_norm(input, "nuc", (-2, -1) if dim is None else tuple(dim), keepdim)
