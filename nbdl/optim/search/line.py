"""The function along a line, and what every search gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.optim.bounds import Box
from nbdl.optim.checks import count, number
from nbdl.optim.objective import Objective, Point
from nbdl.optim.result import Status
from nbdl.optim.vectors import fetch, moved, slope_and_size

MAX_STEP = 1e20  # a function that still falls here is taken to be unbounded
_ROUNDING = 1e-14  # of a function value, relative


class Sample(NamedTuple):
    """The function at one step length.

    Attributes:
        step: the length t.
        value: phi(t); infinite where the function or its gradient is not finite.
        slope: phi'(t); NaN there.
        point: what was evaluated.
    """

    step: float
    value: float
    slope: float
    point: Point

    @property
    def is_finite(self) -> bool:
        """Whether function and gradient are."""
        return math.isfinite(self.value)


class Found(NamedTuple):
    """What a search ends with.

    Attributes:
        sample: the step to take, or None.
        status: None if its conditions hold; else why not. There may be a sample nonetheless, with a lower
            value than at the start.
    """

    sample: Sample | None
    status: Status | None = None


class NotADescentDirectionError(Exception):
    """The function does not fall along a line."""


class WrongDirectionError(Exception):
    """What a direction was computed of turned out not to be what it was taken for."""


def refused(values: Sequence[float]) -> None:
    """Raise :class:`WrongDirectionError` if a value is not 0."""
    if any(values):
        raise WrongDirectionError


class Line:
    """phi(t) = f(x + t d), evaluated together with its derivative.

    Args:
        objective: the function f.
        start: x, differentiated.
        direction: d (n,).
        limit: the longest step, 0-d, which is read with the first evaluation; None where there is no limit.
        box: bounds that steps up to ``limit`` keep but for rounding; None: there are none.
        unread: 0-d tensors that are read with the first evaluation, too.
        see: is told their values, and may raise :class:`WrongDirectionError`.
    """

    def __init__(
        self,
        objective: Objective,
        start: Point,
        direction: Tensor,
        limit: Tensor | None = None,
        box: Box | None = None,
        unread: Sequence[Tensor] = (),
        see: Callable[[Sequence[float]], None] | None = None,
    ):
        self.objective, self.start, self.direction = objective, start, direction
        self._limit, self._box, self._unread, self._see = limit, box, list(unread), see
        self.evaluations = 0
        self.lowest: Sample | None = None
        self.is_unbounded = False

    def _unknown(self) -> list[Tensor]:
        """What has to be known of the direction. It is read with the first evaluation, to wait once only."""
        if "slope" in self.__dict__:
            return []
        limits = [] if self._limit is None else [self._limit]
        return [slope_and_size(self.direction, self.start.gradient), *limits, *self._unread]

    def _know(self, values: list[float]) -> None:
        if values:
            self.__dict__["slope"], self.__dict__["direction_norm"], *others = values
            self.__dict__["limit"] = MAX_STEP if self._limit is None else others.pop(0)
            if self._see is not None:
                self._see(others)
        if not self.slope < 0:
            raise NotADescentDirectionError

    @cached_property
    def slope(self) -> float:
        """phi'(0).

        Raises:
            NotADescentDirectionError: it is not negative.
        """
        self._know(fetch(*self._unknown()))
        return self.slope

    @cached_property
    def direction_norm(self) -> float:
        """The largest magnitude in d."""
        self._know(fetch(*self._unknown()))
        return self.direction_norm

    @cached_property
    def limit(self) -> float:
        """The longest step; ``MAX_STEP`` where there is no limit."""
        self._know(fetch(*self._unknown()))
        return self.limit

    @property
    def origin(self) -> Sample:
        """Where the line begins."""
        return Sample(0.0, self.start.value, self.slope, self.start)

    def at(self, step: float) -> Sample:
        """Evaluate phi and its derivative."""
        if self._box is None:
            point = self.objective.evaluate_along(self.start.x, step, self.direction, self._unknown())
        else:
            x = self._box.project(moved(self.start.x, step, self.direction))
            point = self.objective.evaluate(x, self.direction, self._unknown())
        self.evaluations += 1
        self._know(point.extra)
        if not point.is_finite:
            self.is_unbounded |= point.value == -math.inf
            return Sample(step, math.inf, math.nan, point)
        point.change = step * self.direction_norm
        sample = Sample(step, point.value, point.slope, point)
        if sample.value < (self.lowest or self.start).value:
            self.lowest = sample
        return sample

    def at_or_before(self, step: float, floor: float = 0.0, attempts: int = 40) -> Sample:
        """Evaluate at ``step``, or where that is not finite ever nearer to ``floor``."""
        sample = self.at(step)
        while not sample.is_finite and not self.is_unbounded and attempts > 0:
            step = floor + 0.1 * (step - floor)
            sample = self.at(step)
            attempts -= 1
        return sample

    def decreases(self, sample: Sample, c1: float) -> bool:
        """Sufficient decrease, Nocedal & Wright (2006), eq. (3.4).

        Where the change drowns in rounding, the slope decides instead: the approximate Wolfe condition of
        Hager & Zhang (2005), A new conjugate gradient method with guaranteed descent and an efficient line
        search, eq. (4.1).
        """
        start = self.start.value
        if sample.value <= start + c1 * sample.step * self.slope:
            return True
        drowns = abs(sample.value - start) <= _ROUNDING * abs(start)
        return drowns and sample.slope <= (2 * c1 - 1) * self.slope

    def is_flat(self, sample: Sample, c2: float) -> bool:
        """The strong curvature condition, Nocedal & Wright (2006), eq. (3.7b)."""
        return abs(sample.slope) <= -c2 * self.slope

    def give_up(self) -> Found:
        """The lowest sample if it is below the start, with the reason why nothing better was found."""
        status = Status.UNBOUNDED if self.is_unbounded else Status.SEARCH_FAILED
        return Found(self.lowest, status)


def check_wolfe(caller: str, c1: float, c2: float, max_evaluations: int) -> None:
    """Check the numbers of a search for the Wolfe conditions.

    Raises:
        TypeError: one is no number.
        ValueError: not 0 < c1 < c2 < 1.
    """
    are_plain = type(c1) is type(c2) is float and type(max_evaluations) is int
    if are_plain and 0 < c1 < c2 < 1 and max_evaluations >= 0:
        return  # quickly: methods make a search in every iteration
    number(caller, "c1", c1, above=0, below=1)
    number(caller, "c2", c2, above=0, below=1)
    count(caller, "max_evaluations", max_evaluations)
    if not c1 < c2:
        raise ValueError(f"{caller}: expected 0 < c1 < c2 < 1, got c1={c1}, c2={c2}")


class Search:
    """Base of the searches: a call finds a step along a :class:`Line`."""

    def __call__(self, line: Line, step: float) -> Found:
        """Search along ``line``.

        Args:
            line: the function along a descent direction.
            step: the first trial.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no search")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"
