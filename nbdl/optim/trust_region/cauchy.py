"""The Cauchy point: the best step along the negative gradient."""

from __future__ import annotations

from nbdl.ops.matmul import dot
from nbdl.optim.objective import Objective, Point
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem
from nbdl.optim.vectors import fetch


class Cauchy(Subproblem):
    """The minimizer of the model along -g, Nocedal & Wright (2006), algorithm 4.2."""

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        g = point.gradient
        squared, bend = fetch(dot(g, g), dot(g, objective.hessian_operator(point) @ g))
        size = squared**0.5
        if bend > 0 and size * squared < radius * bend:
            tau, at_boundary = squared / bend, False
        else:
            tau, at_boundary = radius / size, True
        return ModelStep(g * -tau, tau * size, tau * squared - tau * tau * bend / 2, at_boundary)
