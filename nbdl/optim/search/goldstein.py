"""The Goldstein conditions: neither too long nor too short."""

from __future__ import annotations

import math

from nbdl.optim.checks import count, number
from nbdl.optim.search.interpolation import quadratic_minimizer
from nbdl.optim.search.line import MAX_STEP, Found, Line, Search


class Goldstein(Search):
    """A step with f0 + (1 - c) t slope <= phi(t) <= f0 + c t slope, by bracketing and interpolation.

    It bounds the step from below without derivatives, and suits Newton's method more than quasi-Newton
    methods, since the minimizer of phi may be excluded.

    Source: Nocedal & Wright (2006), eq. (3.11).

    Args:
        c: in (0, 1/2).
        max_evaluations: of the function.

    Raises:
        ValueError: ``c`` is not in (0, 1/2).
    """

    def __init__(self, c: float = 0.1, max_evaluations: int = 60):
        self.c = number("Goldstein", "c", c, above=0, below=0.5)
        self.max_evaluations = count("Goldstein", "max_evaluations", max_evaluations)

    def __call__(self, line: Line, step: float) -> Found:
        low, high = 0.0, MAX_STEP
        while line.evaluations < self.max_evaluations:
            sample = line.at(step)
            if not line.decreases(sample, self.c):
                high = step
            elif sample.value < line.start.value + (1 - self.c) * step * line.slope:
                low = step
            else:
                return Found(sample)
            if high < MAX_STEP:
                step = self._between(line, low, high, sample.value, sample.step)
            elif step >= MAX_STEP:
                line.is_unbounded = True
                break
            else:
                step = min(4 * step, MAX_STEP)
        return line.give_up()

    @staticmethod
    def _between(line: Line, low: float, high: float, value: float, step: float) -> float:
        """The minimizer of a parabola where it lies well inside the bracket, else the middle."""
        margin = 0.1 * (high - low)
        if step == high and value > line.start.value + line.slope * step and value < math.inf:
            trial = quadratic_minimizer(step, line.start.value, line.slope, value)
            if low + margin <= trial <= high - margin:
                return trial
        return (low + high) / 2
