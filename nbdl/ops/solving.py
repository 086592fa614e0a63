"""Linear systems: solve, inverse, pseudoinverse, least squares.

The rules are those of Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), and for the pseudoinverse of Golub and Pereyra, "The differentiation of
pseudo-inverses and nonlinear least squares problems whose variables separate" (1973), equation 4.12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.backend.numpy.decompositions import SINGULAR, UNSOLVABLE, complain
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint
from nbdl.ops.creation import eye
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.matrices import check_matrices, same_batch, total
from nbdl.ops.primitive import EVERYTHING, NOTHING, Primitive
from nbdl.ops.shape import narrow
from nbdl.ops.triangular_systems import solve_triangular
from nbdl.ops.type_rules import finfo

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node


# ------------------------------------------------------------------------------------------------- solve
class _System(Primitive):
    """What fails if a matrix is singular."""

    message: ClassVar[str]

    def check_values(self, *arrays: Any) -> None:
        """LAPACK's error for the first singular matrix, which the kernel that failed can name."""
        if registry.is_loaded("numba"):
            _, info = registry.load("numba").execute(type(self).of(""), arrays)
            complain(self.params["label"], self.message, info)


class Solve(_System):
    """X of A X = B, and info.

    Args:
        label: the name in the error for a singular matrix; "": no error, see info.
    """

    name = "solve"
    message = UNSOLVABLE
    saved = frozenset((0,))
    saves_output = True

    batch = over_leading_axes

    def __init__(self, label: str):
        super().__init__(label=label)

    def is_differentiable_output(self, k: int) -> bool:
        """The solution only."""
        return k == 0

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """gB = A^-H g, gA = -gB X^H."""
        assert gradients[0] is not None
        gb, _ = apply(self, adjoint(node.input(0)), gradients[0])
        return -(gb @ adjoint(node.output(0))) if node.needs_grad(0) else None, gb

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """A^-1 (dB - dA X)."""
        da, db = tangents
        change = total(db, None if da is None else -(da @ outputs[0]))
        assert change is not None
        return apply(self, inputs[0], change)[0], None


class SolveExResult(NamedTuple):
    """The solution, and 0 or the place of a zero on the diagonal of U."""

    result: Tensor
    info: Tensor


def _is_vector(A: Tensor, B: Tensor) -> bool:
    """Whether B is one vector for each of the matrices A."""
    rows = tuple(A.array.shape[:-1])
    return B.array.ndim == 1 or (B.array.ndim == A.array.ndim - 1 and tuple(B.array.shape) == rows)


def _solve(label: str, A: Tensor, B: Tensor, left: bool, checked: bool) -> SolveExResult:
    check_matrices(label, A, square=True)
    is_vector = _is_vector(A, B)
    columns = B.unsqueeze(-1) if is_vector else B
    check_matrices(label, columns, name="B")
    if A.array.shape[-1] != columns.array.shape[-2 if left else -1]:
        raise RuntimeError(
            f"{label}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
            f"({tuple(A.array.shape[-2:])} and {tuple(columns.array.shape[-2:])})"
        )
    if not left:
        result, info = apply(
            Solve.of(label if checked else ""),
            *same_batch(label, A.transpose(-2, -1), columns.transpose(-2, -1)),
        )
        return SolveExResult(result.transpose(-2, -1), info)
    result, info = apply(Solve.of(label if checked else ""), *same_batch(label, A, columns))
    return SolveExResult(result.squeeze(-1) if is_vector else result, info)


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X of A X = B.

    Args:
        A: (..., n, n).
        B: (..., n, k), batches broadcast; or (..., n), a vector for each matrix.
        left: False: X A = B.

    Returns:
        X of the shape of B, broadcast.

    Raises:
        LinAlgError: a matrix is singular.
        RuntimeError: shapes or dtypes do not fit.

    Example:
        >>> import nbdl
        >>> nbdl.linalg.solve(nbdl.tensor([[2.0, 0.0], [0.0, 4.0]]), nbdl.tensor([2.0, 2.0]))
        tensor([1.0000, 0.5000])
    """
    return _solve("linalg.solve", A, B, left, True).result


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> SolveExResult:
    """As :func:`solve`, and instead of an error the place of the zero on U's diagonal, from 1.

    Returns:
        (result, info), info being 0 where all is well, and result NaN elsewhere.
    """
    return _solve("linalg.solve_ex", A, B, left, check_errors)


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X of A X = B, A = L L^H being given by its Cholesky factor.

    Args:
        B: (..., n, k).
        L: (..., n, n), triangular.
        upper: the factor is L^H.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    lower = adjoint(L) if upper else L
    return solve_triangular(adjoint(lower), solve_triangular(lower, B, upper=False), upper=True)


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A = L L^H, given by its Cholesky factor; ``upper``: the factor is L^H."""
    return cholesky_solve(eye(L.shape[-1], dtype=L.dtype, device=L.device), L, upper)


