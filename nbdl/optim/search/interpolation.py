"""Minimizers of polynomials through what is known along a line."""

from __future__ import annotations

import math


def cubic_minimizer(
    a: float, fa: float, da: float, b: float, fb: float, db: float, low: float, high: float
) -> float:
    """The minimizer in [low, high] of the cubic with these values and slopes at a and b.

    Nocedal & Wright (2006), eq. (3.59); the middle of the interval where the cubic has no minimizer.
    """
    d1 = da + db - 3 * (fa - fb) / (a - b)
    square = d1 * d1 - da * db
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    if a <= b:
        numerator, denominator, far, width = db + d2 - d1, db - da + 2 * d2, b, b - a
    else:
        numerator, denominator, far, width = da + d2 - d1, da - db + 2 * d2, a, a - b
    if denominator == 0:
        return (low + high) / 2
    return min(max(far - width * (numerator / denominator), low), high)


def quadratic_minimizer(step: float, f0: float, slope: float, f: float) -> float:
    """The minimizer of the parabola with value ``f0`` and ``slope`` at 0 and value ``f`` at ``step``.

    Nocedal & Wright (2006), eq. (3.58).
    """
    return -slope * step * step / (2 * (f - f0 - slope * step))


def backtracked(
    f0: float, slope: float, step: float, f: float, previous: tuple[float, float] | None
) -> float:
    """The next trial of a backtracking search, at most half of ``step`` and at least a tenth of it.

    The first one minimizes a parabola, later ones the cubic through the start and the last two trials,
    Nocedal & Wright (2006), section 3.5, Interpolation.

    Args:
        f0: the value at 0.
        slope: the slope there.
        step: the rejected trial.
        f: the value there.
        previous: step and value of the trial before, if there was one and its value is finite.
    """
    if previous is None:
        trial = quadratic_minimizer(step, f0, slope, f)
    else:
        t, ft = previous
        r, rt = f - f0 - slope * step, ft - f0 - slope * t
        a = (r / step**2 - rt / t**2) / (step - t)
        b = (-t * r / step**2 + step * rt / t**2) / (step - t)
        square = b * b - 3 * a * slope
        if a == 0:
            trial = -slope / (2 * b) if b else math.nan
        else:
            trial = (-b + math.sqrt(square)) / (3 * a) if square >= 0 else math.nan
    if math.isnan(trial):
        trial = 0.5 * step
    return min(max(trial, 0.1 * step), 0.5 * step)
