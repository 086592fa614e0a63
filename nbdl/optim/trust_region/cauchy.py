"""The Cauchy point: the best step along the negative gradient."""

from __future__ import annotations

from nbdl.ops.arithmetic import where
from nbdl.ops.matmul import dot
from nbdl.optim.objective import Objective, Point
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem


class Cauchy(Subproblem):
    """The minimizer of the model along -g, Nocedal & Wright (2006), algorithm 4.2.

    Nothing of it is read before the function at its end.
    """

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        g = point.gradient
        squared, bend = dot(g, g), dot(g, objective.hessian_operator(point) @ g)
        size = squared.sqrt()
        at_boundary = size * squared >= radius * bend  # so it is without positive curvature
        tau = where(at_boundary, radius / size, squared / bend)
        return ModelStep(g * -tau, tau * size, tau * squared - tau * tau * bend / 2, at_boundary)
