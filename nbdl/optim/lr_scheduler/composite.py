"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from nbdl.optim.lr_scheduler.base import LRScheduler, rates_of, set_rate
from nbdl.optim.lr_scheduler.plateau import ReduceLROnPlateau
from nbdl.optim.optimizer import Optimizer


class _Composite(LRScheduler):
    """Schedules of one optimizer."""

    _transient = ("optimizer", "_schedulers")
    _schedulers: Sequence[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        """As that of :class:`LRScheduler`, with the state of each schedule."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        super().load_state_dict({name: v for name, v in state_dict.items() if name != "_schedulers"})
        for scheduler, saved in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(saved)


def _check_schedulers(
    label: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None
) -> Optimizer:
    """The optimizer of all ``schedulers``.

    Raises:
        TypeError: one is no schedule.
        ValueError: there are none, one waits for a metric, or they belong to several optimizers.
    """
    if len(schedulers) < 1:
        raise ValueError(f"{label}: expects at least one scheduler, but got no scheduler.")
    for k, scheduler in enumerate(schedulers):
        if not hasattr(scheduler, "optimizer"):
            raise TypeError(f"{label}: scheduler at index {k} should have `optimizer` as its attribute.")
        optimizer = scheduler.optimizer if optimizer is None else optimizer
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"{label} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to "
                f"be specified when calling `step`, but got one at index {k} in the given schedulers."
            )
        if scheduler.optimizer is not optimizer:
            raise ValueError(
                f"{label} expects all schedulers to belong to the same optimizer, but got scheduler "
                f"{type(scheduler).__name__} at index {k}, which belongs to another."
            )
    return schedulers[0].optimizer


class SequentialLR(_Composite):
    """One schedule after the other.

    Args:
        optimizer: whose rates change.
        schedulers: the schedules, which all begin at their epoch 0.
        milestones: the epochs at which the second, third, ... schedule takes over.
        last_epoch: the epoch before the next one.

    Raises:
        TypeError: one is no schedule.
        ValueError: there are none, they belong to several optimizers, or the milestones do not fit.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import lr_scheduler
        >>> optimizer = nbdl.optim.SGD([nbdl.ones(1, requires_grad=True)], lr=1.0)
        >>> warmup = lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> decay = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[2])
        >>> for _ in range(4):
        ...     optimizer.step()
        ...     print(scheduler.get_last_lr())
        ...     scheduler.step()
        [0.5]
        [0.5]
        [1.0]
        [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ):
        label = type(self).__name__
        _check_schedulers(label, schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"{label}: expects number of schedulers provided to be one more than the number of milestone "
                f"points, but got number of schedulers {len(schedulers)} and the number of milestones to be "
                f"equal to {len(milestones)}"
            )
        self._schedulers, self._milestones = schedulers, milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        # Making the schedules took their first steps: take them back, and let the first schedule begin.
        for group in optimizer.param_groups:
            set_rate(group, group["initial_lr"])
        _undo(schedulers)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch."""
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(schedulers: Sequence[LRScheduler]) -> None:
    for scheduler in schedulers:
        if isinstance(scheduler, _Composite):
            _undo(scheduler._schedulers)
        else:
            scheduler.last_epoch -= 1


class ChainedScheduler(_Composite):
    """Several schedules at once: each changes the rates that the one before it has set.

    Args:
        schedulers: the schedules.
        optimizer: whose rates change; None: that of the schedules.

    Raises:
        TypeError: one is no schedule.
        ValueError: there are none, or they belong to several optimizers.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        self.optimizer = _check_schedulers(type(self).__name__, schedulers, optimizer)
        self._schedulers = schedulers
        self._last_lr = rates_of(self.optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Step every schedule."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = rates_of(self.optimizer)
