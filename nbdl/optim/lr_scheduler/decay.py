"""Rates that change by a rule of the epoch: by functions, steps, lines, powers."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbdl.optim.lr_scheduler.base import Schedule, function_state, rates_of
from nbdl.optim.optimizer import Optimizer

Factor = Callable[[int], float]


class _FunctionSchedule(Schedule):
    """Schedules given by one function of the epoch a group."""

    _transient = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1):
        n_groups = len(optimizer.param_groups)
        functions = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * n_groups
        label = type(self).__name__
        if len(functions) != n_groups:
            raise ValueError(f"{label}: Expected {n_groups} lr_lambdas, but got {len(functions)}")
        for function in functions:
            if not callable(function):
                raise TypeError(f"{label}: lr_lambda should be a function, but got {type(function).__name__}")
        self.lr_lambdas = functions
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """As that of :class:`LRScheduler`; of the functions, only the attributes of callable objects."""
        return {**super().state_dict(), "lr_lambdas": [function_state(f) for f in self.lr_lambdas]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; plain functions stay as they are."""
        super().load_state_dict({name: v for name, v in state_dict.items() if name != "lr_lambdas"})
        for function, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if saved is not None:
                vars(function).update(saved)


class LambdaLR(_FunctionSchedule):
    """The base rate times a function of the epoch.

    Args:
        optimizer: whose rates change.
        lr_lambda: the function, or one for each group.
        last_epoch: the epoch before the next one.

    Raises:
        TypeError: something is not callable.
        ValueError: there are more or fewer functions than groups.

    Example:
        >>> import nbdl
        >>> optimizer = nbdl.optim.SGD([nbdl.ones(1, requires_grad=True)], lr=1.0)
        >>> scheduler = nbdl.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def rates(self) -> list[float]:
        return [
            base * function(self.last_epoch)
            for base, function in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class MultiplicativeLR(_FunctionSchedule):
    """The rate of the last epoch times a function of the epoch.

    Args:
        optimizer: whose rates change.
        lr_lambda: the function, or one for each group.
        last_epoch: the epoch before the next one.

    Raises:
        TypeError: something is not callable.
        ValueError: there are more or fewer functions than groups.
    """

    def rates(self) -> list[float]:
        rates = rates_of(self.optimizer)
        if self._is_initial:
            return rates
        return [r * function(self.last_epoch) for r, function in zip(rates, self.lr_lambdas, strict=True)]


class StepLR(Schedule):
    """The rate times ``gamma`` every ``step_size`` epochs.

    Args:
        optimizer: whose rates change.
        step_size: epochs between two changes.
        gamma: the factor.
        last_epoch: the epoch before the next one.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        changes = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return self.scaled(self.gamma if changes else 1.0)

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class HalveEvery(StepLR):
    """Half the rate every ``step_size`` epochs.

    Args:
        optimizer: whose rates change.
        step_size: epochs between two changes.
        last_epoch: the epoch before the next one.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, last_epoch: int = -1):
        super().__init__(optimizer, step_size, 0.5, last_epoch)


class MultiStepLR(Schedule):
    """The rate times ``gamma`` at each of the ``milestones``.

    Args:
        optimizer: whose rates change.
        milestones: epochs; one that is given twice counts twice.
        gamma: the factor.
        last_epoch: the epoch before the next one.
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ):
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return self.scaled(self.gamma ** self.milestones[self.last_epoch])

    def _get_closed_form_lr(self) -> list[float]:
        passed = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        return [base * self.gamma**passed for base in self.base_lrs]


class ConstantLR(Schedule):
    """The base rate times ``factor`` until epoch ``total_iters``, the base rate from then on.

    Args:
        optimizer: whose rates change.
        factor: from 0 to 1.
        total_iters: the epoch.
        last_epoch: the epoch before the next one.

    Raises:
        ValueError: the factor is out of its range.
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ):
        if not 0 <= factor <= 1:
            raise ValueError(
                f"ConstantLR: Constant multiplicative factor expected to be between 0 and 1, got {factor}"
            )
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        if self.last_epoch == 0:
            return self.scaled(self.factor)
        return self.scaled(1.0 / self.factor if self.last_epoch == self.total_iters else 1.0)

    def _get_closed_form_lr(self) -> list[float]:
        factor = 1.0 if self.last_epoch >= self.total_iters else self.factor
        return [base * factor for base in self.base_lrs]


class LinearLR(Schedule):
    """The base rate times a factor that goes from ``start_factor`` to ``end_factor`` along a line.

    Args:
        optimizer: whose rates change.
        start_factor: the factor at epoch 0, above 0 and at most 1.
        end_factor: the factor from epoch ``total_iters`` on, from 0 to 1.
        total_iters: epochs until then.
        last_epoch: the epoch before the next one.

    Raises:
        ValueError: a factor is out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 < start_factor <= 1:
            raise ValueError(
                "LinearLR: Starting multiplicative factor expected to be greater than 0 and less or equal to "
                f"1, got {start_factor}"
            )
        if not 0 <= end_factor <= 1:
            raise ValueError(
                f"LinearLR: Ending multiplicative factor expected to be between 0 and 1, got {end_factor}"
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        if self.last_epoch == 0:
            return self.scaled(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self.scaled(1.0)
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return self.scaled(1.0 + rise / before)

    def _get_closed_form_lr(self) -> list[float]:
        rise = (self.end_factor - self.start_factor) * min(self.total_iters, self.last_epoch)
        return [base * (self.start_factor + rise / self.total_iters) for base in self.base_lrs]


class ExponentialLR(Schedule):
    """The rate times ``gamma`` every epoch.

    Args:
        optimizer: whose rates change.
        gamma: the factor.
        last_epoch: the epoch before the next one.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return self.scaled(1.0 if self._is_initial else self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(Schedule):
    """The base rate times (1 - epoch / total_iters)^power, and 0 after that.

    Args:
        optimizer: whose rates change.
        total_iters: epochs until the rate is 0.
        power: the power.
        last_epoch: the epoch before the next one.
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        if self._is_initial or self.last_epoch > self.total_iters:
            return self.scaled(1.0)
        now, before = (1.0 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return self.scaled((now / before) ** self.power)

    def _get_closed_form_lr(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]
