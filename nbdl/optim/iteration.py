"""The iteration that all methods share: step, test, stop with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import maximum, minimum, sqrt, where
from nbdl.ops.matmul import dot
from nbdl.ops.pointwise import pointwise
from nbdl.optim.checks import number
from nbdl.optim.directions import Direction
from nbdl.optim.objective import NonFiniteError, Objective, Point
from nbdl.optim.result import Status
from nbdl.optim.search import FixedStep, Search
from nbdl.optim.search.line import Line, NotADescentDirectionError, WrongDirectionError
from nbdl.optim.stationarity import negative_curvature
from nbdl.optim.trust_region import Subproblem
from nbdl.optim.trust_region.exact import Spectrum
from nbdl.optim.trust_region.secular import cubic_step
from nbdl.optim.trust_region.subproblem import ModelStep
from nbdl.optim.vectors import fetch, max_norm, moved

_unit_step = pointwise("unit_step", lambda slope: 1 / sqrt(maximum(-slope, 1)))
_same_decrease = pointwise(
    "same_decrease",
    lambda slope, decrease, most: minimum(
        where(slope < 0, 2.02 * decrease / where(slope < 0, -slope, 1), 1), most
    ),
)
_BOTTOM = 1e20  # a function that falls below is taken to be unbounded
_MAX_ESCAPES = 20  # from saddle points
_LIGHTEST = 1e-60  # cubic penalty: a step that it allows finds out that a function is unbounded
_HEAVIER = 10  # the cubic penalty after a step that failed; 3 makes many steps into narrow valleys too short


class Method:
    """Base of the methods.

    Attributes:
        needs_hessian: whether curvature is used.
        dense: whether as a whole matrix.
    """

    needs_hessian = False
    dense = False

    def iterate(self, objective: Objective, point: Point) -> tuple[Point, Status | None]:
        """One iteration.

        Args:
            objective: what is minimized.
            point: where the method is; differentiated, with a gradient that is not zero.

        Returns:
            The next point, which may be the same one, and None, or the reason why there is no next iteration.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no iteration")

    def save(self, state: dict[str, Any]) -> None:
        """Put what a later step needs into the state of an optimizer: numbers and tensors."""

    def load(self, state: dict[str, Any]) -> None:
        """Take it from there, if it is there."""


class LineSearchMethod(Method):
    """A direction, and a search along it.

    Where the direction does not descend, or the search fails, what the direction has learned is forgotten and
    the step repeated once along the negative gradient.

    Args:
        direction: see :mod:`nbdl.optim.directions`.
        search: see :mod:`nbdl.optim.search`.
    """

    def __init__(self, direction: Direction, search: Search):
        self.direction, self.search = direction, search
        self.needs_hessian = direction.needs_hessian
        self._decrease: float | None = None  # of the function, in the iteration before

    def iterate(self, objective: Objective, point: Point) -> tuple[Point, Status | None]:
        with no_grad():
            try:
                new, status = self._search(self._line(objective, point))
            except WrongDirectionError:
                self.direction.doubt()
                new, status = self._search(self._line(objective, point))
            if status is Status.SEARCH_FAILED and new is point:
                self._decrease = None
                if self.direction.forget() or self.direction.needs_hessian:
                    d = -point.gradient
                    new, status = self._search(Line(objective, point, self._with_length(d, point)))
        return new, None if new is not point and status is Status.SEARCH_FAILED else status

    def save(self, state: dict[str, Any]) -> None:
        if self._decrease is not None:
            state["last_decrease"] = self._decrease
        self.direction.save(state)

    def load(self, state: dict[str, Any]) -> None:
        self._decrease = state.get("last_decrease", self._decrease)
        self.direction.load(state)

    def _line(self, objective: Objective, point: Point) -> Line:
        d = self._with_length(self.direction(objective, point), point)
        return Line(objective, point, d, unread=self.direction.unread, see=self.direction.see)

    def _search(self, line: Line) -> tuple[Point, Status | None]:
        point = line.start
        try:
            found = self.search(line, 1.0)
        except NotADescentDirectionError:
            return point, Status.SEARCH_FAILED
        if found.sample is None:
            return point, found.status
        sample = found.sample
        if sample.value == point.value and sample.slope == line.slope:  # a step that is lost in rounding
            return point, Status.SEARCH_FAILED
        self._decrease = point.value - sample.value
        self.direction.learn(point, sample.point, (sample.slope - line.slope) / -line.slope)
        return sample.point, found.status

    def _with_length(self, d: Tensor, point: Point) -> Tensor:
        """A direction as long as its first trial step.

        A direction without a natural length gets the one that promises the decrease of the last step,
        Nocedal & Wright (2006), eq. (3.60); before there was one, the length of -g becomes 1. The slope that
        this takes stays on the device.
        """
        if self.direction.scales_itself or isinstance(self.search, FixedStep):
            return d
        if self._decrease is not None and not self._decrease > 0:
            return d
        slope = dot(point.gradient, d)
        if self._decrease is None:
            return d * _unit_step(slope)
        return d * _same_decrease(slope, self._decrease, self.direction.longest_trial)


