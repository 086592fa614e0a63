"""The dogleg: a path from the Cauchy point to the Newton point."""

from __future__ import annotations

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.matmul import dot
from nbdl.ops.solving import cholesky_solve
from nbdl.optim.objective import NonFiniteError, Objective, Point
from nbdl.optim.trust_region.steihaug import Steihaug
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem
from nbdl.optim.vectors import fetch, is_on_host, moved, norm


class Dogleg(Subproblem):
    """The minimizer along the dogleg path, Nocedal & Wright (2006), section 4.1, eq. (4.16).

    The path is meant for a positive definite Hessian; where it is not, the step is Steihaug's. After one that
    was positive definite the next one is taken to be so, until the end of its path says otherwise.
    """

    dense = True

    def __init__(self) -> None:
        self._steihaug = Steihaug()
        self._expects_convexity = False

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        matrix, largest = objective.hessian(point)
        factor, info = linalg.cholesky_ex(matrix)
        g, is_infinite = point.gradient, largest.isfinite().logical_not()
        step, at_boundary = _on_path(matrix, g, -cholesky_solve(g.unsqueeze(1), factor).squeeze(1), radius)
        failed: Tensor = is_infinite
        if self._expects_convexity:
            failed = where(is_infinite, 1, info)
        elif not (is_on_host(info) and not fetch(info)[0]):  # what a device found is not known yet
            other = self._steihaug(objective, point, radius)
            step = where(info == 0, step, other.step)
            at_boundary = where(info == 0, at_boundary, other.at_boundary)
        step = where(failed == 0, step, 0.0)
        decrease = -dot(g, step) - dot(step, matrix @ step) / 2
        return ModelStep(step, norm(step), decrease, at_boundary, failed, note=info)

    def see(self, model: ModelStep) -> None:
        self._expects_convexity = not model.note

    def doubt(self) -> None:
        if not self._expects_convexity:
            raise NonFiniteError
        self._expects_convexity = False


def _on_path(matrix: Tensor, g: Tensor, newton: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Where the path leaves the region, or its end; and whether it leaves."""
    squared = dot(g, g)
    cauchy = g * (-squared / dot(g, matrix @ g))
    leg = newton - cauchy
    dd, zd, zz = dot(leg, leg), dot(cauchy, leg), dot(cauchy, cauchy)
    rest = (radius * radius - zz).clamp(min=0)
    root = (zd * zd + dd * rest).sqrt()
    tau = where(zd > 0, rest / (zd + root), (root - zd) / dd)
    leaves = norm(newton) > radius
    bent = where(zz >= radius * radius, g * (-radius / squared.sqrt()), moved(cauchy, tau, leg))
    return where(leaves, bent, newton), leaves
