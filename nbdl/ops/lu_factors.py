"""LU factorisation of batches of matrices, with derivatives of any order (Giles 2008)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint
from nbdl.ops.complex_numbers import adjoint as conjugated
from nbdl.ops.creation import arange, eye
from nbdl.ops.joining import cat
from nbdl.ops.matrices import check_matrices, same_batch
from nbdl.ops.primitive import NOTHING, Primitive
from nbdl.ops.scattering import take_along_dim
from nbdl.ops.sorting import argsort
from nbdl.ops.triangular import tril, triu
from nbdl.ops.triangular_systems import solve_triangular

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node


class LU(Primitive):
    """L and U in one matrix, pivots, info, and the order of the rows: A[order] = L U.

    Args:
        label: the name in the error for a singular matrix; "": no error, see info.
    """

    name = "lu"
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def __init__(self, label: str = ""):
        super().__init__(label=label)

    def is_differentiable_output(self, k: int) -> bool:
        """The factors only."""
        return k == 0

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The square part by Giles; what sticks out on the right or below follows from the square factors."""
        packed, _, _, order = node.outputs
        g = gradients[0]
        assert g is not None
        m, n = packed.shape[-2:]
        k = min(m, n)
        square = packed[..., :k, :k]
        gl, gu = tril(g[..., :k, :k], -1), triu(g[..., :k, :k])
        left, right = tril(square, -1), triu(square)
        lower = gl + adjoint(left) @ gl  # L^H gL; L has ones on its diagonal
        upper = gu @ adjoint(right)
        if m > n:
            upper = upper - adjoint(packed[..., k:, :]) @ g[..., k:, :]
        if n > m:
            lower = lower - g[..., k:] @ adjoint(packed[..., k:])
        inner = tril(lower, -1) + triu(upper)
        inner = solve_triangular(adjoint(right), inner, upper=False, left=False)
        result = solve_triangular(adjoint(square), inner, upper=True, unitriangular=True)
        if m > n:
            below = solve_triangular(adjoint(right), g[..., k:, :], upper=False, left=False)
            result = cat((result, below), -2)
        if n > m:
            beside = solve_triangular(adjoint(square), g[..., k:], upper=True, unitriangular=True)
            result = cat((result, beside), -1)
        return (_rows(result, argsort(order)),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """With F = L^-1 dA U^-1: dL = L tril(F, -1), dU = triu(F) U, on the square part."""
        packed, _, _, order = outputs
        dx = tangents[0]
        assert dx is not None
        dx = _rows(dx, order)
        m, n = packed.shape[-2:]
        k = min(m, n)
        square = packed[..., :k, :k]
        left, right = tril(square, -1), triu(square)
        inner = solve_triangular(square, dx[..., :k, :k], upper=False, unitriangular=True)
        inner = solve_triangular(right, inner, upper=True, left=False)
        strict = tril(inner, -1)
        dl, du = strict + left @ strict, triu(inner) @ right
        result = dl + du
        if m > n:
            below = dx[..., k:, :] - packed[..., k:, :] @ du
            result = cat((result, solve_triangular(right, below, upper=True, left=False)), -2)
        if n > m:
            beside = dx[..., k:] - dl @ packed[..., k:]
            beside = solve_triangular(square, beside, upper=False, unitriangular=True)
            result = cat((result, beside), -1)
        return result, None, None, None


class RowOrder(Primitive):
    """Where rows were before the exchanges that LAPACK's pivots describe."""

    name = "row_order"
    differentiable = False

    def __init__(self, rows: int):
        super().__init__(rows=rows)


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """The rows of matrices in another order."""
    return take_along_dim(x, order.unsqueeze(-1).expand(x.shape), -2)


def _permutation(order: Tensor, like: Tensor) -> Tensor:
    """The matrices P with (P^T A)[i] = A[order[i]]."""
    rows = arange(order.shape[-1], device=order.device)
    return order.unsqueeze(-2).eq(rows.unsqueeze(-1)).to(like.dtype)


class LUFactorResult(NamedTuple):
    """Both factors in one matrix, and LAPACK's pivots, from 1."""

    LU: Tensor
    pivots: Tensor


class LUFactorExResult(NamedTuple):
    """As :class:`LUFactorResult`, with 0 or the place of the first zero on U's diagonal, from 1."""

    LU: Tensor
    pivots: Tensor
    info: Tensor


class PLUResult(NamedTuple):
    """The permutation, the lower and the upper factor."""

    P: Tensor
    L: Tensor
    U: Tensor


def _check_lu(label: str, input: Tensor, pivot: bool) -> None:
    check_matrices(label, input)
    if not pivot:
        raise RuntimeError(f"{label}: LU without pivoting is not implemented")


def lu_factor(input: Tensor, *, pivot: bool = True) -> LUFactorResult:
    """L and U of A = P L U in one matrix, L without its diagonal of ones.

    Args:
        input: A, (..., m, n).
        pivot: must be True.

    Returns:
        (LU, pivots): pivots (..., min(m, n)), int32: at step i row i was exchanged with row pivots[i] - 1.

    Raises:
        RuntimeError: ``pivot`` is False, or a dtype that is neither float nor complex.
    """
    _check_lu("linalg.lu_factor", input, pivot)
    return LUFactorResult(*apply(LU.of(), input)[:2])


def lu_factor_ex(input: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LUFactorExResult:
    """As :func:`lu_factor`, with ``info``: 0, or the place of the first zero on U's diagonal, from 1.

    Raises:
        LinAlgError: ``check_errors``, and a matrix is singular.
        RuntimeError: as :func:`lu_factor`.
    """
    _check_lu("linalg.lu_factor_ex", input, pivot)
    packed, pivots, info, _ = apply(LU.of("linalg.lu_factor_ex" if check_errors else ""), input)
    return LUFactorExResult(packed, pivots, info)


def lu(input: Tensor, *, pivot: bool = True) -> PLUResult:
    """P, L and U with A = P L U.

    Args:
        input: A, (..., m, n).
        pivot: must be True.

    Returns:
        P (..., m, m), L (..., m, k) with ones on the diagonal, U (..., k, n); k = min(m, n).

    Raises:
        RuntimeError: as :func:`lu_factor`.
    """
    _check_lu("linalg.lu", input, pivot)
    packed, _, _, order = apply(LU.of(), input)
    return PLUResult(_permutation(order, packed), *_triangles(packed))


def _triangles(packed: Tensor) -> tuple[Tensor, Tensor]:
    """L with ones on its diagonal, and U."""
    m, n = packed.shape[-2:]
    k = min(m, n)
    return tril(packed[..., :k], -1) + eye(m, k, dtype=packed.dtype, device=packed.device), triu(
        packed[..., :k, :]
    )


def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> PLUResult:
    """P, L and U from what :func:`lu_factor` gave; what is not asked for is an empty tensor."""
    empty = LU_data.new_zeros(0)
    lower, upper = _triangles(LU_data) if unpack_data else (empty, empty)
    order = apply(RowOrder.of(LU_data.shape[-2]), LU_pivots) if unpack_pivots else None
    return PLUResult(empty if order is None else _permutation(order, LU_data), lower, upper)


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X of A X = B, A being given by :func:`lu_factor`.

    Args:
        LU: (..., n, n).
        pivots: (..., n).
        B: (..., n, k), or (..., k, n) if not ``left``; batches broadcast.
        left: False: X A = B.
        adjoint: A^H in place of A.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    check_matrices("linalg.lu_solve", LU, square=True)
    if not left:  # X A = B is A^H X^H = B^H
        return conjugated(lu_solve(LU, pivots, conjugated(B), adjoint=not adjoint))
    order = apply(RowOrder.of(LU.shape[-1]), pivots)
    if adjoint:  # A^H = U^H L^H P^T
        x = solve_triangular(conjugated(LU), B, upper=False)
        x = solve_triangular(conjugated(LU), x, upper=True, unitriangular=True)
        order = argsort(order)
        return _rows(x, order.expand((*x.shape[:-2], order.shape[-1])))
    LU, B = same_batch("linalg.lu_solve", LU, B)
    x = _rows(B, order.expand((*B.shape[:-2], order.shape[-1])))
    x = solve_triangular(LU, x, upper=False, unitriangular=True)
    return solve_triangular(LU, x, upper=True)
