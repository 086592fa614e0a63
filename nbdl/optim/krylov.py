"""Krylov subspaces of a symmetric operator.

How many products a process needs is decided by its scalars, which lie on the device. A :class:`Watch` says
when the host looks at them. Updates are masked, so that a process which is over stays where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, isfinite
from nbdl.formula import abs as absolute
from nbdl.formula import maximum as larger
from nbdl.formula import where as choice
from nbdl.ops.arithmetic import where
from nbdl.ops.joining import stack
from nbdl.ops.matmul import dot
from nbdl.ops.pointwise import call, pointwise
from nbdl.ops.triangular import diag_embed
from nbdl.optim.objective import NonFiniteError
from nbdl.optim.operators import LinearOperator
from nbdl.optim.vectors import fetch, is_on_host, moved, norm

_CLOSED = 1e-14  # of the rest of a product, relative to the largest entry: the space is invariant

moved_if = pointwise("moved_if", lambda taken, x, t, d: choice(taken, x + t * d, x))
"""x + t d where ``taken`` is not 0, else x, whatever t and d are."""

turned_if = pointwise("turned_if", lambda taken, z, beta, d: choice(taken, z + beta * d, d))
"""z + beta d where ``taken`` is not 0, else d."""

_scaled_if = pointwise("scaled_if", lambda taken, x, size: choice(taken, x / size, 0))


def _entries(is_open: Any, wrong: Any, scale: Any, a: Any, b: Any, first: Any) -> tuple[Any, ...]:
    """The next entries of the tridiagonal matrix, the scale, and whether the process goes on, or is wrong."""
    is_finite = isfinite(a + b)
    scale = choice(is_finite, larger(scale, larger(absolute(a), b)), scale)
    goes_on = choice(is_open, choice(is_finite, choice(b > _CLOSED * scale, 1, 0), 0), 0)
    alpha = choice(is_open, choice(is_finite, a, 0), first)
    return alpha, choice(goes_on, b, 0), scale, goes_on, choice(is_open, choice(is_finite, wrong, 1), wrong)


def _step(active: Any, slope: Any, bend: Any, length: Any, decrease: Any, count: Any) -> tuple[Any, ...]:
    """Whether a step is taken, how long it is, the decrease with it, and the number of steps."""
    taken = choice(active, choice(bend > 1e-15 * length, 1, 0), 0)
    step = choice(taken, slope / choice(taken, bend, 1), 0)
    return taken, step, decrease + step * slope / 2, count + taken


def _turn(taken: Any, slope: Any, new_slope: Any, residual: Any) -> tuple[Any, ...]:
    """What the last direction counts in the next one, and whether there is one."""
    return choice(taken, new_slope / choice(taken, slope, 1), 0), choice(residual > 0, taken, 0)


_ENTRIES = Formula("lanczos_entries", _entries, 6)
_STEP = Formula("conjugate_step", _step, 6)
_TURN = Formula("conjugate_turn", _turn, 4)


class Watch:
    """When a process looks whether it is over: on the host after every product, on a device never.

    There a product that is not needed costs less than a method that waits; but not many of them should be
    computed. So a process runs unread for a number of products, the budget, and whoever reads its results in
    the end tells how many were of use: twice as many are the next budget. A process that was cut off by its
    budget gets twice as many products the next time.

    Args:
        budget: the first one.
        looks: whether to look after every product; default: on the host.
    """

    _LEAST = 8

    def __init__(self, budget: int = 32, looks: bool | None = None):
        self.budget, self._looks = budget, looks

    def looks(self, x: Tensor) -> bool:
        """Whether the host looks at values that lie where ``x`` does."""
        return is_on_host(x) if self._looks is None else self._looks

    def products(self, x: Tensor, limit: int) -> range:
        """The numbers, from 1, of the products that may be computed where ``x`` lies: at most ``limit``."""
        return range(1, 1 + (limit if self.looks(x) else min(limit, self.budget)))

    def is_over(self, active: Tensor) -> bool:
        """Whether the host sees that a process is over: ``active``, 0-d, is 0."""
        return self.looks(active) and not fetch(active)[0]

    def learn(self, used: float) -> None:
        """How many products of the last process were of use."""
        self.budget = max(self._LEAST, 2 * int(used))


class Lanczos:
    """The Lanczos process: an orthonormal basis Q in which the operator is tridiagonal.

    Vectors are orthogonalized against all before them, twice, so that the basis stays orthogonal in floating
    point. Where it spans an invariant subspace the process is over: vectors that are taken nonetheless are 0,
    and have an eigenvalue between those of the operator.

    Source: Golub & Van Loan (2013), Matrix Computations, algorithm 10.1.1 and section 10.3.

    Args:
        operator: symmetric, (n, n).
        start: (n,), not zero; the first basis vector is in its direction.

    Attributes:
        vectors: the basis.
        diagonal: of the tridiagonal matrix, 0-d each.
        off_diagonal: beside it; the last entry belongs to the vector that was not taken yet.
        start_norm: the length of ``start``, 0-d.
        is_open: 0-d, whether the basis spans no invariant subspace yet.
        wrong: 0-d, whether a product was not finite.
    """

    def __init__(self, operator: LinearOperator, start: Tensor):
        self._operator = operator
        with no_grad():
            self.start_norm = norm(start)
            self._next = start / self.start_norm
            self.is_open = self.start_norm > 0
            self.wrong = self.is_open.logical_not()
            self._scale = self.start_norm * 0  # the largest entry so far
        self.vectors: list[Tensor] = []
        self.diagonal: list[Tensor] = []
        self.off_diagonal: list[Tensor] = []

    def extend(self) -> None:
        """Take one more vector into the basis."""
        q = self._next
        self.vectors.append(q)
        product = self._operator @ q
        with no_grad():
            rest = _orthogonal(product, stack(self.vectors))
            alpha, beta, self._scale, is_open, self.wrong = call(
                _ENTRIES, self.is_open, self.wrong, self._scale, dot(q, product), norm(rest),
                self.diagonal[0] if self.diagonal else 0.0,
            )  # fmt: skip
            self.diagonal.append(alpha)
            self.off_diagonal.append(beta)
            self._next = _scaled_if(is_open, rest, beta)
            self.is_open = is_open

    def sizes(self, watch: Watch, limit: int) -> Iterator[int]:
        """Extend the basis as long as a watch lets it; gives its size.

        Raises:
            NonFiniteError: a product is not finite, and the host can see it.
        """
        for size in watch.products(self.is_open, min(limit, self._operator.shape[0])):
            if watch.is_over(self.is_open):
                break
            self.extend()
            yield size
        if is_on_host(self.wrong) and fetch(self.wrong)[0]:
            raise NonFiniteError

    def restart(self, vector: Tensor) -> None:
        """Let the process go on, where its space is closed, from the part of a vector outside the space."""
        with no_grad():
            rest = _orthogonal(vector, stack(self.vectors))
            self._next = rest / norm(rest)
            self.is_open = self.is_open.logical_not()

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (k,) and eigenvectors (k, k) of the tridiagonal matrix."""
        with no_grad():
            matrix = diag_embed(stack(self.diagonal))
            if len(self.diagonal) > 1:
                off = stack(self.off_diagonal[:-1])
                matrix = matrix + diag_embed(off, 1) + diag_embed(off, -1)
            return linalg.eigh(matrix)

    def combine(self, coefficients: Tensor) -> Tensor:
        """The vector with these coefficients (k,) in the basis, or the vectors with the columns of (k, j)."""
        basis = stack(self.vectors)
        return basis.T @ coefficients.to(dtype=basis.dtype)


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """A vector without its components along the rows of ``basis``."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


class ConjugateGradients:
    """Conjugate gradients for (A + damping I) x = b, a step at a time.

    The process is over where the residual is 0, where the curvature along the next direction is not positive,
    or where it is stopped; what is done afterwards changes nothing.

    Source: Nocedal & Wright (2006), algorithm 5.3.

    Args:
        A: symmetric, (n, n).
        b: (n,).
        x0: where to begin; default: zeros.
        M: an approximation of the inverse of A, symmetric positive definite.
        damping: added to the diagonal.

    Attributes:
        x: where it is (n,).
        residual: |b - A x|, 0-d.
        decrease: of x^T A x / 2 - b^T x since the start, 0-d.
        count: steps that were taken, 0-d.
        active: 0-d, not 0 while it goes on.
        products: products that were computed.
    """

    def __init__(
        self,
        A: LinearOperator,
        b: Tensor,
        x0: Tensor | None = None,
        M: LinearOperator | None = None,
        damping: float = 0.0,
    ):
        self._operator, self._inverse, self._damping, self.products = A, M, damping, 0
        with no_grad():
            self.x = b.zeros_like() if x0 is None else x0.detach().clone()
            self._rest = b.detach() if x0 is None else b - damped(A @ self.x, damping, self.x)
            z = self._rest if M is None else M @ self._rest
            self._direction, self._slope = z, dot(self._rest, z)
            self.residual = norm(self._rest)
            self.decrease = self.count = self._slope.zeros_like()
            self.active = self.residual > 0

    def advance(self) -> None:
        """Compute a product, and take a step."""
        d = self._direction
        product = damped(self._operator @ d, self._damping, d)
        self.products += 1
        with no_grad():
            taken, step, self.decrease, self.count = call(
                _STEP, self.active, self._slope, dot(d, product), dot(d, d), self.decrease, self.count
            )
            self.x = moved_if(taken, self.x, step, d)
            self._rest = moved_if(taken, self._rest, -step, product)
            z = self._rest if self._inverse is None else self._inverse @ self._rest
            slope, self.residual = dot(self._rest, z), norm(self._rest)
            beta, self.active = call(_TURN, taken, self._slope, slope, self.residual)
            self._direction, self._slope = turned_if(taken, z, beta, d), slope

    def stop_where(self, condition: Tensor) -> None:
        """End the process where ``condition``, 0-d, holds."""
        with no_grad():
            self.active = where(condition, 0.0, self.active)

    def run(self, watch: Watch, limit: int, target: Tensor) -> Iterator[int]:
        """Advance until the residual is at most ``target``, 0-d; gives the number of each product."""
        self.stop_where(self.residual <= target)
        for index in watch.products(self.active, limit):
            if watch.is_over(self.active):
                return
            self.advance()
            yield index
            self.stop_where(self.residual <= target)


def damped(product: Tensor, damping: float, v: Tensor) -> Tensor:
    """(A + damping I) v from A v."""
    return moved(product, damping, v) if damping else product


def truncated_cg(
    operator: LinearOperator,
    gradient: Tensor,
    tolerance: Callable[[Tensor], Tensor],
    max_iterations: int,
    watch: Watch,
) -> tuple[Tensor, Tensor]:
    """A Newton direction by conjugate gradients that stop at negative curvature.

    Source: Nocedal & Wright (2006), algorithm 7.1, lines of the inner loop.

    Args:
        operator: the Hessian B.
        gradient: g (n,).
        tolerance: the length of B p + g that is small enough, by that of g.
        max_iterations: of the loop.
        watch: when to look.

    Returns:
        A descent direction p (n,); -g if the curvature along it is not positive. And how many products were
        of use, 0-d.
    """
    with no_grad():
        steepest = -gradient
        process = ConjugateGradients(operator, steepest)
        for _ in process.run(watch, max_iterations, tolerance(process.residual)):
            pass
        return where(process.count > 0, process.x, steepest), process.count
