"""Eigenvalues and singular values of batches of matrices, with derivatives of any order.

The rules are those of Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), Townsend, "Differentiating the singular value decomposition" (2016), and Boeddeker et
al., "On the computation of complex-valued gradients" (2017). Vectors have derivatives only where their values
are distinct, and only functions that do not depend on their phases have one that means something.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor, made
from nbdl.backend.device import device_of, module_for
from nbdl.formula import Formula
from nbdl.formula.functions import where
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint, conj, imag, is_complex
from nbdl.ops.matrices import check_matrices, total
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import NOTHING, Primitive
from nbdl.ops.solving import solve
from nbdl.ops.triangular import diag_embed

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

_RATIO = Formula("off_diagonal_ratio", lambda x, gap, diagonal: where(diagonal, 0, x / gap), 3)


def _over_gaps(x: Tensor, values: Tensor) -> Tensor:
    """x[i, j] / (values[j] - values[i]), 0 on the diagonal."""
    diagonal = made(module_for(device_of(x.array)).eye(values.shape[-1], dtype=bool))
    return call(_RATIO, x, values.unsqueeze(-2) - values.unsqueeze(-1), diagonal)


def _diagonal(x: Tensor) -> Tensor:
    return x.diagonal(0, -2, -1)


# ------------------------------------------------------------------------------------- Hermitian matrices
class Eigh(Primitive):
    """Eigenvalues in rising order and eigenvectors; ``upper``: which triangle is read."""

    name = "eigh"
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def __init__(self, upper: bool):
        super().__init__(upper=upper)
        self.upper = upper

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """V (S / (w_j - w_i) + diag(gw)) V^H, where S is the skew-Hermitian part of V^H gV.

        The Hermitian part would move the matrix out of the Hermitian ones, where nothing is defined.
        """
        w, v = node.outputs
        gw, gv = gradients
        inner = total(
            None if gv is None else _over_gaps(_skew(adjoint(v) @ gv) / 2, w),
            None if gw is None else diag_embed(gw).to(v.dtype),
        )
        return (v @ inner @ adjoint(v),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """With D = V^H dA V: the diagonal of D, and V (D / (w_j - w_i))."""
        (w, v), da = outputs, tangents[0]
        assert da is not None
        change = adjoint(v) @ _from_triangle(da, self.upper) @ v
        return _diagonal(change).real, v @ _over_gaps(change, w)


class Eigvalsh(Primitive):
    """Eigenvalues in rising order; ``upper``: which triangle is read."""

    name = "eigvalsh"

    batch = over_leading_axes

    def __init__(self, upper: bool):
        super().__init__(upper=upper)
        self.upper = upper

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """V diag(g) V^H."""
        assert gradients[0] is not None
        _, v = apply(Eigh.of(self.upper), node.input(0))
        return ((v * gradients[0].unsqueeze(-2)) @ adjoint(v),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The diagonal of V^H dA V."""
        assert tangents[0] is not None
        _, v = apply(Eigh.of(self.upper), inputs[0])
        return (_diagonal(adjoint(v) @ _from_triangle(tangents[0], self.upper) @ v).real,)


def _from_triangle(x: Tensor, upper: bool) -> Tensor:
    """The Hermitian matrix with a triangle of ``x``."""
    lower = adjoint(x) if upper else x
    return lower.tril() + adjoint(lower.tril(-1))


class EighResult(NamedTuple):
    """Values in rising order, and vectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EigResult(NamedTuple):
    """Values, and vectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def _reads_upper(label: str, UPLO: str) -> bool:
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"{label}: Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return UPLO.upper() == "U"


def eigh(A: Tensor, UPLO: str = "L") -> EighResult:
    """Eigenvalues and orthonormal eigenvectors of Hermitian matrices.

    Args:
        A: (..., n, n); only one triangle is read; gradients are those of a Hermitian matrix.
        UPLO: ``L``: the lower triangle, ``U``: the upper one.

    Returns:
        eigenvalues (..., n), real, in rising order; eigenvectors (..., n, n) as columns.

    Raises:
        LinAlgError: the algorithm did not converge.
        RuntimeError: another UPLO, matrices that are not square, or of other dtypes.

    Example:
        >>> import nbdl
        >>> nbdl.linalg.eigh(nbdl.tensor([[2.0, 1.0], [1.0, 2.0]])).eigenvalues
        tensor([1., 3.])
    """
    check_matrices("linalg.eigh", A, square=True)
    return EighResult(*apply(Eigh.of(_reads_upper("linalg.eigh", UPLO)), A))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices, see :func:`eigh`; their derivatives exist always."""
    check_matrices("linalg.eigvalsh", A, square=True)
    return apply(Eigvalsh.of(_reads_upper("linalg.eigvalsh", UPLO)), A)


# --------------------------------------------------------------------------------------- square matrices
class Eig(Primitive):
    """Complex eigenvalues, and eigenvectors of length 1."""

    name = "eig"
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """V^-H (M / conj(w_j - w_i) + diag(gw)) V^H, M = V^H gV - V^H V Re diag(V^H gV) (Boeddeker, 4.77)."""
        w, v = node.outputs
        gw, gv = gradients
        vh = adjoint(v)
        inner = None if gw is None else diag_embed(gw)
        if gv is not None:
            change = vh @ gv
            change = change - (vh @ v) * _diagonal(change).real.unsqueeze(-2)
            inner = total(_over_gaps(change, conj(w)), inner)
        return (solve(vh, inner @ vh),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """With D = V^-1 dA V: its diagonal, and V (D / (w_j - w_i)) without what changes lengths."""
        (w, v), da = outputs, tangents[0]
        assert da is not None
        change = solve(v, da.to(v.dtype) @ v)
        turned = v @ _over_gaps(change, w)
        stretched = (conj(v) * turned).sum(-2, keepdim=True).real
        return _diagonal(change), turned - v * stretched


class Eigvals(Primitive):
    """Complex eigenvalues."""

    name = "eigvals"

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """V^-H diag(g) V^H."""
        assert gradients[0] is not None
        _, v = apply(Eig.of(), node.input(0))
        vh = adjoint(v)
        return (solve(vh, gradients[0].unsqueeze(-1) * vh),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The diagonal of V^-1 dA V."""
        assert tangents[0] is not None
        _, v = apply(Eig.of(), inputs[0])
        return (_diagonal(solve(v, tangents[0].to(v.dtype) @ v)),)


