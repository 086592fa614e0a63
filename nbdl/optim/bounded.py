"""L-BFGS with bounds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import eye
from nbdl.ops.joining import cat
from nbdl.ops.matmul import dot
from nbdl.optim.bounds import Box
from nbdl.optim.curvature.quasi_newton import compact
from nbdl.optim.directions import LimitedMemory
from nbdl.optim.iteration import Method
from nbdl.optim.objective import Objective, Point
from nbdl.optim.result import Status
from nbdl.optim.search import MoreThuente
from nbdl.optim.search.line import (
    MAX_STEP,
    Line,
    NotADescentDirectionError,
    Sample,
    WrongDirectionError,
    refused,
)
from nbdl.optim.vectors import norm

_LEAST_CURVATURE = 1e-8  # of a pair that is remembered, relative to the slope


class _Model(NamedTuple):
    """g^T p + p^T B p / 2 at x, with B = theta I - W M W^T."""

    x: Tensor
    g: Tensor
    theta: Tensor
    w: Tensor
    m: Tensor


class _Cauchy(NamedTuple):
    """The generalized Cauchy point.

    Attributes:
        x: the point (n,).
        c: W^T (x - start).
        free: 1 for variables that are not at a bound there (n,).
    """

    x: Tensor
    c: Tensor
    free: Tensor


class BoundedLBFGS(Method):
    """L-BFGS-B: the quadratic model of L-BFGS, minimized within the bounds, and a search towards that point.

    The generalized Cauchy point, the first minimizer of the model along the projected gradient, says which
    variables are held at bounds; in the others the model is minimized, and the result projected.

    Source: Byrd, Lu, Nocedal, Zhu (1995), A limited memory algorithm for bound constrained optimization,
        algorithms L-BFGS-B and CP and section 5.1; Morales, Nocedal (2011), Remark on algorithm 778, for the
        projection.

    Args:
        box: the bounds.
        history_size: of the memory.
    """

    def __init__(self, box: Box, history_size: int = 10):
        self._box, self._memory, self._search = box, LimitedMemory(history_size), MoreThuente(c1=1e-3)

    def iterate(self, objective: Objective, point: Point) -> tuple[Point, Status | None]:
        with no_grad():
            try:
                found, status = self._searched(objective, point)
            except WrongDirectionError:
                found, status = None, None
            if found is None and self._memory.forget():
                found, status = self._searched(objective, point)
            if found is None:
                return point, status or Status.SEARCH_FAILED
            return found.point, status

    def save(self, state: dict[str, Any]) -> None:
        self._memory.save(state)

    def load(self, state: dict[str, Any]) -> None:
        self._memory.load(state)

    def _searched(self, objective: Objective, point: Point) -> tuple[Sample | None, Status | None]:
        """The end of a search towards the minimizer of the model; what it tells of curvature is learned."""
        end, singular = self._minimizer(point)
        direction = end - point.x
        if not self._memory.count and not self._box.is_bounded:
            direction = direction / norm(direction).clamp(min=1)
        longest = self._longest(point.x, direction)
        line = Line(objective, point, direction, longest, self._box, [singular], refused)
        try:
            sample, status = self._search(line, 1.0)
        except NotADescentDirectionError:
            return None, None
        if sample is not None and (sample.slope - line.slope) > -_LEAST_CURVATURE * line.slope:
            self._memory.push(point, sample.point)
        return sample, None if status is Status.SEARCH_FAILED else status

    def _longest(self, x: Tensor, direction: Tensor) -> Tensor:
        """How far a direction can be followed, 0-d; 1 at least, since its end is within the bounds."""
        bound = where(direction > 0, self._box.upper, self._box.lower)
        steps = where(direction == 0, math.inf, (bound - x) / direction)
        return steps.amin().clamp(1.0, MAX_STEP)

    def _minimizer(self, point: Point) -> tuple[Tensor, Tensor]:
        """The minimizer of the model; and 0-d, not 0 if there is none, since pairs depend on each other."""
        x, g = point.x, point.gradient
        if not self._memory.count:
            model = _Model(x, g, x.new_ones(()), x.new_zeros((x.numel(), 1)), x.new_zeros((1, 1)))
            return self._in_subspace(model, self._cauchy(model))[0], x.new_zeros(())
        *matrix, no_inverse = compact(*self._memory.pairs())
        model = _Model(x, g, *matrix)
        end, no_solution = self._in_subspace(model, self._cauchy(model))
        singular = no_inverse.abs() + no_solution.abs()
        return where(singular == 0, end, x), singular

    def _cauchy(self, model: _Model) -> _Cauchy:
        """Algorithm CP, all segments of the path at once.

        Segment j lies between the breakpoints t_{j-1} and t_j; there the first j variables, in the order of
        their breakpoints, are at bounds, and the others move by -g.
        """
        x, g, theta, w, m = model
        bound = where(g < 0, self._box.upper, self._box.lower)
        breaks = where(g == 0, math.inf, (x - bound) / g)
        times, order = breaks.sort()
        d = where(times > 0, -g[order], 0.0)
        starts = cat([times.new_zeros(1), times[:-1]])
        lengths = where(times.isfinite(), times - starts, 0.0)
        is_reached = starts.isfinite()
        starts = where(is_reached, starts, 0.0)
        squares = _from_here(d * d)
        p = _from_here(d.unsqueeze(1) * w[order])
        steps = lengths.unsqueeze(1) * p
        c = steps.cumsum(0) - steps
        slope = -squares + theta * starts * squares - ((p @ m) * c).sum(1)
        bend = theta * squares - ((p @ m) * p).sum(1)
        tiny = float(np.finfo(x.dtype).eps) * theta * squares[0]
        advance = (-slope / bend.maximum(tiny).clamp(min=1e-300 if x.itemsize > 4 else 1e-30)).clamp(min=0)
        ends_here = is_reached & ((slope >= 0) | (starts + advance < times))
        # The first minimizer, which is the nearest; where there is none, all variables end at bounds.
        end = where(ends_here, starts + advance, math.inf).amin()
        is_free = breaks > end
        at = self._box.project(where(is_free, x - g * end, where(g == 0, x, bound)))
        return _Cauchy(at, w.T @ (at - x), is_free.to(x.dtype))

    def _in_subspace(self, model: _Model, cauchy: _Cauchy) -> tuple[Tensor, Tensor]:
        """The minimizer of the model in the free variables, section 5.1 (direct primal method).

        The second is 0-d and not 0 where the equation for it is singular.
        """
        x, g, theta, w, m = model
        r = cauchy.free * (g + theta * (cauchy.x - x) - w @ (m @ cauchy.c))
        inside = w * cauchy.free.unsqueeze(1)
        identity = eye(m.shape[0], dtype=x.dtype, device=x.device)
        v, singular = linalg.solve_ex(identity - m @ (inside.T @ inside) / theta, m @ (inside.T @ r))
        step = -(r + inside @ v / theta) / theta
        projected = self._box.project(cauchy.x + step)
        bound = where(step > 0, self._box.upper, self._box.lower)
        longest = where(step == 0, math.inf, (bound - cauchy.x) / step).amin().clamp(min=0, max=1)
        truncated = self._box.project(cauchy.x + longest * step)
        return where(dot(projected - x, g) < 0, projected, truncated), singular


def _from_here(terms: Tensor) -> Tensor:
    """The sums of the terms of every index and all after it, along axis 0."""
    return terms.flip(0).cumsum(0).flip(0)
