"""Directions that solve with the Hessian."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange, eye
from nbdl.ops.joining import cat
from nbdl.ops.solving import cholesky_solve
from nbdl.optim.checks import count
from nbdl.optim.directions import Direction
from nbdl.optim.krylov import Lanczos, Watch, truncated_cg
from nbdl.optim.objective import NonFiniteError, Objective, Point
from nbdl.optim.search.line import WrongDirectionError, refused
from nbdl.optim.vectors import fetch, is_on_host

_MIN_SHIFT = 1e-3  # beta of algorithm 3.3, relative to the Frobenius norm
_DOUBLINGS = 11  # of the shift, until it exceeds that norm


class NewtonDirection(Direction):
    """-(B + tau I)^{-1} g, with the least tau of a growing sequence that makes the matrix positive definite.

    After a matrix that needed no shift the next one is taken to need none; the end of the first trial tells.

    Source: Nocedal & Wright (2006), algorithms 3.2 and 3.3 (Cholesky with added multiple of the identity).
    """

    needs_hessian = True
    scales_itself = True

    def __init__(self) -> None:
        self._expects_convexity = False

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        matrix, largest = objective.hessian(point)
        if self._expects_convexity:
            factor, shift = linalg.cholesky_ex(matrix)  # shift: not 0 where one is needed
            failed = where(largest.isfinite(), shift, 1)
        else:
            factor, shift = shifted_cholesky(matrix)
            failed = largest.isfinite().logical_not()
        self.unread = [failed, shift]
        return where(failed == 0, -cholesky_solve(point.gradient.unsqueeze(1), factor).squeeze(1), 0.0)

    def see(self, values: Sequence[float]) -> None:
        failed, shift = values
        if failed:
            raise WrongDirectionError
        self._expects_convexity = not shift

    def doubt(self) -> None:
        if not self._expects_convexity:
            raise NonFiniteError
        self._expects_convexity = False


def shifted_cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The Cholesky factor of ``matrix`` + tau I with the first tau that suffices (algorithm 3.3).

    On the host one tau after the other is tried; on a device all of them, at once.

    Args:
        matrix: symmetric and finite.

    Returns:
        The factor, and tau, 0-d.
    """
    smallest, size = matrix.diagonal().amin(), (matrix * matrix).sum().sqrt()
    beta = _MIN_SHIFT * where(size > 0, size, 1.0)
    doublings = 2.0 ** arange(_DOUBLINGS, dtype=matrix.dtype, device=matrix.device)
    shifts = cat([beta.new_zeros(1), (where(smallest > 0, 0.0, -smallest) + beta) * doublings])
    identity = eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    one_by_one = is_on_host(matrix)
    for tried in shifts.split(1 if one_by_one else len(shifts)):
        factors, info = linalg.cholesky_ex(matrix + tried.reshape(-1, 1, 1) * identity)
        is_first = (info == 0) & ((info == 0).cumsum(0) == 1)
        if one_by_one and fetch(is_first)[0]:
            break
    factor = where(is_first.reshape(-1, 1, 1), factors, 0.0).sum(0)
    return factor, where(is_first, tried, 0.0).sum()


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
        self._max_iterations, self._watch = max_iterations, Watch()

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        limit = self._max_iterations or min(20 * point.x.numel(), 200)
        operator = objective.hessian_operator(point)
        direction, used = truncated_cg(operator, point.gradient, _forcing, limit, self._watch)
        self.unread = [used]
        return direction

    def see(self, values: Sequence[float]) -> None:
        self._watch.learn(*values)


def _forcing(size: Tensor) -> Tensor:
    """The residual that is allowed where the gradient has this length."""
    return size.sqrt().clamp(max=0.5) * size


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
        if self._subspace is None:
            matrix, largest = objective.hessian(point)
            self.unread = [largest.isfinite().logical_not()]
            values, vectors = linalg.eigh(matrix)
            return -(vectors @ ((vectors.T @ g) / _magnitudes(values)))
        lanczos = Lanczos(objective.hessian_operator(point), g)
        for _ in lanczos.sizes(Watch(self._subspace), self._subspace):
            pass
        self.unread = [lanczos.wrong]
        values, vectors = lanczos.eigen()
        return lanczos.combine(-(vectors @ (lanczos.start_norm * vectors[0] / _magnitudes(values))))

    def see(self, values: Sequence[float]) -> None:
        refused(values)

    def doubt(self) -> None:
        raise NonFiniteError


def _magnitudes(values: Tensor) -> Tensor:
    """Of eigenvalues; those that are less than the rounding error of the largest are taken to be that."""
    sizes, limits = values.abs(), np.finfo(values.dtype)
    return sizes.maximum((float(limits.eps) * sizes.amax()).clamp(min=float(limits.tiny)))
