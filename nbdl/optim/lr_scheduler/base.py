"""What all schedules have: base rates, the epoch, the state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.optim.optimizer import Optimizer

EPOCH_WARNING = (
    "step: the epoch parameter is deprecated; call scheduler.step() once an epoch instead. With an epoch, "
    "the closed form of the schedule is used where there is one"
)
_ORDER_WARNING = (
    "step: lr_scheduler.step() was called before optimizer.step(), so the first value of the schedule is "
    "never used; call optimizer.step() first"
)


class LRScheduler:
    """The base of all schedules of the learning rate.

    A subclass gives ``get_lr``: the rates of all groups at ``self.last_epoch``, usually from those that the
    groups have now, so that several schedules can act on one optimizer. The first step is taken when a
    schedule is made.

    Args:
        optimizer: whose rates change.
        last_epoch: the epoch before the next one; -1 to begin.

    Attributes:
        optimizer: the optimizer.
        base_lrs: the rates at the beginning, one a group.
        last_epoch: the epoch of the present rates.

    Raises:
        TypeError: ``optimizer`` is none.
        KeyError: ``last_epoch`` is given, but the groups do not know the rates that they began with.
    """

    _get_lr_called_within_step = False
    _is_initial = False
    # What is not part of the state.
    _transient: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        self.optimizer = check_optimizer(self, optimizer)
        for k, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: param 'initial_lr' is not specified in param_groups[{k}] when "
                    f"resuming with last_epoch={last_epoch}; load the optimizer's state first, or begin at -1"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        note_steps(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule knows, but for the optimizer."""
        return {name: value for name, value in vars(self).items() if name not in self._transient}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        vars(self).update(state_dict)

    def get_last_lr(self) -> list[float]:
        """The rates that the last step set, one a group."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """The rates at ``last_epoch``; to be called by :meth:`step` only."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_lr")

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch, or to ``epoch``."""
        is_second = self._step_count == 1 and self.last_epoch >= 0  # -1: taken back, for a sequence
        if is_second and not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(_ORDER_WARNING, UserWarning, stacklevel=2)
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed_form = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
        with self._within_step():
            rates = self.get_lr() if closed_form is None else closed_form()
        self._set_rates(rates)

    @contextmanager
    def _within_step(self) -> Iterator[None]:
        self._get_lr_called_within_step = True
        try:
            yield
        finally:
            self._get_lr_called_within_step = False

    def _set_rates(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_rate(group, rate)
        self._last_lr = rates_of(self.optimizer)


class Schedule(LRScheduler):
    """The base of the schedules of this package, which give :meth:`rates`."""

    def get_lr(self) -> list[float]:
        """The rates at ``last_epoch``; called by :meth:`step`. Use :meth:`get_last_lr` to look at them."""
        if not self._get_lr_called_within_step:
            warnings.warn(
                "get_lr: to get the last learning rate computed by the scheduler, use get_last_lr()",
                UserWarning,
                stacklevel=2,
            )
        return self.rates()

    def rates(self) -> list[float]:
        """The rates at ``last_epoch``, from those that the groups have now."""
        raise NotImplementedError(f"{type(self).__name__} defines no rates")

    def scaled(self, factor: float) -> list[float]:
        """The present rates times ``factor``."""
        return [rate * factor for rate in rates_of(self.optimizer)]


class ClosedFormSchedule(Schedule):
    """The base of schedules whose rates are a function of the epoch and the base rates alone."""

    def rate(self, base: float, epoch: float) -> float:
        """The rate at ``epoch`` of a group that began with ``base``."""
        raise NotImplementedError(f"{type(self).__name__} defines no rate")

    def rates(self) -> list[float]:
        return [self.rate(base, self.last_epoch) for base in self.base_lrs]


def check_optimizer(scheduler: LRScheduler, optimizer: Any) -> Optimizer:
    """``optimizer``.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(scheduler).__name__}: {type(optimizer).__name__} is not an Optimizer")
    return optimizer


def note_steps(optimizer: Optimizer) -> None:
    """See to it that the optimizer knows whether it has stepped."""
    if not hasattr(optimizer, "_opt_called"):
        optimizer._opt_called = False  # type: ignore[attr-defined]
        optimizer.register_step_post_hook(_note_step)


def _note_step(optimizer: Any, args: Any, kwargs: Any) -> None:
    optimizer._opt_called = True


def rates_of(optimizer: Optimizer) -> list[float]:
    """The learning rates of the groups."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Give ``group`` a learning rate, in place where it is a tensor."""
    if mode.recorder is not None:
        mode.recorder.refuse("a schedule of learning rates", "step it between the calls")
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def one_per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """``value`` for every group, or its entries if it is a list.

    Raises:
        ValueError: there are more or fewer entries than groups.
    """
    n_groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * n_groups
    if len(value) != n_groups:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
            f"param_groups has {n_groups}."
        )
    return list(value)


def function_state(function: Callable[..., Any] | None) -> dict[str, Any] | None:
    """What is saved of a function: the attributes of a callable object; nothing of a plain function."""
    return None if function is None or isinstance(function, FunctionType) else vars(function).copy()
