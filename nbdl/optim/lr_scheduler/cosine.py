"""Half waves of the cosine: annealing, warm restarts, warm-up before it."""

from __future__ import annotations

import math

from nbdl.optim.lr_scheduler.base import ClosedFormSchedule, Schedule, rates_of
from nbdl.optim.optimizer import Optimizer


def half_wave(start: float, end: float, part: float) -> float:
    """From ``start`` at part 0 to ``end`` at part 1 along half a wave of the cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


class CosineAnnealingLR(Schedule):
    r"""From the base rate to ``eta_min`` in ``T_max`` epochs along half a wave of the cosine, and back.

        eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2

    Args:
        optimizer: whose rates change.
        T_max: epochs of half a wave.
        eta_min: the smallest rate.
        last_epoch: the epoch before the next one.

    Source: Loshchilov, Hutter (2017), SGDR: stochastic gradient descent with warm restarts, equation 5.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        """From the present rates, as PyTorch does, so that other schedules may act beside this one."""
        now = rates_of(self.optimizer)
        if self._is_initial:
            return now
        if self._step_count == 1 and self.last_epoch > 0:
            return self._get_closed_form_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the last rate was eta_min
            first_part = (1 - math.cos(math.pi / self.T_max)) / 2
            pairs = zip(now, self.base_lrs, strict=True)
            return [rate + (base - self.eta_min) * first_part for rate, base in pairs]
        height, before = (
            1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1)
        )
        return [height / before * (rate - self.eta_min) + self.eta_min for rate in now]

    def _get_closed_form_lr(self) -> list[float]:
        return [half_wave(base, self.eta_min, self.last_epoch / self.T_max) for base in self.base_lrs]


class CosineAnnealingWarmRestarts(Schedule):
    """From the base rate to ``eta_min`` along half a wave of the cosine, then from the base rate again.

    Args:
        optimizer: whose rates change.
        T_0: epochs until the first restart.
        T_mult: by how much the next period is longer.
        eta_min: the smallest rate.
        last_epoch: the epoch before the next one.

    Raises:
        ValueError: ``T_0`` or ``T_mult`` is no integer from 1 on, or ``eta_min`` is no number.

    Source: Loshchilov, Hutter (2017), SGDR: stochastic gradient descent with warm restarts, equation 5.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ):
        label = type(self).__name__
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"{label}: Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"{label}: Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(
                f"{label}: Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}"
            )
        self.T_0 = self.T_i = T_0
        self.T_mult, self.eta_min = T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [half_wave(base, self.eta_min, self.T_cur / self.T_i) for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to ``epoch``, which may be a fraction: ``step(epoch + batch / batches)``.

        Raises:
            ValueError: ``epoch`` is negative.
        """
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"{type(self).__name__}: Expected non-negative epoch, but got {epoch}")
            self.T_cur, self.T_i = self._position(epoch)
        self.last_epoch = math.floor(epoch)
        with self._within_step():
            rates = self.get_lr()
        self._set_rates(rates)

    def _position(self, epoch: float) -> tuple[float, int]:
        """Epochs since the last restart, and the length of the period."""
        if epoch < self.T_0:
            return epoch, self.T_0
        if self.T_mult == 1:
            return epoch % self.T_0, self.T_i
        restarts = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
        before = self.T_0 * (self.T_mult**restarts - 1) / (self.T_mult - 1)
        return epoch - before, self.T_0 * self.T_mult**restarts


class WarmupCosineLR(ClosedFormSchedule):
    """A line up to the base rate, then half a wave of the cosine down to ``eta_min``, which stays.

    Args:
        optimizer: whose rates change.
        warmup_steps: steps of the line, which begins at base / (warmup_steps + 1).
        total_steps: steps of both.
        eta_min: the last rate.
        last_epoch: the step before the next one.

    Raises:
        ValueError: not 0 <= warmup_steps < total_steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ):
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "WarmupCosineLR: expected 0 <= warmup_steps < total_steps, got "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}"
            )
        self.warmup_steps, self.total_steps, self.eta_min = warmup_steps, total_steps, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: float) -> float:
        if epoch < self.warmup_steps:
            return base * (epoch + 1) / (self.warmup_steps + 1)
        part = (epoch - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return half_wave(base, self.eta_min, min(part, 1.0))
