"""The dogleg: a path from the Cauchy point to the Newton point."""

from __future__ import annotations

from nbdl import linalg
from nbdl.ops.matmul import dot
from nbdl.ops.solving import cholesky_solve
from nbdl.optim.objective import Objective, Point
from nbdl.optim.operators import DenseOperator
from nbdl.optim.trust_region.steihaug import Steihaug
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem, boundary_factor, modelled
from nbdl.optim.vectors import fetch, moved, norm


class Dogleg(Subproblem):
    """The minimizer along the dogleg path, Nocedal & Wright (2006), section 4.1, eq. (4.16).

    The path is meant for a positive definite Hessian; where it is not, the step is Steihaug's.
    """

    dense = True

    def __init__(self) -> None:
        self._steihaug = Steihaug()

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        g, matrix = point.gradient, objective.hessian(point)
        factor, info = linalg.cholesky_ex(matrix)
        newton = -cholesky_solve(g.unsqueeze(1), factor).squeeze(1)
        (failed,) = fetch(info)
        if failed:
            return self._steihaug(objective, point, radius)
        (length,) = fetch(norm(newton))
        operator = DenseOperator(matrix)
        if length <= radius:
            return modelled(operator, g, newton, at_boundary=False)
        squared, bend = fetch(dot(g, g), dot(g, operator @ g))
        cauchy = g * (-squared / bend)
        if squared**1.5 >= radius * bend:
            return modelled(operator, g, g * (-radius / squared**0.5), at_boundary=True)
        leg = newton - cauchy
        dd, zd, zz = fetch(dot(leg, leg), dot(cauchy, leg), dot(cauchy, cauchy))
        tau = boundary_factor(dd, zd, zz, radius)
        return modelled(operator, g, moved(cauchy, tau, leg), at_boundary=True)
