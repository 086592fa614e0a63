"""Eigenvalues, spectral density, trace and determinant of symmetric operators, by their products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import empty, from_numpy
from nbdl.ops.random import bernoulli_, normal_
from nbdl.optim.krylov import Lanczos, Watch
from nbdl.optim.operators import LinearOperator, require_square
from nbdl.optim.vectors import fetch, norm
from nbdl.random import Generator

_PICKS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "LM": lambda values, k: np.sort(np.argsort(-abs(values), kind="stable")[:k]),
    "LA": lambda values, k: np.arange(len(values))[-k:],
    "SA": lambda values, k: np.arange(len(values))[:k],
}


def eigsh(
    A: LinearOperator,
    k: int = 6,
    which: str = "LM",
    v0: Tensor | None = None,
    maxiter: int | None = None,
    tol: float = 0.0,
    return_eigenvectors: bool = True,
    generator: Generator | None = None,
) -> Any:
    """Some eigenvalues of a symmetric operator, and their eigenvectors, by the Lanczos process.

    The basis is orthogonalized in full, twice. It grows until the residuals |A x - lambda x| of the wanted
    pairs are small. A multiple eigenvalue may be found once only, unless the basis closes: then it is
    continued with a random vector.

    Args:
        A: (n, n).
        k: how many, at most n.
        which: "LM" for the largest magnitudes, "LA" for the largest, "SA" for the smallest.
        v0: the vector (n,) to start from; default: a random one.
        maxiter: the largest size of the basis; default: n.
        tol: of the residuals, relative to the largest magnitude of an eigenvalue; 0: the rounding error.
        return_eigenvectors: whether they are wanted.
        generator: where random vectors come from.

    Returns:
        The eigenvalues (k,) in ascending order, and the eigenvectors (n, k) beside them if wanted.

    Raises:
        ValueError: ``k``, ``which``, ``v0`` or ``maxiter`` is out of its range.
        RuntimeError: A is not square, or the residuals are still too large after ``maxiter`` products.

    Source: Golub & Van Loan (2013), Matrix Computations, section 10.1, with the residuals of 10.1.5.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> a = curvature.DiagonalOperator(nbdl.tensor([1.0, 5.0, -7.0], dtype=nbdl.float64))
        >>> curvature.eigsh(a, 2, return_eigenvectors=False).round(decimals=6)
        tensor([-7.,  5.], dtype=float64)
    """
    require_square("eigsh", A)
    n = A.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"eigsh: k must be from 1 to {n}, got {k}")
    if which not in _PICKS:
        raise ValueError(f"eigsh: which must be one of {', '.join(_PICKS)}, got {which!r}")
    limit = n if maxiter is None else min(maxiter, n)
    if limit < k:
        raise ValueError(f"eigsh: maxiter must be at least k = {k}, got {maxiter}")
    if v0 is not None and (tuple(v0.shape) != (n,) or not fetch(norm(v0))[0] > 0):
        raise ValueError(f"eigsh: v0 must be a vector of shape ({n},) other than 0, got {v0!r}")
    tolerance = tol or 10 * float(np.finfo(A.dtype).eps)
    lanczos = Lanczos(A, _normal(A, generator) if v0 is None else v0)
    pick = _PICKS[which]
    values, vectors, residual, known = _ritz(lanczos, pick, k, limit, tolerance)
    while not fetch(lanczos.is_open)[0] and len(lanczos.vectors) < limit:
        # Further eigenvectors of a multiple eigenvalue are outside the space.
        lanczos.restart(_normal(A, generator))
        values, vectors, residual, found = _ritz(lanczos, pick, k, limit, -1.0)
        if (
            known is not None
            and found is not None
            and np.allclose(found, known, rtol=1e-10, atol=1e-12 * abs(values).max())
        ):
            break
        known = found
    if residual > tolerance * abs(values).max() and len(lanczos.vectors) < n:
        raise RuntimeError(
            f"eigsh: {len(lanczos.vectors)} products were not enough: the largest residual is "
            f"{residual:.3g}; raise maxiter or tol"
        )
    picked = pick(values, k)
    chosen = from_numpy(values[picked]).to(dtype=A.dtype, device=A.device)
    if not return_eigenvectors:
        return chosen
    with no_grad():
        return chosen, lanczos.combine(from_numpy(np.ascontiguousarray(vectors[:, picked])).to(A.device))


def _ritz(
    lanczos: Lanczos, pick: Callable[[np.ndarray, int], np.ndarray], k: int, limit: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray | None]:
    """Extend the basis until it is closed, as large as it may be, or the picked pairs are exact.

    Returns:
        All eigenvalues and eigenvectors in the basis, the largest residual of the picked ones, and the picked
        eigenvalues; None for these if the basis is too small.
    """
    check = k
    for _ in lanczos.sizes(Watch(looks=True), limit - len(lanczos.vectors)):
        size = len(lanczos.vectors)
        if check <= size < limit:
            values, vectors = _eigen(lanczos)
            residuals = abs(fetch(lanczos.off_diagonal[-1])[0] * vectors[-1, pick(values, k)])
            if residuals.max() <= tolerance * abs(values).max():
                break
            check = size + 1 + size // 10
    values, vectors = _eigen(lanczos)
    if len(values) < k:
        return values, vectors, math.inf, None
    picked = pick(values, k)
    residual = float(abs(fetch(lanczos.off_diagonal[-1])[0] * vectors[-1, picked]).max())
    return values, vectors, residual, values[picked]


def _eigen(lanczos: Lanczos) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of the tridiagonal matrix, on the host, in float64."""
    values, vectors = [x.cpu().numpy().astype(np.float64) for x in lanczos.eigen()]
    return values, vectors


