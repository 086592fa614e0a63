"""No search: the first trial is taken."""

from __future__ import annotations

from nbdl.optim.checks import number
from nbdl.optim.search.line import Found, Line, Search


class FixedStep(Search):
    """Take ``lr`` times the first trial; where the function is not finite there, a tenth of it, and so on.

    The function may rise.

    Args:
        lr: the factor.

    Raises:
        ValueError: ``lr`` is not positive.
    """

    def __init__(self, lr: float = 1.0):
        self.lr = number("FixedStep", "lr", lr, above=0)

    def __call__(self, line: Line, step: float) -> Found:
        sample = line.at_or_before(self.lr * step)
        return Found(sample) if sample.is_finite else line.give_up()
