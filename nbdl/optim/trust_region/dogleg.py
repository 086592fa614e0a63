"""The dogleg: a path from the Cauchy point to the Newton point."""

from __future__ import annotations

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.matmul import dot
from nbdl.ops.solving import cholesky_solve
from nbdl.optim.objective import Objective, Point, checked
from nbdl.optim.trust_region.steihaug import Steihaug
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem
from nbdl.optim.vectors import fetch, moved, norm


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
        wrong: Tensor | int = where(largest.isfinite(), info, 1)
        if not self._expects_convexity:
            failed, read = fetch(info, largest)
            checked(read)
            if failed:
                return self._steihaug(objective, point, radius)
            self._expects_convexity, wrong = True, 0
        g = point.gradient
        step, at_boundary = _on_path(matrix, g, -cholesky_solve(g.unsqueeze(1), factor).squeeze(1), radius)
        if isinstance(wrong, Tensor):
            step = where(wrong == 0, step, 0.0)
        decrease = -dot(g, step) - dot(step, matrix @ step) / 2
        return ModelStep(step, norm(step), decrease, at_boundary, wrong)

    def doubt(self) -> None:
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
