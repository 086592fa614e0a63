"""Linear equations with operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import eye
from nbdl.ops.matmul import dot
from nbdl.ops.solving import cholesky_solve
from nbdl.optim.krylov import ConjugateGradients, Watch, damped
from nbdl.optim.operators import LinearOperator, require_square
from nbdl.optim.vectors import fetch, moved, norm


class Solution(NamedTuple):
    """What an iterative solver found.

    Attributes:
        x: the solution (n,).
        info: 0 if it is as exact as asked for, else the number of iterations, or -1 where CG met curvature
            that is not positive.
        iterations: how many.
        residual: |b - A x| of CG and MINRES, |A^T (b - A x)| - damp^2 x of LSMR, as the recursion knows it.
    """

    x: Tensor
    info: int
    iterations: int
    residual: float


def _prepared(
    caller: str, A: LinearOperator, b: Tensor, rtol: float, atol: float, maxiter: int | None, limit: int
) -> int:
    """Checks what all solvers take; the largest number of iterations."""
    if not isinstance(A, LinearOperator):
        raise TypeError(f"{caller}: A must be a LinearOperator, got {type(A).__name__}")
    if not isinstance(b, Tensor):
        raise TypeError(f"{caller}: b must be a tensor, got {type(b).__name__}")
    if tuple(b.shape) != A.shape[:1]:
        raise RuntimeError(f"{caller}: b must have shape {A.shape[:1]}, got {tuple(b.shape)}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise ValueError(f"{caller}: {name} must not be negative, got {value}")
    if maxiter is not None and maxiter < 1:
        raise ValueError(f"{caller}: maxiter must be at least 1, got {maxiter}")
    return limit if maxiter is None else maxiter


def cg(
    A: LinearOperator,
    b: Tensor,
    x0: Tensor | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: LinearOperator | None = None,
    callback: Callable[[Tensor], Any] | None = None,
    damping: float = 0.0,
) -> Solution:
    """Solve (A + damping I) x = b by preconditioned conjugate gradients.

    Where the curvature along a direction is not positive the method stops with what it has.

    Args:
        A: symmetric positive definite, (n, n).
        b: (n,).
        x0: where to begin; default: zeros.
        rtol: done when |b - A x| is at most ``rtol`` |b| or ``atol``.
        atol: see ``rtol``.
        maxiter: default: 10 n.
        M: an approximation of the inverse of A, symmetric positive definite.
        callback: called with x after every iteration.
        damping: added to the diagonal.

    Raises:
        TypeError: A is no operator or b no tensor.
        RuntimeError: shapes do not fit.
        ValueError: a number is out of its range.

    Source: Nocedal & Wright (2006), algorithm 5.3.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> a = curvature.DiagonalOperator(nbdl.tensor([1.0, 2.0, 4.0], dtype=nbdl.float64))
        >>> curvature.cg(a, nbdl.ones(3, dtype=nbdl.float64)).x
        tensor([1.0000, 0.5000, 0.2500], dtype=float64)
    """
    require_square("cg", A)
    limit = _prepared("cg", A, b, rtol, atol, maxiter, 10 * A.shape[0])
    if x0 is not None and x0.shape != b.shape:
        raise RuntimeError(f"cg: x0 must have shape {tuple(b.shape)}, got {tuple(x0.shape)}")
    process = ConjugateGradients(A, b, x0, M, damping)
    with no_grad():
        size = process.residual if x0 is None else norm(b)  # at 0 the residual is b
        target = (rtol * size).clamp(min=atol)
    for index in process.run(Watch(looks=True), limit, target):
        if callback is not None and fetch(process.count)[0] == index:
            callback(process.x)
    return solution_of(process, limit, fetch(process.count, process.residual, target))


def solution_of(process: ConjugateGradients, limit: int, values: Sequence[float]) -> Solution:
    """What conjugate gradients found.

    Args:
        process: as it ended.
        limit: the largest number of products.
        values: its count and residual, and the residual that was wanted.
    """
    count, residual, target = values
    iterations = int(count)
    info = 0 if residual <= target else iterations if iterations == limit else -1
    return Solution(process.x, info, iterations, residual)


def minres(
    A: LinearOperator,
    b: Tensor,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    damping: float = 0.0,
) -> Solution:
    """Solve (A + damping I) x = b for a symmetric A that may be indefinite, with the least residual.

    Args:
        A: symmetric, (n, n).
        b: (n,).
        rtol: done when |b - A x| is at most ``rtol`` |b| or ``atol``.
        atol: see ``rtol``.
        maxiter: default: 5 n.
        damping: added to the diagonal.

    Raises:
        TypeError: A is no operator or b no tensor.
        RuntimeError: shapes do not fit.
        ValueError: a number is out of its range.

    Source: Paige, Saunders (1975), Solution of sparse indefinite systems of linear equations, section 6.
    """
    require_square("minres", A)
    limit = _prepared("minres", A, b, rtol, atol, maxiter, 5 * A.shape[0])
    with no_grad():
        (size,) = fetch(norm(b))
        x = old_v = w = old_w = b.zeros_like()
        target, residual, eta = max(rtol * size, atol), size, size
        v = b * (1 / size) if size > 0 else b
        beta, c, old_c, s, old_s = 0.0, 1.0, 1.0, 0.0, 0.0
        iterations = 0
        while residual > target and iterations < limit:
            product = moved(damped(A @ v, damping, v), -beta, old_v)
            projection = dot(v, product)
            product = moved(product, -projection, v)
            alpha, new_beta = fetch(projection, norm(product))
            # The new column of the tridiagonal matrix, turned by the last two rotations and a new one.
            delta = c * alpha - old_c * s * beta
            rho, rho2, rho3 = math.hypot(delta, new_beta), s * alpha + old_c * c * beta, old_s * beta
            if not rho > 0:
                break  # singular, and b has a part outside the range
            old_c, c, old_s, s = c, delta / rho, s, new_beta / rho
            old_w, w = w, moved(moved(v, -rho3, old_w), -rho2, w) * (1 / rho)
            x = moved(x, c * eta, w)
            eta, residual = -s * eta, residual * s
            iterations += 1
            if not new_beta > 1e-15 * rho:
                break  # the space is invariant
            old_v, v, beta = v, product * (1 / new_beta), new_beta
    return Solution(x, 0 if residual <= target else iterations, iterations, residual)


def lsmr(
    A: LinearOperator,
    b: Tensor,
    damp: float = 0.0,
    *,
    rtol: float = 1e-8,
    atol: float = 0.0,
    maxiter: int | None = None,
) -> Solution:
    """Minimize |b - A x|^2 + damp^2 |x|^2 for an operator of any shape.

    Args:
        A: (m, n).
        b: (m,).
        damp: see above; ``damp`` squared is what other solvers call damping.
        rtol: done when |A^T (b - A x) - damp^2 x| is at most ``rtol`` |A^T b| or ``atol``.
        atol: see ``rtol``.
        maxiter: default: 5 min(m, n).

    Raises:
        TypeError: A is no operator or b no tensor.
        RuntimeError: shapes do not fit.
        ValueError: a number is out of its range.

    Source: Fong, Saunders (2011), LSMR: an iterative algorithm for sparse least-squares problems, section 2.
    """
    limit = _prepared("lsmr", A, b, rtol, atol, maxiter, 5 * min(A.shape))
    with no_grad():
        u, beta = _normalized(b.detach())
        v, alpha = _normalized(A.T @ u)
        h, x = v, v.zeros_like()
        h_bar = x
        zeta_bar, alpha_bar = alpha * beta, alpha
        rho = rho_bar = c_bar = 1.0
        s_bar = 0.0
        residual, iterations = abs(zeta_bar), 0
        target = max(rtol * residual, atol)
        while residual > target and iterations < limit:
            u, beta = _normalized(moved(A @ v, -alpha, u))
            v, alpha = _normalized(moved(A.T @ u, -beta, v))
            alpha_hat = math.hypot(alpha_bar, damp)
            old_rho, rho = rho, math.hypot(alpha_hat, beta)
            c, s = alpha_hat / rho, beta / rho
            theta, alpha_bar = s * alpha, c * alpha
            old_rho_bar, theta_bar, lifted = rho_bar, s_bar * rho, c_bar * rho
            rho_bar = math.hypot(lifted, theta)
            c_bar, s_bar = lifted / rho_bar, theta / rho_bar
            zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
            h_bar = moved(h, -theta_bar * rho / (old_rho * old_rho_bar), h_bar)
            x = moved(x, zeta / (rho * rho_bar), h_bar)
            h = moved(v, -theta / rho, h)
            residual, iterations = abs(zeta_bar), iterations + 1
    return Solution(x, 0 if residual <= target else iterations, iterations, residual)


def cholesky(A: LinearOperator, b: Tensor, damping: float = 0.0) -> Tensor:
    """Solve (A + damping I) x = b with the whole matrix.

    Args:
        A: symmetric, (n, n).
        b: (n,) or (n, k).
        damping: added to the diagonal.

    Raises:
        LinAlgError: A + damping I is not positive definite.
        RuntimeError: shapes do not fit.
    """
    factor = cholesky_factor("cholesky", A, damping)
    with no_grad():
        return cholesky_solve(b.reshape(b.shape[0], -1), factor).reshape(b.shape)


def cholesky_factor(caller: str, A: LinearOperator, damping: float) -> Tensor:
    """The lower Cholesky factor of A + damping I.

    Raises:
        LinAlgError: the matrix is not positive definite.
        RuntimeError: A is not square.
    """
    require_square(caller, A)
    matrix = A.to_dense()
    with no_grad():
        if damping:
            matrix = matrix + damping * eye(A.shape[0], dtype=A.dtype, device=A.device)
        factor, info = linalg.cholesky_ex(matrix)
        (failed,) = fetch(info)
    if failed:
        raise linalg.LinAlgError(
            f"{caller}: the matrix with damping {damping} is not positive definite (minor {failed:.0f}); "
            "raise damping"
        )
    return factor


def _normalized(v: Tensor) -> tuple[Tensor, float]:
    """A vector of length 1, and the length it had; the zero vector stays."""
    (size,) = fetch(norm(v))
    return (v * (1 / size) if size > 0 else v), size
