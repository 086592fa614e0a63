"""Cholesky, QR and LDL factorisations of batches of matrices, with derivatives of any order.

The rules are those of Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), Murray, "Differentiation of the Cholesky decomposition" (2016), and Roberts and
Roberts, "QR and LQ decomposition matrix backpropagation algorithms" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint
from nbdl.ops.joining import cat
from nbdl.ops.matrices import check_matrices, same_batch, total
from nbdl.ops.primitive import NOTHING, Primitive
from nbdl.ops.triangular import tril
from nbdl.ops.triangular_systems import solve_triangular

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node


# ----------------------------------------------------------------------------------------------- Cholesky
def _lower_half(x: Tensor) -> Tensor:
    """The lower triangle with half of the diagonal."""
    return (tril(x) + tril(x, -1)) * 0.5


class Cholesky(Primitive):
    """L and info; only the lower triangle is read.

    Args:
        label: the name in the error for a matrix that is not positive-definite; "": no error, see info.
    """

    name = "cholesky"
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def __init__(self, label: str):
        super().__init__(label=label)

    def is_differentiable_output(self, k: int) -> bool:
        """The factor only."""
        return k == 0

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """L^-H P(L^H g) L^-1 symmetrised, P taking the lower triangle and half of the diagonal (Murray)."""
        factor = node.output(0)
        inner = _lower_half(adjoint(factor) @ gradients[0])
        inner = solve_triangular(adjoint(factor), inner, upper=True)
        inner = solve_triangular(factor, inner, upper=False, left=False)
        return ((inner + adjoint(inner)) * 0.5,)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """L P(L^-1 dA L^-H)."""
        factor, dx = outputs[0], tangents[0]
        assert dx is not None
        change = tril(dx) + adjoint(tril(dx, -1))
        inner = solve_triangular(factor, change, upper=False)
        inner = solve_triangular(adjoint(factor), inner, upper=True, left=False)
        return factor @ _lower_half(inner), None


class CholeskyResult(NamedTuple):
    """The factor, and 0 or the order of the leading minor that is not positive-definite."""

    L: Tensor
    info: Tensor


def _cholesky(label: str, input: Tensor, upper: bool, checked: bool) -> CholeskyResult:
    check_matrices(label, input, square=True)
    factor, info = apply(Cholesky.of(label if checked else ""), adjoint(input) if upper else input)
    return CholeskyResult(adjoint(factor) if upper else factor, info)


def cholesky(input: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with L L^H = A, A being Hermitian and positive-definite.

    Args:
        input: A, (..., n, n); only one triangle is read; gradients are Hermitian.
        upper: give L^H instead, and read the upper triangle.

    Raises:
        LinAlgError: a matrix is not positive-definite.
        RuntimeError: matrices that are not square, or a dtype that is neither float nor complex.

    Example:
        >>> import nbdl
        >>> nbdl.linalg.cholesky(nbdl.tensor([[4.0, 2.0], [2.0, 5.0]]))
        tensor([[2., 0.],
                [1., 2.]])
    """
    return _cholesky("linalg.cholesky", input, upper, True).L


def cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False) -> CholeskyResult:
    """As :func:`cholesky`, and instead of an error the order of the minor that is not positive-definite.

    Returns:
        (L, info), info being 0 where all is well.
    """
    return _cholesky("linalg.cholesky_ex", input, upper, check_errors)


