"""The weak Wolfe conditions by bisection."""

from __future__ import annotations

from nbdl.optim.search.line import MAX_STEP, Found, Line, Search, check_wolfe


class WeakWolfe(Search):
    """A step that decreases the function sufficiently and is not too short, by doubling and bisection.

    It compares values and slopes and fits no curve to them, so it also suits functions with kinks.

    Source: Lewis & Overton (2013), Nonsmooth optimization via quasi-Newton methods, algorithm 2.6; the
    conditions are Nocedal & Wright (2006), eq. (3.6).

    Args:
        c1: what share of the decrease that the slope promises is enough.
        c2: the slope must have risen to this share of the first one.
        max_evaluations: of the function.

    Raises:
        ValueError: not 0 < c1 < c2 < 1, or a number is negative.
    """

    def __init__(self, c1: float = 1e-4, c2: float = 0.9, max_evaluations: int = 60):
        check_wolfe("WeakWolfe", c1, c2, max_evaluations)
        self.c1, self.c2, self.max_evaluations = c1, c2, max_evaluations

    def __call__(self, line: Line, step: float) -> Found:
        low, high = 0.0, MAX_STEP
        while line.evaluations < self.max_evaluations:
            sample = line.at(step)
            if not line.decreases(sample, self.c1):
                high = step
            elif sample.slope < self.c2 * line.slope:
                low = step
            else:
                return Found(sample)
            if high < MAX_STEP:
                step = (low + high) / 2
            elif step >= MAX_STEP:
                line.is_unbounded = True
                break
            else:
                # ever faster, so that a function without a minimum is found out
                step = min((2 if line.evaluations < 10 else 10) * step, MAX_STEP)
        return line.give_up()
