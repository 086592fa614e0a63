"""Directions that solve with the Hessian."""

from __future__ import annotations

import math

import numpy as np

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import eye
from nbdl.ops.solving import cholesky_solve
from nbdl.optim.checks import count
from nbdl.optim.directions import Direction
from nbdl.optim.krylov import Lanczos, truncated_cg
from nbdl.optim.objective import NonFiniteError, Objective, Point, checked
from nbdl.optim.vectors import fetch

_MIN_SHIFT = 1e-3  # beta of algorithm 3.3, relative to the Frobenius norm


class NewtonDirection(Direction):
    """-(B + tau I)^{-1} g, with the least tau of a growing sequence that makes the matrix positive definite.

    Source: Nocedal & Wright (2006), algorithms 3.2 and 3.3 (Cholesky with added multiple of the identity).
    """

    needs_hessian = True
    scales_itself = True

    def __init__(self) -> None:
        self._expects_convexity = False

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        matrix, largest = objective.hessian(point)
        factor, info = linalg.cholesky_ex(matrix)
        if self._expects_convexity:  # whether it is so is read together with the function at the end
            self.wrong = where(largest.isfinite(), info, 1)
            return where(self.wrong == 0, _solved(factor, point.gradient), 0.0)
        self.wrong = None
        smallest, size, failed, read = fetch(
            matrix.diagonal().amin(), (matrix * matrix).sum().sqrt(), info, largest
        )
        checked(read)
        self._expects_convexity = not failed
        if failed:
            factor = shifted_cholesky(matrix, smallest, size)
        return _solved(factor, point.gradient)

    def doubt(self) -> None:
        self._expects_convexity = False


def _solved(factor: Tensor, gradient: Tensor) -> Tensor:
    return -cholesky_solve(gradient.unsqueeze(1), factor).squeeze(1)


def shifted_cholesky(matrix: Tensor, smallest: float, size: float) -> Tensor:
    """The Cholesky factor of ``matrix`` + tau I with the first tau that suffices (algorithm 3.3).

    Args:
        matrix: without a Cholesky factor.
        smallest: the least element of its diagonal.
        size: its Frobenius norm.
    """
    identity = eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    failed, beta = 1.0, _MIN_SHIFT * (size or 1.0)
    tau = beta if smallest > 0 else beta - smallest
    while failed:
        factor, info = linalg.cholesky_ex(matrix + tau * identity)
        (failed,) = fetch(info)
        tau = max(2 * tau, beta)
    return factor


class NewtonCG(Direction):
    """The Newton equation by conjugate gradients, as exactly as the gradient is small.

    The residual is at most min(1/2, sqrt(|g|)) |g|, which makes the convergence superlinear.

    Source: Nocedal & Wright (2006), algorithm 7.1 (line search Newton-CG).

    Args:
        max_iterations: of conjugate gradients; default: 20 n, at most 200.
    """

    needs_hessian = True
    scales_itself = True

    def __init__(self, max_iterations: int | None = None):
        if max_iterations is not None:
            count("NewtonCG", "max_cg_iterations", max_iterations, 1)
        self._max_iterations = max_iterations

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        limit = self._max_iterations or min(20 * point.x.numel(), 200)

        def tolerance(size: float) -> float:
            return min(0.5, math.sqrt(size)) * size

        return truncated_cg(objective.hessian_operator(point), point.gradient, tolerance, limit)


class SaddleFree(Direction):
    """-|B|^{-1} g: the eigenvalues of the Hessian by magnitude, so that saddles repel.

    Source: Dauphin, Pascanu, Gulcehre, Cho, Ganguli, Bengio (2014), Identifying and attacking the saddle
        point problem in high-dimensional non-convex optimization, algorithm 1.

    Args:
        subspace: None for the whole Hessian; or the size of the Krylov subspace of the gradient in which the
            step is taken, which needs so many products with it.
    """

    needs_hessian = True
    scales_itself = True

    def __init__(self, subspace: int | None = None):
        if subspace is not None:
            count("SaddleFree", "subspace", subspace, 1)
        self._subspace = subspace

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        g = point.gradient
        rounding = float(np.finfo(g.dtype).eps)  # relative to the largest, less is noise
        if self._subspace is None:
            matrix, largest = objective.hessian(point)
            self.wrong = largest.isfinite().logical_not()
            values, vectors = linalg.eigh(matrix)
            magnitude = values.abs()
            floor = (rounding * magnitude.amax()).clamp(min=float(np.finfo(g.dtype).tiny))
            return -(vectors @ ((vectors.T @ g) / magnitude.maximum(floor)))
        lanczos = Lanczos(objective.hessian_operator(point), g)
        for size in lanczos:
            if size >= self._subspace:
                break
        ritz_values, ritz_vectors = lanczos.eigen()
        sizes = abs(ritz_values)
        sizes = sizes.clip(min=max(rounding * sizes.max(), float(np.finfo(g.dtype).tiny)))
        return lanczos.combine(-ritz_vectors @ (lanczos.start_norm * ritz_vectors[0] / sizes))

    def doubt(self) -> None:
        raise NonFiniteError
