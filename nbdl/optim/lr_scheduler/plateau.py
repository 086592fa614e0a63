"""Rates that fall when a metric stops improving."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from nbdl.optim.lr_scheduler.base import EPOCH_WARNING, LRScheduler, check_optimizer, rates_of, set_rate
from nbdl.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """The rate times ``factor`` whenever a metric has not improved for more than ``patience`` epochs.

    Args:
        optimizer: whose rates change.
        mode: "min" if the metric should fall, "max" if it should rise.
        factor: below 1.
        patience: epochs without improvement that are borne.
        threshold: how much better the metric must be to count.
        threshold_mode: "rel" for a part of the best value, "abs" for a difference.
        cooldown: epochs after a change in which nothing is counted.
        min_lr: the smallest rate, or one for each group.
        eps: smaller changes of the rate are left out.

    Attributes:
        best: the best metric so far.
        num_bad_epochs: epochs since then.

    Raises:
        TypeError: ``optimizer`` is none.
        ValueError: the factor is 1 or more, a mode is unknown, or ``min_lr`` does not fit the groups.

    Example:
        >>> import nbdl
        >>> optimizer = nbdl.optim.SGD([nbdl.ones(1, requires_grad=True)], lr=1.0)
        >>> scheduler = nbdl.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in [3.0, 2.0, 2.0, 2.0]:
        ...     scheduler.step(loss)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ):
        label = type(self).__name__
        if factor >= 1.0:
            raise ValueError(f"{label}: Factor should be < 1.0, got {factor}")
        self.optimizer = check_optimizer(self, optimizer)
        n_groups = len(optimizer.param_groups)
        if isinstance(min_lr, (list, tuple)):
            if len(min_lr) != n_groups:
                raise ValueError(f"{label}: expected {n_groups} min_lrs, got {len(min_lr)}")
            self.default_min_lr, self.min_lrs = None, list(min_lr)
        else:
            self.default_min_lr, self.min_lrs = min_lr, [min_lr] * n_groups
        if mode not in ("min", "max"):
            raise ValueError(f"{label}: mode {mode} is unknown! (allowed: min, max)")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"{label}: threshold mode {threshold_mode} is unknown! (allowed: rel, abs)")
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.last_epoch = 0
        self._last_lr = rates_of(optimizer)
        self._reset()

    def _reset(self) -> None:
        """Forget the metrics."""
        self.best = self.mode_worse
        self.cooldown_counter = self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether the rate has changed so recently that nothing is counted."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Tell the metric of an epoch.

        Args:
            metrics: a number, or a tensor with one element.
            epoch: deprecated.
        """
        current = float(metrics)
        if epoch is not None:
            warnings.warn(EPOCH_WARNING, UserWarning, stacklevel=2)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = rates_of(self.optimizer)

    def _reduce_lr(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"{type(self).__name__}: The number of param groups in the `optimizer` ({len(groups)}) "
                    f"differs from when the scheduler was initialized ({len(self.min_lrs)}); give `min_lrs` "
                    "one value for each group"
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, smallest in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, smallest)
            if old - new > self.eps:
                set_rate(group, new)

    def _is_better(self, value: float, best: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            needed = best * (1.0 + sign * self.threshold)
        else:
            needed = best + sign * self.threshold
        return sign * value > sign * needed

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        super().load_state_dict(state_dict)
        self.mode_worse = math.inf if self.mode == "min" else -math.inf


class HalveOnPlateau(ReduceLROnPlateau):
    """Half the rate whenever a metric has not improved for more than ``patience`` epochs.

    Args:
        optimizer: whose rates change.
        mode: "min" if the metric should fall, "max" if it should rise.
        patience: epochs without improvement that are borne.
        min_lr: the smallest rate, or one for each group.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", patience: int = 0, min_lr: float | list[float] = 0
    ):
        super().__init__(optimizer, mode, 0.5, patience, min_lr=min_lr)