class Estimate(NamedTuple):
    """The result of a random experiment.

    Attributes:
        value: the mean of the samples.
        error: its standard error; NaN of a single sample.
    """

    value: float
    error: float


def hutchinson_trace(A: LinearOperator, n_samples: int = 32, generator: Generator | None = None) -> Estimate:
    """The trace as the mean of z^T A z over random signs z.

    Args:
        A: square, (n, n).
        n_samples: products with A.
        generator: where the signs come from; default: the global one.

    Raises:
        ValueError: ``n_samples`` is not positive.
        RuntimeError: A is not square.

    Source: Hutchinson (1990), A stochastic estimator of the trace of the influence matrix for Laplacian
        smoothing splines.
    """
    require_square("hutchinson_trace", A)
    signs = _signs("hutchinson_trace", A, n_samples, generator)
    products = A @ signs
    with no_grad():
        return _estimate((signs * products).sum(0))


def hutchpp_trace(A: LinearOperator, n_samples: int = 33, generator: Generator | None = None) -> Estimate:
    """The trace by Hutch++: exact in the range of A times random signs, by Hutchinson's estimate beside it.

    Its error falls like 1 / ``n_samples`` for positive semidefinite A, that of Hutchinson's like the root.

    Args:
        A: square, (n, n).
        n_samples: products with A, at least 6; a third of them each for the range, within it, and beside it.
        generator: where the signs come from; default: the global one.

    Raises:
        ValueError: ``n_samples`` is below 6.
        RuntimeError: A is not square.

    Source: Meyer, Musco, Musco, Woodruff (2021), Hutch++: optimal stochastic trace estimation, algorithm 1.
    """
    require_square("hutchpp_trace", A)
    if n_samples < 6:
        raise ValueError(f"hutchpp_trace: n_samples must be at least 6, got {n_samples}")
    part = min(n_samples // 3, A.shape[0])
    sketch = A @ _signs("hutchpp_trace", A, part, generator)
    with no_grad():
        basis, _ = linalg.qr(sketch)
    inside = A @ basis
    with no_grad():
        signs = _signs("hutchpp_trace", A, n_samples - 2 * part, generator)
        beside = signs - basis @ (basis.T @ signs)
    products = A @ beside
    with no_grad():
        rest = _estimate((beside * products).sum(0))
        (exact,) = fetch((basis * inside).sum())
    return Estimate(exact + rest.value, rest.error)


def hutchinson_diagonal(A: LinearOperator, n_samples: int = 32, generator: Generator | None = None) -> Tensor:
    """An unbiased estimate of the diagonal (n,): the mean of z * (A z) over random signs z.

    Args:
        A: square, (n, n).
        n_samples: products with A.
        generator: where the signs come from; default: the global one.

    Raises:
        ValueError: ``n_samples`` is not positive.
        RuntimeError: A is not square.

    Source: Bekas, Kokiopoulou, Saad (2007), An estimator for the diagonal of a matrix, equation 1.
    """
    require_square("hutchinson_diagonal", A)
    signs = _signs("hutchinson_diagonal", A, n_samples, generator)
    products = A @ signs
    with no_grad():
        return (signs * products).mean(1)


class SpectralDensity:
    """The distribution of the eigenvalues of a symmetric operator, by stochastic Lanczos quadrature.

    A Lanczos process from a random vector gives nodes and weights with which sums of functions of the
    eigenvalues are computed, exactly for polynomials of degree 2 ``n_steps`` - 1 but for the randomness of
    the vector.

    Args:
        A: symmetric, (n, n).
        n_vectors: random vectors.
        n_steps: products with A for each of them.
        generator: where they come from; default: the global one.

    Attributes:
        nodes: of every process, eigenvalues of its tridiagonal matrix (NumPy, float64).
        weights: the share of the spectrum at each node, with the sum 1.

    Raises:
        ValueError: a number is not positive.
        RuntimeError: A is not square.

    Source: Golub, Welsch (1969); Ghorbani, Krishnan, Xiao (2019), An investigation into neural net
        optimization via Hessian eigenvalue density, algorithm 2; Ubaru, Chen, Saad (2017), Fast estimation of
        tr(f(A)) via stochastic Lanczos quadrature, algorithm 1.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> a = curvature.DiagonalOperator(nbdl.tensor([1.0, 2.0, 4.0], dtype=nbdl.float64))
        >>> density = curvature.SpectralDensity(a, n_vectors=1, n_steps=3)
        >>> round(density.sum_of(lambda x: x).value, 6)
        7.0
    """

    def __init__(
        self, A: LinearOperator, n_vectors: int = 10, n_steps: int = 80, generator: Generator | None = None
    ):
        require_square("SpectralDensity", A)
        for name, value in (("n_vectors", n_vectors), ("n_steps", n_steps)):
            if value < 1:
                raise ValueError(f"SpectralDensity: {name} must be at least 1, got {value}")
        self._size = A.shape[0]
        signs = _signs("SpectralDensity", A, n_vectors, generator)
        self.nodes: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        for column in signs.unbind(1):
            lanczos = Lanczos(A, column.contiguous())
            for _ in lanczos.sizes(Watch(n_steps), n_steps):
                pass
            values, vectors = _eigen(lanczos)
            self.nodes.append(values)
            self.weights.append(vectors[0] ** 2)

    def sum_of(self, function: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """The sum of a function over all eigenvalues, tr f(A); ``function`` works on arrays."""
        sums = [self._size * float(w @ function(x)) for x, w in zip(self.nodes, self.weights, strict=True)]
        return _estimate(from_numpy(np.array(sums)))

    def __call__(self, grid: Any, width: float | None = None) -> np.ndarray:
        """The density on a grid, with every node blurred to a normal distribution.

        Args:
            grid: where.
            width: its standard deviation; default: a hundredth of the range of the nodes.
        """
        points = np.asarray(grid, np.float64)
        if width is None:
            width = float(np.ptp(np.concatenate(self.nodes))) / 100 or 1e-8
        total = np.zeros_like(points)
        for x, w in zip(self.nodes, self.weights, strict=True):
            total += np.exp(-0.5 * ((points[..., None] - x) / width) ** 2) @ w
        return total / (len(self.nodes) * width * math.sqrt(2 * math.pi))


def logdet(
    A: LinearOperator,
    damping: float = 0.0,
    n_vectors: int | None = None,
    n_steps: int = 80,
    generator: Generator | None = None,
) -> Estimate:
    """The logarithm of the determinant of A + damping I, which must be positive definite.

    Args:
        A: symmetric, (n, n).
        damping: added to the diagonal.
        n_vectors: None: by a Cholesky decomposition of the whole matrix; else an estimate by
            :class:`SpectralDensity` with so many vectors.
        n_steps: products with A for each of them.
        generator: where the vectors come from.

    Raises:
        LinAlgError: the matrix is not positive definite.
        RuntimeError: A is not square.
    """
    require_square("logdet", A)
    if n_vectors is None:
        from nbdl.optim.curvature.solvers import cholesky_factor

        factor = cholesky_factor("logdet", A, damping)
        return Estimate(2 * fetch(factor.diagonal().log().sum())[0], 0.0)
    density = SpectralDensity(A, n_vectors, n_steps, generator)
    least = min(float(x.min()) for x in density.nodes) + damping
    if not least > 0:
        raise linalg.LinAlgError(
            f"logdet: the matrix is not positive definite, an eigenvalue is {least:.3g} or less; raise "
            "damping"
        )
    return density.sum_of(lambda x: np.log(x + damping))


def _normal(A: LinearOperator, generator: Generator | None) -> Tensor:
    return normal_(empty(A.shape[0], dtype=A.dtype, device=A.device), generator=generator)


def _signs(caller: str, A: LinearOperator, count: int, generator: Generator | None) -> Tensor:
    """Random signs (n, count)."""
    if count < 1:
        raise ValueError(f"{caller}: the number of samples must be at least 1, got {count}")
    with no_grad():
        return (
            2 * bernoulli_(empty(A.shape[0], count, dtype=A.dtype, device=A.device), generator=generator) - 1
        )


def _estimate(samples: Tensor) -> Estimate:
    """Mean and standard error of samples (k,)."""
    values = samples.to(np.float64)
    count = values.numel()
    deviation = values.std() if count > 1 else values.new_full((), math.nan)
    mean, spread = fetch(values.mean(), deviation)
    return Estimate(mean, spread / math.sqrt(count))
