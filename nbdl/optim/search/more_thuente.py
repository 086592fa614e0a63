"""The strong Wolfe conditions by the search of Moré and Thuente."""

from __future__ import annotations

import math
from typing import NamedTuple

from nbdl.optim.search.line import MAX_STEP, Found, Line, Sample, Search, check_wolfe

_NEAREST, _FARTHEST = 1.1, 4.0  # how far the next trial is beyond the last one while nothing is bracketed
_SHRINK = 0.66  # the bracket must shrink at least by this factor in two trials
_MIN_WIDTH = 1e-15  # of a bracket, relative


class MoreThuente(Search):
    """A step that satisfies the strong Wolfe conditions, by safeguarded cubic and quadratic steps.

    Source: Moré & Thuente (1994), Line search algorithms with guaranteed sufficient decrease.

    Args:
        c1: sufficient decrease, Nocedal & Wright (2006), eq. (3.7a).
        c2: curvature, eq. (3.7b).
        max_evaluations: of the function.

    Raises:
        ValueError: not 0 < c1 < c2 < 1, or a number is negative.
    """

    def __init__(self, c1: float = 1e-4, c2: float = 0.9, max_evaluations: int = 40):
        check_wolfe("MoreThuente", c1, c2, max_evaluations)
        self.c1, self.c2, self.max_evaluations = c1, c2, max_evaluations

    def __call__(self, line: Line, step: float) -> Found:
        sample = line.at_or_before(step)
        step, start = sample.step, _End(*line.origin[:3])
        interval = _Interval(start, start, False, 0.0, (1 + _FARTHEST) * step)
        width, width_before, maximum = math.inf, math.inf, line.limit
        auxiliary = True  # see _tilted
        while True:
            if not sample.is_finite:
                if line.is_unbounded or line.evaluations >= self.max_evaluations:
                    break
                maximum = step
                sample = line.at_or_before(interval.best.step + 0.1 * (step - interval.best.step))
                step = sample.step
                continue
            enough = line.decreases(sample, self.c1)
            if enough and line.is_flat(sample, self.c2):
                return Found(sample)
            if enough and step >= line.limit:
                if line.limit < MAX_STEP:
                    return Found(sample)
                line.is_unbounded = True
                break
            auxiliary = auxiliary and not (enough and sample.slope >= 0)
            tilt = (
                self.c1 * line.slope
                if auxiliary and not enough and sample.value <= interval.best.value
                else 0.0
            )
            trial, interval = _updated(interval, sample, tilt)
            best, other = interval.best, interval.other
            if interval.bracketed:
                if abs(other.step - best.step) >= _SHRINK * width_before:
                    trial = best.step + 0.5 * (other.step - best.step)
                width, width_before = abs(other.step - best.step), width
                low, high = sorted((best.step, other.step))
                if width <= _MIN_WIDTH * high:
                    break
            else:
                low = trial + _NEAREST * (trial - best.step)
                high = trial + _FARTHEST * (trial - best.step)
            interval = interval._replace(low=low, high=high)
            if line.evaluations >= self.max_evaluations:
                break
            step = min(max(trial, 0.0), maximum)
            sample = line.at(step)
        return line.give_up()


class _End(NamedTuple):
    """Step, value and slope at an end of the interval."""

    step: float
    value: float
    slope: float

    def tilted(self, tilt: float) -> _End:
        """The same of phi(t) - tilt t."""
        return _End(self.step, self.value - tilt * self.step, self.slope - tilt)


class _Interval(NamedTuple):
    """Where a minimizer is looked for: the end of the lower value, the other, bounds of the next trial."""

    best: _End
    other: _End
    bracketed: bool
    low: float
    high: float


def _updated(interval: _Interval, sample: Sample, tilt: float) -> tuple[float, _Interval]:
    """The next trial and interval.

    As long as no trial has decreased enough, what is minimized is phi(t) - tilt t, the function without the
    decrease that is asked for (Moré & Thuente, section 3).
    """
    best, other = interval.best.tilted(tilt), interval.other.tilted(tilt)
    new = _End(*sample[:3]).tilted(tilt)
    trial, bracketed = _trial(interval, best, other, new)
    if new.value > best.value:
        other = new
    else:
        if new.slope * best.slope < 0:
            other = best
        best = new
    return trial, interval._replace(best=best.tilted(-tilt), other=other.tilted(-tilt), bracketed=bracketed)


def _trial(interval: _Interval, best: _End, other: _End, new: _End) -> tuple[float, bool]:
    """The trial value selection of section 4, and whether a minimizer is bracketed now."""
    if new.value > best.value:  # case 1: the minimizer is between
        cubic, quadratic = _cubic(best, new), _parabola_of_values(best, new)
        if abs(cubic - best.step) < abs(quadratic - best.step):
            return cubic, True
        return cubic + (quadratic - cubic) / 2, True
    if new.slope * best.slope < 0:  # case 2: likewise, the slopes have opposite signs
        cubic, secant = _cubic(new, best), _secant(best, new)
        return (cubic if abs(cubic - new.step) > abs(secant - new.step) else secant), True
    if abs(new.slope) < abs(best.slope):  # case 3: the slope flattens
        secant = _secant(best, new)
        cubic = _cubic_beyond(best, new, interval)
        if not interval.bracketed:
            farther = cubic if abs(cubic - new.step) > abs(secant - new.step) else secant
            return min(max(farther, interval.low), interval.high), False
        nearer = cubic if abs(cubic - new.step) < abs(secant - new.step) else secant
        limit = new.step + _SHRINK * (other.step - new.step)
        return (min(limit, nearer) if new.step > best.step else max(limit, nearer)), True
    # case 4: it does not
    if interval.bracketed:
        return _cubic(new, other), True
    return (interval.high if new.step > best.step else interval.low), False


def _ratio(a: _End, b: _End) -> float | None:
    """Where the cubic through a and b has its minimizer: at a + ratio (b - a); None if it has none."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))  # against overflow
    if scale == 0:
        return None
    gamma = scale * math.sqrt(max(0.0, (theta / scale) ** 2 - (a.slope / scale) * (b.slope / scale)))
    if b.step < a.step:
        gamma = -gamma
    denominator = 2 * gamma - a.slope + b.slope
    return (gamma - a.slope + theta) / denominator if gamma and denominator else None


def _cubic(a: _End, b: _End) -> float:
    """The minimizer of the cubic; the middle where there is none."""
    ratio = _ratio(a, b)
    return a.step + (0.5 if ratio is None else ratio) * (b.step - a.step)


def _cubic_beyond(best: _End, new: _End, interval: _Interval) -> float:
    """The minimizer of the cubic if it is beyond ``new``, else the bound there."""
    ratio = _ratio(new, best)
    if ratio is not None and ratio < 0:
        return new.step + ratio * (best.step - new.step)
    return interval.high if new.step > best.step else interval.low


def _parabola_of_values(a: _End, b: _End) -> float:
    """The minimizer of the parabola with both values and the slope at a; the middle where it is flat."""
    bend = (a.value - b.value) / (b.step - a.step) + a.slope
    return a.step + (a.slope / bend / 2 if bend else 0.5) * (b.step - a.step)


def _secant(a: _End, b: _End) -> float:
    """Where the slope, taken to be linear, is zero; the middle where it is constant."""
    change = b.slope - a.slope
    return b.step + (b.slope / change if change else 0.5) * (a.step - b.step)
