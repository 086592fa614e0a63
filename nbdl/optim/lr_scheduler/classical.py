"""Schedules of the textbooks: a line to the final rate, and the conditions of Robbins and Monro."""

from __future__ import annotations

from nbdl.optim.lr_scheduler.base import ClosedFormSchedule, one_per_group
from nbdl.optim.optimizer import Optimizer


class LinearToFinalLR(ClosedFormSchedule):
    r"""From the base rate a_0 along a line to the final rate a_f, which stays.

        a_k = (1 - k / total_iters) a_0 + (k / total_iters) a_f

    Args:
        optimizer: whose rates change.
        final_lr: a_f, or one for each group.
        total_iters: steps of the line.
        last_epoch: the step before the next one.

    Raises:
        ValueError: ``total_iters`` is below 1, or there are more or fewer rates than groups.

    Source: Goodfellow, Bengio, Courville (2016), Deep Learning, equation 8.14.
    """

    def __init__(
        self, optimizer: Optimizer, final_lr: float | list[float], total_iters: int, last_epoch: int = -1
    ):
        if total_iters < 1:
            raise ValueError(f"LinearToFinalLR: total_iters must be at least 1, got {total_iters}")
        self.final_lrs, self.total_iters = one_per_group("final_lr", optimizer, final_lr), total_iters
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        part = min(self.last_epoch / self.total_iters, 1.0)
        pairs = zip(self.base_lrs, self.final_lrs, strict=True)
        return [(1 - part) * first + part * final for first, final in pairs]


class RobbinsMonroLR(ClosedFormSchedule):
    r"""Rates whose sum is infinite and whose sum of squares is finite, as stochastic approximation asks.

        a_k = a_0 / (1 + k / decay_steps)^power,  1/2 < power <= 1

    Args:
        optimizer: whose rates change.
        decay_steps: the step at which the rate has fallen by 2^power.
        power: above 1/2 and at most 1.
        last_epoch: the step before the next one.

    Raises:
        ValueError: ``decay_steps`` or ``power`` is out of its range.

    Source: Robbins, Monro (1951), A stochastic approximation method, conditions 6 and 26.

    Example:
        >>> import nbdl
        >>> optimizer = nbdl.optim.SGD([nbdl.ones(1, requires_grad=True)], lr=1.0)
        >>> scheduler = nbdl.optim.lr_scheduler.RobbinsMonroLR(optimizer)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, decay_steps: float = 1.0, power: float = 1.0, last_epoch: int = -1
    ):
        if not decay_steps > 0:
            raise ValueError(f"RobbinsMonroLR: decay_steps must be above 0, got {decay_steps}")
        if not 0.5 < power <= 1.0:
            raise ValueError(f"RobbinsMonroLR: power must be above 1/2 and at most 1, got {power}")
        self.decay_steps, self.power = decay_steps, power
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: float) -> float:
        return base / (1 + epoch / self.decay_steps) ** self.power