# ----------------------------------------------------------------------------------------------------- QR
class QR(Primitive):
    """Q and R.

    Args:
        mode: ``reduced`` or ``complete``.
    """

    name = "qr"
    saves_output = True

    batch = over_leading_axes

    def __init__(self, mode: str):
        super().__init__(mode=mode)
        self.mode = mode

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """(gQ + Q copyltu(R gR^H - gQ^H Q)) R^-H on the leading square part of R."""
        q, r = node.outputs
        self._check_differentiable(q, r)
        gq, gr = gradients
        m = q.shape[-2]
        if r.shape[-1] > m:  # A = [X Y], R = [U V], Y = Q V
            u, y = r[..., :m], node.input(0)[..., m:]
            gu, gv = (None, None) if gr is None else (gr[..., :m], gr[..., m:])
            if gv is not None:
                gq = total(gq, y @ adjoint(gv))
            gx = _qr_gradient(q, u, gq, gu)
            return (cat((gx, y.zeros_like() if gv is None else q @ gv), -1),)
        return (_qr_gradient(q, r, gq, gr),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """dQ = Q W + (I - Q Q^H) dA R^-1 with W the skew matrix that leaves dR = Q^H dA - W R triangular."""
        (q, r), dx = outputs, tangents[0]
        assert dx is not None
        self._check_differentiable(q, r)
        k = q.shape[-1]
        ratio = solve_triangular(r[..., :k], dx[..., :k], upper=True, left=False)
        inner = adjoint(q) @ ratio
        lower = tril(inner, -1)
        skew = lower - adjoint(lower)
        if q.is_complex():  # R keeps a real diagonal
            imaginary = (inner - adjoint(inner)).diagonal(0, -2, -1) * 0.5
            skew = skew + imaginary.diag_embed()
        return ratio - q @ (inner - skew), adjoint(q) @ dx - skew @ r

    def _check_differentiable(self, q: Tensor, r: Tensor) -> None:
        if self.mode == "complete" and q.shape[-2] > r.shape[-1]:
            raise RuntimeError(
                "linalg.qr: the derivative of mode='complete' is not defined for matrices with more rows "
                "than columns"
            )


def _qr_gradient(q: Tensor, r: Tensor, gq: Tensor | None, gr: Tensor | None) -> Tensor:
    """The rule for a square R (Roberts and Roberts, equation 3)."""
    inner = total(None if gr is None else r @ adjoint(gr), None if gq is None else -(adjoint(gq) @ q))
    assert inner is not None
    lower = _lower_half(inner)
    symmetric = lower + adjoint(lower)
    product = total(gq, q @ symmetric)
    assert product is not None
    return solve_triangular(adjoint(r), product, upper=False, left=False)


class QRResult(NamedTuple):
    """The orthonormal and the upper triangular factor."""

    Q: Tensor
    R: Tensor


def qr(A: Tensor, mode: str = "reduced") -> QRResult:
    """Q R = A, the columns of Q being orthonormal and R upper triangular.

    Args:
        A: (..., m, n).
        mode: ``reduced``: Q (..., m, k), R (..., k, n) with k = min(m, n); ``complete``: Q (..., m, m),
            R (..., m, n), without derivatives if m > n; ``r``: R of ``reduced`` and an empty Q.

    Raises:
        RuntimeError: another mode, or a dtype that is neither float nor complex.
    """
    check_matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"linalg.qr: received unrecognized mode {mode!r} but expected one of 'reduced', 'r', or "
            "'complete'"
        )
    q, r = apply(QR.of("complete" if mode == "complete" else "reduced"), A)
    return QRResult(A.new_zeros(0) if mode == "r" else q, r)


class Geqrf(Primitive):
    """The reflections that make a matrix triangular."""

    name = "geqrf"
    differentiable = False


class GeqrfResult(NamedTuple):
    """R above the reflections' vectors, and their factors."""

    a: Tensor
    tau: Tensor


def geqrf(input: Tensor) -> GeqrfResult:
    """The reflections whose product is Q, and R, as LAPACK packs them; without derivatives.

    Returns:
        a (..., m, n): R on and above the diagonal, the vectors below; tau (..., min(m, n)).
    """
    check_matrices("geqrf", input)
    return GeqrfResult(*apply(Geqrf.of(), input))


# ---------------------------------------------------------------------------------------------------- LDL
class LDL(Primitive):
    """L and D in one matrix, pivots and info; ``label`` as of :class:`nbdl.ops.lu_factors.LU`."""

    name = "ldl"
    differentiable = False

    def __init__(self, hermitian: bool, label: str = ""):
        super().__init__(hermitian=hermitian, label=label)


class SolveLDL(Primitive):
    """X of A X = B with the factors of A."""

    name = "ldl_solve"
    differentiable = False

    def __init__(self, hermitian: bool):
        super().__init__(hermitian=hermitian)


class LDLFactorResult(NamedTuple):
    """Both factors in one matrix, and LAPACK's pivots, from 1."""

    LD: Tensor
    pivots: Tensor


class LDLFactorExResult(NamedTuple):
    """As :class:`LDLFactorResult`, with 0 or the place of the first zero block of D, from 1."""

    LD: Tensor
    pivots: Tensor
    info: Tensor


def ldl_factor(A: Tensor, *, hermitian: bool = False) -> LDLFactorResult:
    """The factors of A = P L D L^T P^T, D having blocks of 1 and 2 rows; without derivatives.

    Args:
        A: (..., n, n), symmetric; only the lower triangle is read.
        hermitian: A = P L D L^H P^H of a complex A.

    Returns:
        LD (..., n, n) as LAPACK packs it; pivots (..., n), int32, negative for blocks of 2 rows.

    Raises:
        LinAlgError: a block of D is zero.
        RuntimeError: matrices that are not square, or of other dtypes.
    """
    check_matrices("linalg.ldl_factor", A, square=True)
    return LDLFactorResult(*apply(LDL.of(hermitian, "linalg.ldl_factor"), A)[:2])


def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> LDLFactorExResult:
    """As :func:`ldl_factor`, and instead of an error the place of the zero block, from 1."""
    check_matrices("linalg.ldl_factor_ex", A, square=True)
    return LDLFactorExResult(*apply(LDL.of(hermitian, "linalg.ldl_factor_ex" if check_errors else ""), A))


def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X of A X = B, A being given by :func:`ldl_factor`; without derivatives.

    Args:
        LD: (..., n, n).
        pivots: (..., n).
        B: (..., n, k); batches broadcast.
        hermitian: as for :func:`ldl_factor`.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    check_matrices("linalg.ldl_solve", LD, name="LD", square=True)
    check_matrices("linalg.ldl_solve", B, name="B")
    LD, B = same_batch("linalg.ldl_solve", LD, B)
    return apply(SolveLDL.of(hermitian), LD, pivots.expand(LD.shape[:-1]), B)
