"""The search of CG_DESCENT, which is exact to the last digit of the function."""

from __future__ import annotations

import math

from nbdl.optim.checks import count, number
from nbdl.optim.search.line import MAX_STEP, Found, Line, Sample, Search


class HagerZhang(Search):
    """A step that satisfies the Wolfe conditions, or their approximation near the minimum.

    The approximate conditions compare slopes only, and so hold where differences of values are rounding
    errors.

    Source: Hager & Zhang (2006), Algorithm 851: CG_DESCENT, steps L0 to L3, U0 to U3, S1 to S4 and B1 to B3.

    Args:
        delta: sufficient decrease.
        sigma: curvature.
        epsilon: by how much of the value, relative, the function may rise.
        theta: where an interval is divided whose ends do not bracket.
        gamma: a secant step must shrink the interval by this factor, or it is halved.
        rho: how fast the bracket grows.
        max_evaluations: of the function.

    Raises:
        TypeError: one is no number.
        ValueError: not 0 < delta < 1/2 and delta <= sigma < 1, or another number is out of its range.
    """

    def __init__(
        self,
        delta: float = 0.1,
        sigma: float = 0.9,
        epsilon: float = 1e-12,
        theta: float = 0.5,
        gamma: float = 0.66,
        rho: float = 5.0,
        max_evaluations: int = 50,
    ):
        number("HagerZhang", "delta", delta, above=0, below=0.5)
        number("HagerZhang", "sigma", sigma, above=0, below=1)
        number("HagerZhang", "epsilon", epsilon, least=0)
        number("HagerZhang", "theta", theta, above=0, below=1)
        number("HagerZhang", "gamma", gamma, above=0, below=1)
        number("HagerZhang", "rho", rho, above=1)
        count("HagerZhang", "max_evaluations", max_evaluations)
        if not delta <= sigma:
            raise ValueError(
                f"HagerZhang: expected 0 < delta < 1/2 and delta <= sigma < 1, got delta={delta}, "
                f"sigma={sigma}"
            )
        self.delta, self.sigma, self.epsilon = delta, sigma, epsilon
        self.theta, self.gamma, self.rho, self.max_evaluations = theta, gamma, rho, max_evaluations

    def __call__(self, line: Line, step: float) -> Found:
        run = _Run(self, line)
        try:
            run.search(step)
        except _Accepted as accepted:
            return Found(accepted.sample)
        except _Exhausted:
            return line.give_up()
        return line.give_up()


class _Accepted(Exception):
    """A step satisfies the conditions."""

    def __init__(self, sample: Sample):
        self.sample = sample


class _Exhausted(Exception):
    """No more evaluations."""


class _Run:
    """One search: every evaluation may end it."""

    def __init__(self, settings: HagerZhang, line: Line):
        self.settings, self.line = settings, line
        self.ceiling = line.start.value + settings.epsilon * abs(line.start.value)

    def at(self, step: float) -> Sample:
        if self.line.evaluations >= self.settings.max_evaluations or self.line.is_unbounded:
            raise _Exhausted
        sample = self.line.at(step)
        if sample.is_finite and self.is_acceptable(sample):
            raise _Accepted(sample)
        return sample

    def is_acceptable(self, sample: Sample) -> bool:
        """The Wolfe conditions T1 or the approximate ones T2."""
        slope0, delta, sigma = self.line.slope, self.settings.delta, self.settings.sigma
        if sample.slope < sigma * slope0:
            return False
        wolfe = sample.value - self.line.start.value <= delta * sample.step * slope0
        approximate = (2 * delta - 1) * slope0 >= sample.slope and sample.value <= self.ceiling
        return wolfe or approximate

    def search(self, step: float) -> None:
        """Steps L0 to L3: bracket, then secant steps."""
        low, high = self.bracket(step)
        while high.step - low.step > 1e-16 * high.step:
            width = high.step - low.step
            low, high = self.double_secant(low, high)
            if high.step - low.step > self.settings.gamma * width:
                low, high = self.update(low, high, self.at((low.step + high.step) / 2))

    def bracket(self, step: float) -> tuple[Sample, Sample]:
        """Steps B1 to B3, with steps shortened until the function is finite."""
        low, limit = None, MAX_STEP
        while True:
            sample = self.at(step)
            low = low or self.line.origin
            if not sample.is_finite:
                limit, step = step, low.step + 0.1 * (step - low.step)
            elif sample.slope >= 0:
                return low, sample
            elif sample.value > self.ceiling:
                return self.bisect(self.line.origin, sample)
            else:
                low = sample
                if step >= MAX_STEP:
                    self.line.is_unbounded = True
                step = min(self.settings.rho * step, (step + limit) / 2 if limit < MAX_STEP else MAX_STEP)

    def update(self, low: Sample, high: Sample, new: Sample) -> tuple[Sample, Sample]:
        """Steps U0 to U3: the shorter interval that still brackets."""
        if not low.step < new.step < high.step:
            return low, high
        if new.slope >= 0:
            return low, new
        return (new, high) if new.value <= self.ceiling else self.bisect(low, new)

    def bisect(self, low: Sample, high: Sample) -> tuple[Sample, Sample]:
        """Step U3: low falls, high is too high and falls as well; divide until one of them rises."""
        theta = self.settings.theta
        while high.step - low.step > 1e-16 * high.step:
            middle = self.at((1 - theta) * low.step + theta * high.step)
            if middle.slope >= 0:
                return low, middle
            low, high = (middle, high) if middle.value <= self.ceiling else (low, middle)
        return low, high

    def double_secant(self, low: Sample, high: Sample) -> tuple[Sample, Sample]:
        """Steps S1 to S4."""
        c = _secant(low, high)
        if not low.step < c < high.step:
            return low, high
        new = self.at(c)
        a, b = self.update(low, high, new)
        if b is new:
            c = _secant(high, b)
        elif a is new:
            c = _secant(low, a)
        else:
            return a, b
        return self.update(a, b, self.at(c)) if a.step < c < b.step else (a, b)


def _secant(a: Sample, b: Sample) -> float:
    """Where the slope, taken to be linear, is zero."""
    difference = b.slope - a.slope
    return (a.step * b.slope - b.step * a.slope) / difference if difference else math.nan