class TrustRegionMethod(Method):
    """A model that is trusted within a radius, Nocedal & Wright (2006), algorithm 4.1.

    Args:
        subproblem: see :mod:`nbdl.optim.trust_region`.
        radius: the first radius.
        max_radius: the largest.
        eta: the share of the promised decrease for which a step is taken.

    Raises:
        ValueError: not 0 < radius < max_radius, or not 0 <= eta < 1/4.
    """

    needs_hessian = True

    def __init__(
        self, subproblem: Subproblem, radius: float = 1.0, max_radius: float = math.inf, eta: float = 0.15
    ):
        number("trust region", "initial_trust_radius", radius, above=0)
        number("trust region", "max_trust_radius", max_radius, above=0)
        number("trust region", "eta", eta, least=0, below=0.25)
        if not radius < max_radius:
            raise ValueError(
                "trust region: initial_trust_radius must be less than max_trust_radius, got "
                f"{radius} and {max_radius}"
            )
        self._subproblem, self.radius, self._max_radius, self._eta = subproblem, radius, max_radius, eta
        self.dense = subproblem.dense

    def save(self, state: dict[str, Any]) -> None:
        state["radius"] = self.radius

    def load(self, state: dict[str, Any]) -> None:
        self.radius = state.get("radius", self.radius)

    def iterate(self, objective: Objective, point: Point) -> tuple[Point, Status | None]:
        with no_grad():
            trial, model, ratio = tried(objective, point, self._subproblem(objective, point, self.radius))
            if model.wrong:
                self._subproblem.doubt()
                trial, model, ratio = tried(objective, point, self._subproblem(objective, point, self.radius))
            self._subproblem.see(model)
        if trial.value == -math.inf:
            return point, Status.UNBOUNDED
        if ratio < 0.25:
            self.radius = 0.25 * min(self.radius, model.length)
        elif ratio > 0.75 and model.at_boundary:
            self.radius = min(2 * self.radius, self._max_radius)
        if ratio > self._eta:
            return trial, None
        return point, Status.SEARCH_FAILED if is_lost(point, model) else None


class CubicRegularization(Method):
    """A quadratic model with a cubic penalty of the step that adapts.

    Source: Cartis, Gould, Toint (2011), Adaptive cubic regularisation methods for unconstrained optimization,
        part I, algorithm 2.1, with the exact minimizer of the model.

    Args:
        weight: the first weight sigma.
    """

    needs_hessian = dense = True

    def __init__(self, weight: float = 1.0):
        self.weight = number("ARC", "initial_weight", weight, above=0)
        self._spectrum: Spectrum | None = None

    def save(self, state: dict[str, Any]) -> None:
        state["weight"] = self.weight

    def load(self, state: dict[str, Any]) -> None:
        self.weight = state.get("weight", self.weight)

    def iterate(self, objective: Objective, point: Point) -> tuple[Point, Status | None]:
        with no_grad():
            if self._spectrum is None or self._spectrum.point is not point:
                self._spectrum = Spectrum(objective, point)
            spectrum = self._spectrum
            step, _ = cubic_step(spectrum.values, spectrum.coefficients, self.weight)
            trial, model, ratio = tried(objective, point, spectrum.model_step(step, self.weight))
        if model.wrong:
            raise NonFiniteError
        if trial.value == -math.inf:
            return point, Status.UNBOUNDED
        if ratio > 0.9:
            self.weight = max(min(0.25 * self.weight, point.gradient_norm), _LIGHTEST)
        elif ratio < 0.1:
            self.weight *= _HEAVIER
        if ratio > 0.1:
            return trial, None
        return point, Status.SEARCH_FAILED if is_lost(point, model) else None


def tried(objective: Objective, point: Point, model: ModelStep) -> tuple[Point, ModelStep, float]:
    """The end of a step, the step with its scalars read, and the share of the promised decrease found there.

    The gradient is computed before it is known whether the step is taken: so one reading tells all.

    Where both decreases are rounding errors of the function, the share counts as 1 (Conn, Gould, Toint
    (2000), Trust-Region Methods, section 17.4.2). Where the end or its gradient is not finite, it is
    -infinity.
    """
    trial = objective.evaluate(moved(point.x, 1.0, model.step), extra=model.unread)
    model = model.read(trial.extra)
    trial.change = model.length
    decrease = point.value - trial.value
    if not trial.is_finite:
        return trial, model, -math.inf
    rounding = 1e-15 * max(abs(point.value), abs(trial.value))
    if abs(decrease) <= rounding and model.decrease <= 10 * rounding:
        ratio = 1.0
    else:
        ratio = decrease / model.decrease if model.decrease > 0 else -math.inf
    return trial, model, ratio


