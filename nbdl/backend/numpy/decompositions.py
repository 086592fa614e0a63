"""Factorisations and solvers of batches of matrices on NumPy arrays: LAPACK, through NumPy and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes


class LinAlgError(RuntimeError):
    """A matrix that a factorisation or a solver cannot deal with: singular, not positive-definite, ..."""


SINGULAR = (
    "The diagonal element {info} is zero, the inversion could not be completed because the input matrix is "
    "singular."
)
UNSOLVABLE = "The solver failed because the input matrix is singular."
SINGULAR_FACTOR = "U[{info},{info}] is zero and using it on lu_solve would result in a division by zero."
SINGULAR_BLOCK = "D[{info},{info}] is zero and using it on ldl_solve would result in a division by zero."
INDEFINITE = (
    "The factorization could not be completed because the input is not positive-definite (the leading minor "
    "of order {info} is not positive-definite)."
)
NOT_CONVERGED = (
    "The algorithm failed to converge because the input matrix is ill-conditioned, has too many repeated "
    "values, or contains infinities or NaN."
)


def lapack(name: str, *arrays: Any) -> Callable[..., Any]:
    """SciPy's binding of a LAPACK routine for the dtype of ``arrays``."""
    from scipy.linalg.lapack import get_lapack_funcs

    return get_lapack_funcs(name, arrays)


def places(x: Any) -> Iterator[tuple[int, ...]]:
    """The indices of the matrices in a batch."""
    return np.ndindex(*x.shape[:-2])


def complain(label: str, message: str, info: Any) -> None:
    """Raise for the first matrix whose ``info`` is not 0."""
    if not info.any():
        return
    element = int(np.flatnonzero(info)[0])
    where = f"(Batch element {element}): " if info.ndim else ""
    raise LinAlgError(f"{label}: {where}{message.format(info=int(info.reshape(-1)[element]))}")


def _each(routine: Callable[..., Any], operands: Sequence[Any], result: Any, info: Any) -> None:
    """Run NumPy's routine on the regular matrices of a batch, one by one.

    Near the limit it may call a matrix singular that another LU factorization did not: the last diagonal
    element is then the one to blame.
    """
    for place in places(operands[0]):
        if info[place] == 0:
            try:
                result[place] = routine(*[x[place] for x in operands])
            except np.linalg.LinAlgError:
                info[place] = operands[0].shape[-1]


@contextmanager
def converging(label: str) -> Iterator[None]:
    """NumPy's error for an iteration without end as ours."""
    try:
        with np.errstate(all="ignore"):
            yield
    except np.linalg.LinAlgError:
        raise LinAlgError(f"linalg.{label}: {NOT_CONVERGED}") from None


