"""Krylov subspaces of a symmetric operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import stack
from nbdl.ops.matmul import dot
from nbdl.optim.objective import NonFiniteError
from nbdl.optim.operators import LinearOperator
from nbdl.optim.vectors import fetch, moved, norm


class Lanczos:
    """The Lanczos process: an orthonormal basis Q in which the operator is tridiagonal.

    Vectors are orthogonalized against all before them, twice, so that the basis stays orthogonal in floating
    point.

    Source: Golub & Van Loan (2013), Matrix Computations, algorithm 10.1.1 and section 10.3.

    Args:
        operator: symmetric, (n, n).
        start: (n,), not zero; the first basis vector is in its direction.

    Attributes:
        vectors: the basis.
        diagonal: of the tridiagonal matrix.
        off_diagonal: beside it; the last entry belongs to the vector that was not taken yet.
        start_norm: the length of ``start``; known with the first basis vector, since both are read at once.
        is_closed: whether the basis spans an invariant subspace.
    """

    def __init__(self, operator: LinearOperator, start: Tensor):
        self._operator = operator
        with no_grad():
            size = norm(start)
            self._next = start / size
        self._unread: list[Tensor] = [size]
        self.start_norm = math.nan
        self.vectors: list[Tensor] = []
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.is_closed = False
        self._scale = 0.0  # the largest entry so far

    def __iter__(self) -> Iterator[int]:
        """Extend the basis by one vector at a time, until it spans an invariant subspace; gives its size.

        Raises:
            NonFiniteError: a product is not finite.
        """
        n = self._operator.shape[0]
        while len(self.vectors) < n and not self.is_closed:
            q = self._next
            self.vectors.append(q)
            product = self._operator @ q
            with no_grad():
                basis = stack(self.vectors)
                rest = _orthogonal(product, basis)
                alpha, beta, *size = fetch(dot(q, product), norm(rest), *self._unread)
                if size:
                    (self.start_norm,) = size
                    self._unread = []
                self._next = rest * (1 / beta) if beta > 0 else rest
            if not math.isfinite(alpha + beta):
                raise NonFiniteError
            self.diagonal.append(alpha)
            self.off_diagonal.append(beta)
            self._scale = max(self._scale, abs(alpha), beta)
            self.is_closed = not beta > 1e-14 * self._scale
            yield len(self.vectors)

    def restart(self, vector: Tensor) -> None:
        """Let the process go on, where its space is closed, from the part of a vector outside the space."""
        with no_grad():
            rest = _orthogonal(vector, stack(self.vectors))
            self._next = rest / norm(rest)
        self.off_diagonal[-1] = 0.0
        self.is_closed = False

    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (k,) and eigenvectors (k, k) of the tridiagonal matrix."""
        off = self.off_diagonal[: len(self.diagonal) - 1]
        return np.linalg.eigh(np.diag(self.diagonal) + np.diag(off, 1) + np.diag(off, -1))

    def combine(self, coefficients: np.ndarray) -> Tensor:
        """The vector with these coefficients (k,) in the basis."""
        total = self.vectors[0] * float(coefficients[0])
        for q, c in zip(self.vectors[1:], coefficients[1:], strict=True):
            total = moved(total, float(c), q)
        return total


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """A vector without its components along the rows of ``basis``."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


class Iterate(NamedTuple):
    """A step of conjugate gradients.

    Attributes:
        x: where it led (n,).
        residual: |b - A x|.
        decrease: of x^T A x / 2 - b^T x since the start.
    """

    x: Tensor
    residual: float
    decrease: float


def cg_iterates(
    A: LinearOperator,
    b: Tensor,
    x0: Tensor | None = None,
    M: LinearOperator | None = None,
    damping: float = 0.0,
) -> Iterator[Iterate]:
    """Conjugate gradients for (A + damping I) x = b: the start and all steps.

    They end where the residual is 0, or where the curvature along the next direction is not positive. The
    scalars of a step are read at once, those of the start with the first step's.

    Source: Nocedal & Wright (2006), algorithm 5.3.

    Args:
        A: symmetric, (n, n).
        b: (n,).
        x0: where to begin; default: zeros.
        M: an approximation of the inverse of A, symmetric positive definite.
        damping: added to the diagonal.
    """
    with no_grad():
        x = b.zeros_like() if x0 is None else x0.detach().clone()
        r = b.detach() if x0 is None else b - damped(A @ x, damping, x)
        z = r if M is None else M @ r
        d, rz = z, dot(r, z)
        unread = [norm(r), rz]
    residual = slope = decrease = 0.0
    while residual > 0 or unread:
        with no_grad():
            product = damped(A @ d, damping, d)
            curvature = dot(d, product)
            step = rz / curvature
            new_r = moved(r, -step, product)
            z = new_r if M is None else M @ new_r
            new_rz = dot(new_r, z)
            found = fetch(curvature, dot(d, d), norm(new_r), new_rz, *unread)
        if unread:
            first, slope = found[4:]
            unread = []
            yield Iterate(x, first, decrease)
            if not first > 0:
                return
        bend, length, residual, new_slope = found[:4]
        if not bend > 1e-15 * length:
            return
        with no_grad():
            x, r = moved(x, step, d), new_r
            decrease += slope * slope / bend / 2
            d, rz, slope = moved(z, new_rz / rz, d), new_rz, new_slope
        yield Iterate(x, residual, decrease)


def damped(product: Tensor, damping: float, v: Tensor) -> Tensor:
    """(A + damping I) v from A v."""
    return moved(product, damping, v) if damping else product


def truncated_cg(
    operator: LinearOperator, gradient: Tensor, tolerance: Callable[[float], float], max_iterations: int
) -> Tensor:
    """A Newton direction by conjugate gradients that stop at negative curvature.

    Source: Nocedal & Wright (2006), algorithm 7.1, lines of the inner loop.

    Args:
        operator: the Hessian B.
        gradient: g (n,).
        tolerance: the length of B p + g that is small enough, by that of g.
        max_iterations: of the loop.

    Returns:
        A descent direction p (n,); -g if the curvature along it is not positive.
    """
    with no_grad():
        steepest = -gradient
    enough = 0.0
    for count, found in enumerate(cg_iterates(operator, steepest)):
        enough = enough if count else tolerance(found.residual)
        if found.residual <= enough or count == max_iterations:
            break
    return found.x if count else steepest
