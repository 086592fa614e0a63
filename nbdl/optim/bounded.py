"""L-BFGS with bounds."""

from __future__ import annotations

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.bounds import Box
from nbdl.optim.directions import LimitedMemory
from nbdl.optim.iteration import Method
from nbdl.optim.objective import Objective, Point
from nbdl.optim.result import Status
from nbdl.optim.search.interpolation import quadratic_minimizer
from nbdl.optim.search.line import MAX_STEP
from nbdl.optim.vectors import fetch, moved, norm

_MARGIN = 1e-10  # variables so near to a bound count as being there
_C1, _C2 = 1e-4, 0.9


class ProjectedLBFGS(Method):
    """L-BFGS in the variables that no bound holds, and a search along the projection of its direction.

    The pairs are restricted to these variables, so that the direction is a quasi-Newton step of the reduced
    problem, and every point is projected onto the box. It solves the problems of L-BFGS-B (Byrd, Lu, Nocedal,
    Zhu (1995)); the bounds at which variables are held are found by the projection in place of the
    generalized Cauchy point.

    Source: Bertsekas (1982), Projected Newton methods for optimization problems with simple constraints, eqs.
        (27) to
    (32); Schmidt, Kim, Sra (2011), Projected Newton-type methods in machine learning, algorithm 11.3.

    Args:
        box: the bounds.
        history_size: of the memory.
        max_evaluations: of the function in one search.
    """

    def __init__(self, box: Box, history_size: int = 10, max_evaluations: int = 40):
        self._box, self._memory, self._max_evaluations = box, LimitedMemory(history_size), max_evaluations

    def iterate(self, objective: Objective, point: Point) -> tuple[Point, Status | None]:
        with no_grad():
            free = self._box.free(point.x, point.gradient, _MARGIN)
            reduced = point.gradient * free
            had_memory = self._memory.count > 0
            found = self._search(objective, point, -self._memory.multiply_within(reduced, free))
            if found is None and had_memory:
                self._memory.forget()
                found = self._search(objective, point, -reduced)
            if found is None:
                return point, Status.SEARCH_FAILED
            if found.slope - found.extra[0] > 1e-8 * abs(found.extra[0]):
                self._memory.push(point, found)
            return found, Status.UNBOUNDED if found.value < -MAX_STEP else None

    def _search(self, objective: Objective, point: Point, direction: Tensor) -> Point | None:
        """A point with sufficient decrease on the arc P(x + t d), Bertsekas (1982), eq. (29)."""
        step = 1.0
        if self._memory.count == 0:
            (size,) = fetch(norm(direction))
            step = min(1.0, 1 / size)
        best: Point | None = None
        for _ in range(self._max_evaluations):
            x = self._box.project(moved(point.x, step, direction))
            step_taken = x - point.x
            trial = objective.evaluate(x, step_taken, [dot(point.gradient, step_taken)])
            (slope,), value = trial.extra, trial.value
            if not slope < 0:
                return best
            if (
                trial.is_finite
                and value <= point.value + _C1 * slope
                and (best is None or value < best.value)
            ):
                best = trial
                if trial.slope >= _C2 * slope or step >= MAX_STEP:
                    return best
                step *= 4
            elif best is not None:
                return best
            elif trial.is_finite:
                factor = quadratic_minimizer(1.0, point.value, slope, value)
                step *= min(max(factor, 0.1), 0.5)
            else:
                step *= 0.1
        return best