# ----------------------------------------------------------------------------------------------- inverse
class Inverse(_System):
    """The inverse, and info; ``label`` as of :class:`Solve`."""

    name = "inverse"
    message = SINGULAR
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def __init__(self, label: str):
        super().__init__(label=label)

    def is_differentiable_output(self, k: int) -> bool:
        """The inverse only."""
        return k == 0

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """-X^H g X^H."""
        x = adjoint(node.output(0))
        return (-(x @ gradients[0] @ x),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """-X dA X."""
        return -(outputs[0] @ tangents[0] @ outputs[0]), None


class InverseExResult(NamedTuple):
    """The inverse, and 0 or the place of a zero on the diagonal of U."""

    inverse: Tensor
    info: Tensor


def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices; to multiply by it, :func:`solve` is faster and more exact.

    Raises:
        LinAlgError: a matrix is singular.
        RuntimeError: matrices that are not square, or a dtype that is neither float nor complex.
    """
    check_matrices("linalg.inv", A, square=True)
    return apply(Inverse.of("linalg.inv"), A)[0]


def inv_ex(A: Tensor, *, check_errors: bool = False) -> InverseExResult:
    """As :func:`inv`, and instead of an error the place of the zero on U's diagonal, from 1.

    Returns:
        (inverse, info), info being 0 where all is well, and inverse NaN elsewhere.
    """
    check_matrices("linalg.inv_ex", A, square=True)
    return InverseExResult(*apply(Inverse.of("linalg.inv_ex" if check_errors else ""), A))


# ----------------------------------------------------------------------------------- pseudoinverse and fits
class PseudoInverse(Primitive):
    """The pseudoinverse P; its rank must not change where it is differentiated.

    Args:
        atol: singular values up to it count as 0.
        rtol: so do those up to ``rtol`` times the largest.
        hermitian: the matrices are Hermitian.
    """

    name = "pinverse"
    saves_output = True

    batch = over_leading_axes

    def __init__(self, atol: float, rtol: float, hermitian: bool = False):
        super().__init__(atol=atol, rtol=rtol, hermitian=hermitian)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """See :func:`_pinverse_gradient`."""
        assert gradients[0] is not None
        return (_pinverse_gradient(node.input(0), node.output(), gradients[0]),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """-P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P (Golub and Pereyra)."""
        assert tangents[0] is not None
        return (_pinverse_tangent(inputs[0], outputs[0], tangents[0]),)


def _pinverse_tangent(a: Tensor, p: Tensor, da: Tensor) -> Tensor:
    ph, dah = adjoint(p), adjoint(da)
    right = p @ (ph @ dah)
    left = (dah @ ph) @ p
    return right - (right @ a) @ p + left - p @ (a @ left) - p @ da @ p


def _pinverse_gradient(a: Tensor, p: Tensor, g: Tensor) -> Tensor:
    """The adjoint of :func:`_pinverse_tangent`."""
    ph, gh = adjoint(p), adjoint(g)
    right = (gh @ p) @ ph
    left = ph @ (p @ gh)
    return right - a @ (p @ right) + left - (left @ p) @ a - ph @ g @ ph


def _tolerances(A: Tensor, atol: float | None, rtol: float | None) -> tuple[float, float]:
    """Both tolerances; the relative one is the larger side times eps if none is given."""
    if rtol is None:
        rtol = 0.0 if atol else max(A.array.shape[-2:]) * finfo(A.real.dtype).eps
    return float(atol or 0.0), float(rtol)


def pinv(
    A: Tensor, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Tensor:
    """The Moore-Penrose pseudoinverse.

    Args:
        A: (..., m, n).
        atol: singular values up to it count as 0; None: 0.
        rtol: so do those up to ``rtol`` times the largest; None: max(m, n) * eps, or 0 if ``atol`` is given.
        hermitian: the matrices are Hermitian.

    Returns:
        (..., n, m)

    Raises:
        RuntimeError: a dtype that is neither float nor complex, or Hermitian matrices that are not square.
    """
    check_matrices("linalg.pinv", A, square=hermitian)
    return apply(PseudoInverse.of(*_tolerances(A, atol, rtol), hermitian), A)


class LeastSquares(Primitive):
    """The smallest X with the smallest |A X - B|; ranks; singular values."""

    name = "least_squares"
    saved = EVERYTHING

    def __init__(self, rcond: float, driver: str):
        super().__init__(rcond=rcond, driver=driver)
        self.rcond = rcond

    def is_differentiable_output(self, k: int) -> bool:
        """The solution only."""
        return k == 0

    def _pinverse(self, a: Tensor) -> Tensor:
        return apply(PseudoInverse.of(0.0, self.rcond), a)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """As of P B with P the pseudoinverse of A."""
        (a, b), g = node.inputs, gradients[0]
        assert g is not None
        p = self._pinverse(a)
        return _pinverse_gradient(a, p, g @ adjoint(b)) if node.needs_grad(0) else None, adjoint(p) @ g

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """dP B + P dB."""
        (a, b), (da, db) = inputs, tangents
        p = self._pinverse(a)
        by_a = None if da is None else _pinverse_tangent(a, p, da) @ b
        return total(by_a, None if db is None else p @ db), None, None


class LstsqResult(NamedTuple):
    """The solution, squared lengths of the columns of A X - B, ranks and singular values."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> LstsqResult:
    """X that minimises |A X - B|, and of those the smallest one.

    Args:
        A: (..., m, n).
        B: (..., m, k), batches broadcast; or (..., m), a vector for each matrix.
        rcond: singular values up to ``rcond`` times the largest count as 0; None: max(m, n) * eps.
        driver: LAPACK's ``gelsy`` (None), ``gels`` (full rank is taken for granted), ``gelsd``, ``gelss``.

    Returns:
        solution (..., n, k); residuals (..., k), empty unless m > n and all matrices have full rank, and
        with ``gelsy``; rank (...), empty with ``gels``; singular_values (..., min(m, n)), empty but with
        ``gelsd`` and ``gelss``.

    Raises:
        RuntimeError: another driver, or shapes or dtypes do not fit.
    """
    check_matrices("linalg.lstsq", A)
    driver = driver or "gelsy"
    if driver not in ("gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(
            f"linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss), got {driver!r}"
        )
    m, n = A.array.shape[-2:]
    is_vector = _is_vector(A, B)
    columns = B.unsqueeze(-1) if is_vector else B
    if columns.array.ndim < 2 or columns.array.shape[-2] != m:
        raise RuntimeError(
            f"linalg.lstsq: input.size(-2) should match other.size(-2), got {m} and shape "
            f"{tuple(B.array.shape)}"
        )
    A, columns = same_batch("linalg.lstsq", A, columns)
    tolerance = _tolerances(A, None, None)[1] if rcond is None else float(rcond)
    solution, rank, values = apply(LeastSquares.of(tolerance, driver), A, columns)
    residuals = narrow(solution.abs().reshape(-1), 0, 0, 0)
    if m > n and driver != "gelsy" and (driver == "gels" or bool((rank == n).all())):
        residuals = (A @ solution - columns).abs().square().sum(-2)
    return LstsqResult(
        solution.squeeze(-1) if is_vector else solution,
        residuals,
        rank.new_zeros(0) if driver == "gels" else rank,
        values if driver in ("gelsd", "gelss") else values.new_zeros(0),
    )


@numpy_keywords
def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """X of tensordot(A, X, X.ndim) = B.

    Args:
        A: of a shape B.shape + X.shape, after ``dims`` were moved to its end.
        B: any shape.
        dims: axes of A that are moved to the end first.

    Raises:
        RuntimeError: the elements do not make a square system, or it is singular (LinAlgError).
    """
    if dims is not None:
        rest = [axis for axis in range(A.array.ndim) if axis not in [d % A.array.ndim for d in dims]]
        A = A.permute((*rest, *dims))
    shape = tuple(A.array.shape[B.array.ndim :])
    columns = math.prod(shape)
    if columns != B.array.size:
        raise RuntimeError(
            "linalg.tensorsolve: Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {columns} != {B.array.size}"
        )
    return solve(A.reshape(columns, columns), B.reshape(-1)).reshape(shape)


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse for tensordot with ``ind`` axes: tensordot(tensorinv(A), A, ind) is the identity.

    Raises:
        RuntimeError: ``ind`` is not positive, or the elements do not make a square matrix.
    """
    if ind <= 0:
        raise RuntimeError(f"linalg.tensorinv: Expected a strictly positive integer for 'ind', got {ind}")
    first, last = tuple(A.array.shape[:ind]), tuple(A.array.shape[ind:])
    rows, columns = math.prod(first), math.prod(last)
    if rows != columns:
        raise RuntimeError(
            "linalg.tensorinv: Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            f"prod(self.shape[:ind]), but got {columns} != {rows}"
        )
    return inv(A.reshape(rows, columns)).reshape((*last, *first))
