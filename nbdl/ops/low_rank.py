"""Low-rank factors of matrices by random projections."""

from __future__ import annotations

from nbdl.autograd.tensor import Tensor
from nbdl.ops.factorizations import qr
from nbdl.ops.matrix_aliases import SVDResult
from nbdl.ops.random import randn
from nbdl.ops.spectra import svd

__all__ = ["pca_lowrank", "svd_lowrank"]


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> SVDResult:
    """The largest singular values of A - M and their vectors, by subspace iteration from random vectors.

    Source: Halko, Martinsson and Tropp (2011), algorithms 4.4 and 5.1.

    Args:
        A: (..., m, n).
        q: how many; best somewhat more than are wanted.
        niter: iterations; more of them separate values that lie close together.
        M: (..., m, n), subtracted; default: 0.

    Returns:
        U (..., m, q), S (..., q), V (..., n, q) with A - M = U diag(S) V^T approximately.

    Raises:
        ValueError: ``q`` is negative or exceeds a size, or ``niter`` is negative.

    Example:
        >>> import nbdl
        >>> A = nbdl.outer(nbdl.arange(4.0), nbdl.ones(3))
        >>> U, S, V = nbdl.svd_lowrank(A, q=2)
        >>> nbdl.allclose(U @ nbdl.diag(S) @ V.T, A, atol=1e-5)
        True
    """
    return _factors("svd_lowrank", A if M is None else A - M, 6 if q is None else q, niter)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> SVDResult:
    """Principal components: :func:`svd_lowrank` of A without the means of its columns.

    Args:
        A: (..., samples, features).
        q: how many components; default: 6, or all.
        center: subtract the means.
        niter: iterations.

    Returns:
        U, S, V; the columns of V are the principal directions.

    Raises:
        ValueError: ``q`` is negative or exceeds a size, or ``niter`` is negative.
    """
    wanted = min(6, *A.shape[-2:]) if q is None else q
    return _factors("pca_lowrank", A - A.mean(-2, keepdim=True) if center else A, wanted, niter)


def _factors(label: str, A: Tensor, q: int, niter: int | None) -> SVDResult:
    m, n = A.shape[-2:]
    if not 0 <= q <= min(m, n):
        raise ValueError(
            f"{label}: q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}"
        )
    niter = 2 if niter is None else niter
    if niter < 0:
        raise ValueError(f"{label}: niter(={niter}) must be non-negative integer")
    if m < n:  # the shorter side is projected
        U, S, V = _factors(label, A.mH, q, niter)
        return SVDResult(V, S, U)
    basis = qr(A @ randn(n, q, dtype=A.dtype, device=A.device)).Q
    for _ in range(niter):
        basis = qr(A @ qr(A.mH @ basis).Q).Q
    U, S, Vh = svd(basis.mH @ A, False)
    return SVDResult(basis @ U, S, Vh.mH)