class Decompositions:
    """Linear algebra on (..., m, n).

    ``label`` is the name in errors about single matrices; where it is empty, ``info`` tells instead.
    """

    xp: Any
    on_host: Any

    # --------------------------------------------------------------------------------- triangular factors
    def cholesky(self, x: Any, *, label: str, out: Any = None) -> Any:
        """The lower L with L L^H = x, of which the lower triangle is read, and info (int32).

        ``info`` is 0, or the order of the first leading minor that is not positive-definite.
        """
        info = np.zeros(x.shape[:-2], np.int32)
        try:
            factor = self.xp.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            factor = np.empty_like(x, order="C")
            potrf = lapack("potrf", x)
            for place in places(x):
                factor[place], info[place] = potrf(x[place], lower=1)
            if label:
                complain(label, INDEFINITE, info)
        return delivered((factor, self.xp.asarray(info)), out)

    def lu(self, x: Any, *, label: str = "", out: Any = None) -> Any:
        """L (below the diagonal, which is 1) and U in one matrix, with partial pivoting.

        Returns:
            The matrix; LAPACK's pivots, from 1 (int32); info (int32), 0 or the first zero on U's diagonal,
            from 1; and for every row of L U its place in ``x`` (int64).
        """
        batch, (m, n) = x.shape[:-2], x.shape[-2:]
        host = self.on_host(x)
        factors, info = np.empty(x.shape, x.dtype), np.zeros(batch, np.int32)
        pivots = np.empty((*batch, min(m, n)), np.int32)
        getrf = lapack("getrf", host)
        for place in places(host):
            if host[place].size:
                factors[place], pivot, info[place] = getrf(host[place])
                pivots[place] = pivot + 1
        if label:
            complain(label, SINGULAR_FACTOR, info)
        results = factors, pivots, info, row_order(pivots, m)
        return delivered(tuple(self.xp.asarray(result) for result in results), out)

    def row_order(self, pivots: Any, *, rows: int, out: Any = None) -> Any:
        """For every row after the exchanges of LAPACK's ``pivots`` (from 1) where it was before; int64."""
        host = self.on_host(pivots)
        return delivered(self.xp.asarray(row_order(host, rows)), out)

    def ldl(self, x: Any, *, hermitian: bool, label: str, out: Any = None) -> Any:
        """L and D of the lower triangles in one matrix, LAPACK's pivots, info (both int32)."""
        host = self.on_host(x)
        factors, info = np.empty(x.shape, x.dtype), np.zeros(x.shape[:-2], np.int32)
        pivots = np.empty(x.shape[:-1], np.int32)
        routine = lapack("hetrf" if hermitian and x.dtype.kind == "c" else "sytrf", host)
        for place in places(host):
            if host[place].size:
                packed, pivots[place], info[place] = routine(host[place], lower=1)
                factors[place] = np.tril(packed)
        if label:
            complain(label, SINGULAR_BLOCK, info)
        return delivered(tuple(self.xp.asarray(result) for result in (factors, pivots, info)), out)

    def ldl_solve(self, factors: Any, pivots: Any, b: Any, *, hermitian: bool, out: Any = None) -> Any:
        """x of a x = b with what :meth:`ldl` made of a."""
        hosts = [self.on_host(x) for x in (factors, pivots, b)]
        result = np.empty(b.shape, b.dtype)
        routine = lapack("hetrs" if hermitian and b.dtype.kind == "c" else "sytrs", hosts[0])
        for place in places(hosts[2]):
            if hosts[2][place].size:
                result[place], _ = routine(*[x[place] for x in hosts], lower=1)
        return delivered(self.xp.asarray(result), out)

    def qr(self, x: Any, *, mode: str, out: Any = None) -> Any:
        """Q with orthonormal columns and the upper triangular R; ``reduced`` or ``complete``."""
        q, r = self.xp.linalg.qr(x, mode)
        return delivered((q, r), out)

    def geqrf(self, x: Any, *, out: Any = None) -> Any:
        """R, with LAPACK's vectors of the reflections below its diagonal, and their factors."""
        m, n = x.shape[-2:]
        host = self.on_host(x)
        packed, tau = np.empty(x.shape, x.dtype), np.empty((*x.shape[:-2], min(m, n)), x.dtype)
        routine = lapack("geqrf", host)
        for place in places(host):
            if host[place].size:
                packed[place], tau[place], _, _ = routine(host[place])
        return delivered((self.xp.asarray(packed), self.xp.asarray(tau)), out)

    # ------------------------------------------------------------------------------------------ solvers
    def inverse(self, x: Any, *, label: str, out: Any = None) -> Any:
        """The inverse matrices, and info (int32), 0 or the place of the zero on U's diagonal, from 1."""
        info = np.zeros(x.shape[:-2], np.int32)
        try:
            result = self.xp.linalg.inv(x)
        except np.linalg.LinAlgError:
            result, info = np.full_like(x, np.nan), self.lu(x)[2]
            _each(np.linalg.inv, [x], result, info)
            if label:
                complain(label, SINGULAR, info)
        return delivered((result, self.xp.asarray(info)), out)

    def solve(self, a: Any, b: Any, *, label: str, out: Any = None) -> Any:
        """x of a x = b, (..., n, n) and (..., n, k) of one batch shape, and info as of :meth:`inverse`."""
        info = np.zeros(a.shape[:-2], np.int32)
        try:
            result = self.xp.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            result, info = np.full_like(b, np.nan), self.lu(a)[2]
            _each(np.linalg.solve, [a, b], result, info)
            if label:
                complain(label, UNSOLVABLE, info)
        return delivered((result, self.xp.asarray(info)), out)

    def solve_triangular(self, a: Any, b: Any, *, upper: bool, unit: bool, out: Any = None) -> Any:
        """x of a x = b with a triangle of ``a``; ``unit``: whose diagonal counts as 1."""
        if self.xp is not np:
            triangle = self.xp.triu(a, int(unit)) if upper else self.xp.tril(a, -int(unit))
            if unit:
                triangle = triangle + self.xp.eye(a.shape[-1], dtype=a.dtype)
            return delivered(self.xp.linalg.solve(triangle, b), out)
        if math.prod(b.shape[:-2]) > b.shape[-2]:  # many small matrices
            return delivered(substituted(a, b, upper, unit), out)
        from scipy.linalg.blas import get_blas_funcs

        trsm = get_blas_funcs("trsm", (a, b))

        def solved(a: Any, b: Any) -> Any:  # transposed, so that BLAS reads rows as columns without a copy
            return trsm(1.0, a.T, b.T, side=1, lower=upper, diag=unit).T if b.size else b

        if b.ndim == 2:
            return delivered(solved(a, b), out)
        result = np.empty(b.shape, b.dtype)
        for place in places(b):
            result[place] = solved(a[place], b[place])
        return delivered(result, out)

    def pinverse(self, x: Any, *, atol: float, rtol: float, hermitian: bool, out: Any = None) -> Any:
        """The pseudoinverse; singular values up to max(atol, rtol * the largest) count as 0."""
        if x.size == 0:
            return delivered(self.xp.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype), out)
        with converging("pinv"):
            if hermitian:
                values, u = self.xp.linalg.eigh(x)
                left, right = u, u.conj().swapaxes(-1, -2)
            else:
                u, values, right = self.xp.linalg.svd(x, full_matrices=False)
                left = u
        size = self.xp.abs(values)
        kept = size > self.xp.maximum(atol, rtol * size.max(-1, keepdims=True))
        inverted = self.xp.where(kept, 1 / self.xp.where(kept, values, 1), 0)[..., None, :].astype(x.dtype)
        columns = right.conj().swapaxes(-1, -2) * inverted
        return delivered(columns @ left.conj().swapaxes(-1, -2), out)

    def least_squares(self, a: Any, b: Any, *, rcond: float, driver: str, out: Any = None) -> Any:
        """x with the smallest |a x - b|, and of those the smallest one.

        Returns:
            x; the rank of every ``a`` (int64); its singular values (zeros where ``driver``, one of LAPACK's
            ``gels``, ``gelsy``, ``gelsd``, ``gelss``, finds none).
        """
        m, n = a.shape[-2:]
        if self.xp is not np:
            values = self.xp.linalg.svd(a, compute_uv=False)
            rank = (values > rcond * values[..., :1]).sum(-1)
            inverse = self.pinverse(a, atol=0.0, rtol=rcond, hermitian=False)
            if driver in ("gels", "gelsy"):
                values = self.xp.zeros_like(values)
            return delivered((inverse @ b, rank.astype(np.int64, copy=False), values), out)
        from scipy.linalg import lstsq

        result = np.zeros((*b.shape[:-2], n, b.shape[-1]), b.dtype)
        rank = np.zeros(a.shape[:-2], np.int64)
        singular = np.zeros((*a.shape[:-2], min(m, n)), dtypes.real_of(a.dtype))
        routine, limit = ("gelsy", 0.0) if driver == "gels" else (driver, rcond)
        for place in places(a):
            if a[place].size and b[place].size:
                result[place], _, rank[place], values = lstsq(
                    a[place], b[place], limit, lapack_driver=routine, check_finite=False
                )
                if values is not None:
                    singular[place] = values
        return delivered((result, rank, singular), out)

    # ---------------------------------------------------------------------------------------- determinants
    def determinant(self, x: Any, *, out: Any = None) -> Any:
        """The determinants."""
        with np.errstate(all="ignore"):
            return delivered(self.xp.asarray(self.xp.linalg.det(x)), out)

    def slogdet(self, x: Any, *, out: Any = None) -> Any:
        """Signs of the determinants and logarithms of their absolute values (0 and -inf if singular)."""
        with np.errstate(all="ignore"):
            sign, logarithm = self.xp.linalg.slogdet(x)
        return delivered((self.xp.asarray(sign), self.xp.asarray(logarithm)), out)

    def cofactors(self, x: Any, *, out: Any = None) -> Any:
        """The derivatives of the determinants by their elements, also where they are 0: det(x) x^-T.

        Of nearly singular x = U S V^H they are det(U) det(V^H) conj(U) T V^T, the diagonal T holding the
        products of the other singular values.
        """
        n = x.shape[-1]
        if x.size == 0:
            return delivered(self.xp.zeros(x.shape, x.dtype), out)
        inverse, _ = self.inverse(x, label="")
        with np.errstate(all="ignore"):
            result = self.xp.linalg.det(x)[..., None, None] * inverse.swapaxes(-1, -2)
            condition = self.xp.abs(x).sum(-1).max(-1) * self.xp.abs(inverse).sum(-1).max(-1)
        singular = ~(condition < np.finfo(x.dtype).eps ** -0.5)
        if singular.any():
            u, s, vh = self.xp.linalg.svd(x[singular])
            others = [s[..., [j for j in range(n) if j != k]].prod(-1) for k in range(n)]
            scaled = (self.xp.linalg.det(u) * self.xp.linalg.det(vh))[..., None] * self.xp.stack(others, -1)
            result[singular] = (u.conj() * scaled[..., None, :]) @ vh.conj()
        return delivered(result.astype(x.dtype, copy=False), out)

    # -------------------------------------------------------------------------------------------- spectra
    def svd(self, x: Any, *, full: bool, out: Any = None) -> Any:
        """U, the singular values in falling order, and V^H."""
        with converging("svd"):
            return delivered(tuple(self.xp.linalg.svd(x, full_matrices=full)), out)

    def singular_values(self, x: Any, *, out: Any = None) -> Any:
        """The singular values in falling order."""
        with converging("svdvals"):
            return delivered(self.xp.linalg.svd(x, compute_uv=False), out)

    def eigh(self, x: Any, *, upper: bool, out: Any = None) -> Any:
        """Eigenvalues in rising order and orthonormal eigenvectors, one triangle being read."""
        with converging("eigh"):
            return delivered(tuple(self.xp.linalg.eigh(x, "U" if upper else "L")), out)

    def eigvalsh(self, x: Any, *, upper: bool, out: Any = None) -> Any:
        """Eigenvalues in rising order, one triangle being read."""
        with converging("eigvalsh"):
            return delivered(self.xp.linalg.eigvalsh(x, "U" if upper else "L"), out)

    def eig(self, x: Any, *, out: Any = None) -> Any:
        """Complex eigenvalues, and eigenvectors of length 1 as columns."""
        dtype = dtypes.complex_of(x.dtype)
        with converging("eig"):
            values, vectors = self.xp.linalg.eig(x)
        return delivered((values.astype(dtype, copy=False), vectors.astype(dtype, copy=False)), out)

    def eigvals(self, x: Any, *, out: Any = None) -> Any:
        """Complex eigenvalues."""
        with converging("eigvals"):
            values = self.xp.linalg.eigvals(x)
        return delivered(values.astype(dtypes.complex_of(x.dtype), copy=False), out)

    # --------------------------------------------------------------------------------------- the exponential
    def matrix_exp(self, x: Any, *, out: Any = None) -> Any:
        """Scaling and squaring of a Padé approximant of degree 13 (Higham 2005, algorithm 2.3)."""
        xp, n = self.xp, x.shape[-1]
        if x.size == 0:
            return delivered(x.copy(), out)
        size = xp.abs(x).sum(-2).max(-1)
        with np.errstate(all="ignore"):
            squarings = xp.ceil(xp.log2(xp.maximum(size, _THETA) / _THETA))
        squarings = xp.where(xp.isfinite(squarings), squarings, 0).astype(np.int64)
        a = x / (2.0**squarings).astype(dtypes.real_of(x.dtype))[..., None, None]
        identity = xp.eye(n, dtype=x.dtype)
        a2 = a @ a
        a4 = a2 @ a2
        a6 = a4 @ a2
        b = _PADE
        odd = a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * identity
        even = (
            a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * identity
        )
        odd = a @ odd
        result = xp.linalg.solve(even - odd, even + odd)
        for step in range(int(squarings.max())):
            result = xp.where((squarings > step)[..., None, None], result @ result, result)
        return delivered(result, out)