def is_lost(point: Point, model: ModelStep) -> bool:
    """Whether a rejected step was too short to change x."""
    if model.length > 1e-8:  # most are: x need not be looked at
        return False
    (size,) = fetch(max_norm(point.x))
    return model.length <= 1e-16 * max(size, 1e-8)


@dataclass
class Limits:
    """When to stop.

    Attributes:
        gtol: largest magnitude in the gradient.
        ftol: relative reduction of the function in one iteration; 0: not tested.
        xtol: largest change of a variable in one iteration; 0: not tested.
        max_iterations: iterations.
        max_evaluations: evaluations of the function.
    """

    gtol: float = 1e-5
    ftol: float = 0.0
    xtol: float = 0.0
    max_iterations: int = 1000
    max_evaluations: float = math.inf


@dataclass
class Outcome:
    """Where an iteration ended, and why.

    Attributes:
        point: the last point if it is as good as asked for, else the one of the least value.
        status: the reason.
        iterations: how many.
        note: what the curvature says of the point, or nothing.
    """

    point: Point
    status: Status
    iterations: int
    note: str = ""

    def counts(self, objective: Objective) -> dict[str, int]:
        """Iterations and evaluations, as an :class:`~nbdl.optim.result.OptimizeResult` names them."""
        return {
            "nit": self.iterations, "nfev": objective.nfev, "njev": objective.njev, "nhev": objective.nhev,
        }  # fmt: skip


def run(
    method: Method,
    objective: Objective,
    start: Point,
    limits: Limits,
    callback: Callable[[Point, int], bool] | None = None,
) -> Outcome:
    """Iterate until something tells to stop.

    Methods that use curvature examine it where the gradient is small: along negative curvature they go on.

    Args:
        method: what is iterated.
        objective: what is minimized.
        start: where; differentiated.
        limits: when to stop.
        callback: called with the point and the number of iterations after each one; stops if it returns True.
    """
    point, iterations, escapes = start, 0, 0
    status: Status | None = None
    if not start.is_finite:
        return Outcome(start, Status.UNBOUNDED if start.value == -math.inf else Status.NON_FINITE, 0)
    while status is None:
        if point.gradient_norm <= limits.gtol:
            lower, note = escaped(method, objective, point) if escapes < _MAX_ESCAPES else (None, "")
            if lower is None:
                return Outcome(point, Status.CONVERGED, iterations, note)
            new, escapes = lower, escapes + 1
        elif iterations >= limits.max_iterations:
            status = Status.MAX_ITERATIONS
            break
        elif objective.nfev >= limits.max_evaluations:
            status = Status.MAX_EVALUATIONS
            break
        else:
            try:
                new, status = method.iterate(objective, point)
            except NonFiniteError:
                status = Status.NON_FINITE
                break
        iterations += 1
        if callback is not None and callback(new, iterations):
            status = status or Status.STOPPED
        elif new.value < -_BOTTOM * max(1.0, abs(start.value)):
            status = Status.UNBOUNDED
        elif status is None and new.gradient_norm > limits.gtol:
            status = _is_small(point, new, limits)
        point = new
    return Outcome(_best(objective, point), status, iterations)


def _best(objective: Objective, point: Point) -> Point:
    best = objective.best
    return point if best is None or point.value <= best.value else best


def _is_small(old: Point, new: Point, limits: Limits) -> Status | None:
    """Whether an iteration that moved changed too little to go on."""
    if new is old:
        return None
    change = abs(old.value - new.value)
    if limits.ftol > 0 and change <= limits.ftol * max(abs(old.value), abs(new.value), 1.0):
        return Status.SMALL_CHANGE
    if limits.xtol > 0 and new.change <= limits.xtol:
        return Status.SMALL_STEP
    return None


def escaped(method: Method, objective: Objective, point: Point) -> tuple[Point | None, str]:
    """A lower point along negative curvature where the gradient is small, and what was seen.

    Backtracking finds a quadratic decrease, f(x + t v) <= f(x) + t^2 w / 4: McCormick (1977), A modification
    of Armijo's step-size rule for negative curvature.
    """
    if not method.needs_hessian or point.x.numel() == 0:
        return None, ""
    with no_grad():
        try:
            found = negative_curvature(objective, point, method.dense)
        except NonFiniteError:
            return None, "The Hessian is not finite."
        if isinstance(found, str):
            return None, found
        least, vector = found
        step = max(1.0, point.gradient_norm)
        for _ in range(30):
            for sign in (1.0, -1.0):
                trial = objective.value_at(moved(point.x, sign * step, vector))
                if trial.value <= point.value + step * step * least / 4:
                    objective.differentiate(trial)
                    if trial.is_finite:
                        return trial, ""
            step *= 0.25
    return None, "The Hessian has a negative eigenvalue: this is a saddle, or a maximum."
