"""The strong Wolfe conditions by bracketing and zooming."""

from __future__ import annotations

from nbdl.optim.checks import number
from nbdl.optim.search.interpolation import cubic_minimizer
from nbdl.optim.search.line import MAX_STEP, Found, Line, Sample, Search, check_wolfe


class StrongWolfe(Search):
    """Bracket a step that satisfies the strong Wolfe conditions, then zoom in on it with cubics.

    Source: Nocedal & Wright (2006), algorithms 3.5 and 3.6, with the safeguards of Schmidt's minFunc, which
    PyTorch's L-BFGS has too.

    Args:
        c1: sufficient decrease, eq. (3.7a).
        c2: curvature, eq. (3.7b).
        max_evaluations: of the function.
        tolerance_change: zooming ends when the bracket is shorter than this, as a change of any parameter.

    Raises:
        ValueError: not 0 < c1 < c2 < 1, or a number is negative.
    """

    def __init__(
        self,
        c1: float = 1e-4,
        c2: float = 0.9,
        max_evaluations: int = 25,
        tolerance_change: float = 0.0,
    ):
        check_wolfe("StrongWolfe", c1, c2, max_evaluations)
        self.c1, self.c2, self.max_evaluations = c1, c2, max_evaluations
        self.tolerance_change = number("StrongWolfe", "tolerance_change", tolerance_change, least=0)

    def __call__(self, line: Line, step: float) -> Found:
        bracket = self._bracket(line, line.at_or_before(step))
        return bracket if isinstance(bracket, Found) else self._zoom(line, *bracket)

    def _rises(self, line: Line, sample: Sample) -> bool:
        return sample.value > line.start.value + self.c1 * sample.step * line.slope

    def _bracket(self, line: Line, sample: Sample) -> Found | tuple[Sample, Sample]:
        """Algorithm 3.5: lengthen the step until an interval must contain an acceptable one."""
        previous = line.origin
        for iteration in range(self.max_evaluations):
            if self._rises(line, sample) or (iteration > 1 and sample.value >= previous.value):
                return previous, sample
            if line.is_flat(sample, self.c2):
                return Found(sample)
            if sample.slope >= 0:
                return previous, sample
            if sample.step >= MAX_STEP:
                line.is_unbounded = True
                return line.give_up()
            trial = cubic_minimizer(
                *previous[:3], *sample[:3],
                low=sample.step + 0.01 * (sample.step - previous.step), high=10 * sample.step,
            )  # fmt: skip
            previous, sample = sample, line.at(trial)
        return line.origin, sample

    def _zoom(self, line: Line, first: Sample, second: Sample) -> Found:
        """Algorithm 3.6: shrink the interval around an acceptable step."""
        low, high = _by_value(first, second)
        stalled = False
        while line.evaluations <= self.max_evaluations:
            if abs(high.step - low.step) * line.direction_norm < self.tolerance_change:
                break
            trial, stalled = _trial(low, high, stalled)
            sample = line.at(trial)
            if self._rises(line, sample) or sample.value >= low.value:
                low, high = _by_value(low, sample)
                continue
            if line.is_flat(sample, self.c2):
                return Found(sample)
            if sample.slope * (high.step - low.step) >= 0:
                high = low
            low = sample
        return Found(low) if low.step > 0 else line.give_up()


def _by_value(a: Sample, b: Sample) -> tuple[Sample, Sample]:
    return (a, b) if a.value <= b.value else (b, a)


def _trial(a: Sample, b: Sample, stalled: bool) -> tuple[float, bool]:
    """The next trial between two samples, and whether it is close to one of them.

    Where that happens twice in a row, or the minimizer is an end, the trial keeps a tenth of the interval
    away.
    """
    left, right = (a.step, b.step) if a.step <= b.step else (b.step, a.step)
    if not b.is_finite or not a.is_finite:
        return (left + right) / 2, False
    trial = cubic_minimizer(*a[:3], *b[:3], low=left, high=right)
    margin = 0.1 * (right - left)
    if min(right - trial, trial - left) >= margin:
        return trial, False
    if not stalled and left < trial < right:
        return trial, True
    return (right - margin if abs(trial - right) < abs(trial - left) else left + margin), False