# Coefficients of the Padé approximant of degree 13, and the largest 1-norm for which it is right to 2^-53.
_PADE = tuple(
    math.factorial(26 - k)
    * math.factorial(13)
    / (math.factorial(26) * math.factorial(k) * math.factorial(13 - k))
    for k in range(14)
)
_THETA = 5.371920351148152


def row_order(pivots: np.ndarray, rows: int) -> np.ndarray:
    """Where the rows of matrices were before LAPACK's exchanges."""
    steps = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1])
    order = np.tile(np.arange(rows), (len(steps), 1))
    matrices = np.arange(len(steps))
    for k in range(steps.shape[1]):
        other = steps[:, k] - 1
        moved = order[:, k].copy()
        order[:, k] = order[matrices, other]
        order[matrices, other] = moved
    return order.reshape((*pivots.shape[:-1], rows))


def substituted(a: np.ndarray, b: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    """Substitution, all matrices of a batch at once."""
    n = a.shape[-1]
    x = b.copy()
    with np.errstate(all="ignore"):
        for k in range(n - 1, -1, -1) if upper else range(n):
            known = slice(k + 1, n) if upper else slice(0, k)
            x[..., k, :] -= (a[..., k, None, known] @ x[..., known, :])[..., 0, :]
            if not unit:
                x[..., k, :] /= a[..., k, k, None]
    return x
