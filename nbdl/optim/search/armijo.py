"""Backtracking until the function has decreased sufficiently."""

from __future__ import annotations

from nbdl.optim.checks import count, number
from nbdl.optim.search.interpolation import backtracked
from nbdl.optim.search.line import Found, Line, Search


class Armijo(Search):
    """Backtracking with quadratic and cubic interpolation.

    Source: Nocedal & Wright (2006), algorithm 3.1 and section 3.5.

    Args:
        c1: what share of the decrease that the slope promises is enough.
        max_evaluations: of the function.

    Raises:
        ValueError: ``c1`` is not in (0, 1).
    """

    def __init__(self, c1: float = 1e-4, max_evaluations: int = 40):
        self.c1 = number("Armijo", "c1", c1, above=0, below=1)
        self.max_evaluations = count("Armijo", "max_evaluations", max_evaluations)

    def __call__(self, line: Line, step: float) -> Found:
        previous = None
        sample = line.at_or_before(step)
        start = line.origin
        while not line.decreases(sample, self.c1):
            if line.evaluations >= self.max_evaluations or not sample.is_finite:
                return line.give_up()
            trial = backtracked(start.value, start.slope, sample.step, sample.value, previous)
            previous = sample.step, sample.value
            sample = line.at_or_before(trial)
        return Found(sample)
