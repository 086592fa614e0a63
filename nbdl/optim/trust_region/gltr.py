"""The trust-region subproblem in a growing Krylov subspace."""

from __future__ import annotations

import numpy as np

from nbdl.optim.checks import count
from nbdl.optim.krylov import Lanczos
from nbdl.optim.objective import Objective, Point
from nbdl.optim.trust_region.secular import model_decrease, trust_region_step
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem


class GLTR(Subproblem):
    """The generalized Lanczos trust-region method: the exact minimizer in the Krylov space of the gradient.

    The space grows until the residual is small; unlike Steihaug's, the step goes on along the boundary.

    Source: Gould, Lucidi, Roma, Toint (1999), Solving the trust-region subproblem using the Lanczos method,
    algorithm 5.1 with the residual (5.2).

    Args:
        max_iterations: the largest size of the space; default: n.
    """

    def __init__(self, max_iterations: int | None = None):
        if max_iterations is not None:
            count("GLTR", "max_iterations", max_iterations, 1)
        self._max_iterations = max_iterations

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        lanczos = Lanczos(objective.hessian_operator(point), point.gradient)
        for k in lanczos:
            size = lanczos.start_norm
            tolerance = min(0.1, size**0.5) * size
            values, vectors = lanczos.eigen()
            c = size * vectors[0]
            step, multiplier = trust_region_step(values, c, radius)
            coefficients = vectors @ step
            residual = lanczos.off_diagonal[-1] * abs(coefficients[-1])
            if residual <= tolerance or k == self._max_iterations:
                break
        length = float(np.linalg.norm(step))
        return ModelStep(
            lanczos.combine(coefficients), length, model_decrease(values, c, step), multiplier > 0
        )
