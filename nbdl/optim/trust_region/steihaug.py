"""Conjugate gradients that stop at the boundary."""

from __future__ import annotations

import math

from nbdl.autograd.modes import no_grad
from nbdl.ops.matmul import dot
from nbdl.optim.checks import count
from nbdl.optim.objective import Objective, Point
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem, boundary_factor
from nbdl.optim.vectors import fetch, moved


class Steihaug(Subproblem):
    """CG-Steihaug, Nocedal & Wright (2006), algorithm 7.2.

    Negative curvature is followed to the boundary, and so is a step that would leave the region.

    Args:
        max_iterations: of conjugate gradients; default: 2 n.
    """

    def __init__(self, max_iterations: int | None = None):
        if max_iterations is not None:
            count("Steihaug", "max_iterations", max_iterations, 1)
        self._max_iterations = max_iterations

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        operator, g = objective.hessian_operator(point), point.gradient
        z, r, d = g.zeros_like(), g, -g
        rr = dot(r, r)
        zz = zd = dd = decrease = tolerance = 0.0  # |z|^2, z^T d, |d|^2, -m(z)
        for index in range(self._max_iterations or 2 * g.numel()):
            product = operator @ d
            with no_grad():
                curvature = dot(d, product)
                step = rr / curvature
                new_r = moved(r, step, product)
                new_rr = dot(new_r, new_r)
                bend, squared, new_squared = fetch(curvature, rr, new_rr)
                if index == 0:
                    dd, tolerance = squared, min(0.5, squared**0.25) ** 2 * squared
                alpha = squared / bend if bend > 0 else math.inf
                new_zz = zz + 2 * alpha * zd + alpha * alpha * dd if bend > 0 else math.inf
                if new_zz >= radius * radius:
                    tau = boundary_factor(dd, zd, zz, radius)
                    decrease += tau * squared - tau * tau * bend / 2
                    return ModelStep(moved(z, tau, d), radius, decrease, True)
                z = moved(z, step, d)
                decrease += alpha * squared / 2
                if new_squared <= tolerance:
                    return ModelStep(z, math.sqrt(new_zz), decrease, False)
                beta = new_squared / squared
                d = moved(-new_r, new_rr / rr, d)
                zz, zd, dd = new_zz, beta * (zd + alpha * dd), new_squared + beta * beta * dd
                r, rr = new_r, new_rr
        return ModelStep(z, math.sqrt(zz), decrease, False)