def eig(A: Tensor) -> EigResult:
    """Eigenvalues and eigenvectors of square matrices, complex in any case, in no particular order.

    Args:
        A: (..., n, n), real or complex.

    Returns:
        eigenvalues (..., n); eigenvectors (..., n, n), columns of length 1.

    Raises:
        LinAlgError: the algorithm did not converge.
        RuntimeError: matrices that are not square, or of other dtypes.
    """
    check_matrices("linalg.eig", A, square=True)
    return EigResult(*apply(Eig.of(), A))


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of square matrices, see :func:`eig`."""
    check_matrices("linalg.eigvals", A, square=True)
    return apply(Eigvals.of(), A)


# --------------------------------------------------------------------------------------- singular values
class SVD(Primitive):
    """U, S, V^H; ``full``: U and V are square."""

    name = "svd"
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def __init__(self, full: bool):
        super().__init__(full=full)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Townsend's rule; of complex vectors the phases follow U."""
        u, s, vh = node.outputs
        gu, gs, gvh = gradients
        k = s.shape[-1]
        # The vectors that complete the bases depend on nothing.
        u, vh = u[..., :k], vh[..., :k, :]
        squares, values = s * s, s.to(u.dtype)
        inner = None if gs is None else diag_embed(gs).to(u.dtype)
        if gu is not None:
            gu = gu[..., :k]
            turn = _skew(adjoint(u) @ gu)
            inner = total(inner, _over_gaps(turn, squares) * values.unsqueeze(-2))
            if is_complex(u):
                inner = total(inner, diag_embed(_diagonal(turn) * 0.5 / values))
        if gvh is not None:
            gvh = gvh[..., :k, :]
            inner = total(inner, values.unsqueeze(-1) * _over_gaps(_skew(vh @ adjoint(gvh)), squares))
        assert inner is not None
        result = u @ inner @ vh
        if gu is not None and u.shape[-2] > k:
            scaled = gu / values.unsqueeze(-2)
            result = result + (scaled - u @ (adjoint(u) @ scaled)) @ vh
        if gvh is not None and vh.shape[-1] > k:
            scaled = gvh / values.unsqueeze(-1)
            result = result + u @ (scaled - (scaled @ adjoint(vh)) @ vh)
        return (result,)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Townsend's equations 14 to 17."""
        (u, s, vh), da = outputs, tangents[0]
        assert da is not None
        k = s.shape[-1]
        if u.shape[-1] > k or vh.shape[-2] > k:
            raise RuntimeError(
                "linalg.svd: forward mode needs full_matrices=False: the vectors that complete the bases are "
                "not determined"
            )
        squares, values = s * s, s.to(u.dtype)
        change = adjoint(u) @ da @ adjoint(vh)
        scaled = change * values.unsqueeze(-2)
        du = u @ _over_gaps(scaled + adjoint(scaled), squares)
        scaled = values.unsqueeze(-1) * change
        dv = adjoint(vh) @ _over_gaps(scaled + adjoint(scaled), squares)
        if is_complex(u):
            du = du + u * (imag(_diagonal(change)) / s * 1j).unsqueeze(-2)
        if u.shape[-2] > k:
            rest = (da @ adjoint(vh)) / values.unsqueeze(-2)
            du = du + rest - u @ (adjoint(u) @ rest)
        if vh.shape[-1] > k:
            rest = (adjoint(da) @ u) / values.unsqueeze(-2)
            dv = dv + rest - adjoint(vh) @ (vh @ rest)
        return du, _diagonal(change).real, adjoint(dv)


class SingularValues(Primitive):
    """The singular values in falling order."""

    name = "singular_values"

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """U diag(g) V^H."""
        assert gradients[0] is not None
        u, _, vh = apply(SVD.of(False), node.input(0))
        return ((u * gradients[0].unsqueeze(-2)) @ vh,)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The real diagonal of U^H dA V."""
        u, _, vh = apply(SVD.of(False), inputs[0])
        return (_diagonal(adjoint(u) @ tangents[0] @ adjoint(vh)).real,)


def _skew(x: Tensor) -> Tensor:
    return x - adjoint(x)


class SVDResult(NamedTuple):
    """Left vectors as columns, singular values, right vectors as rows."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> SVDResult:
    """U diag(S) V^H = A.

    Args:
        A: (..., m, n).
        full_matrices: U (..., m, m) and V^H (..., n, n); else (..., m, k) and (..., k, n) with k = min(m, n).
        driver: accepted; it chooses an algorithm of cuSOLVER in PyTorch.

    Returns:
        S (..., k) is real, in falling order. Gradients of vectors exist where singular values are distinct
        (and, unless A is square, not 0), and are those of a result that does not depend on phases.

    Raises:
        LinAlgError: the algorithm did not converge.
        RuntimeError: a dtype that is neither float nor complex.
    """
    check_matrices("linalg.svd", A)
    return SVDResult(*apply(SVD.of(full_matrices), A))


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, see :func:`svd`; their derivatives exist always."""
    check_matrices("linalg.svdvals", A)
    return apply(SingularValues.of(), A)
