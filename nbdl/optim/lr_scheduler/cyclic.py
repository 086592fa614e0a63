"""Rates that rise and fall, with the momentum against them: CyclicLR and OneCycleLR."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nbdl.optim.lr_scheduler.base import (
    Schedule,
    check_optimizer,
    function_state,
    one_per_group,
    set_rate,
)
from nbdl.optim.lr_scheduler.cosine import half_wave
from nbdl.optim.optimizer import Optimizer


class _Momenta:
    """The momentum of the groups, or the first beta, as some schedules change it against the rate.

    Args:
        optimizer: whose groups.
        base: the smallest values, one for all groups or one for each.
        largest: the largest values.
        start: whether the groups get the largest now.

    Raises:
        ValueError: the optimizer has no momentum.
    """

    def __init__(self, optimizer: Optimizer, base: Any, largest: Any, start: bool):
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in optimizer.defaults
        self.base = one_per_group("base_momentum", optimizer, base)
        self.largest = one_per_group("max_momentum", optimizer, largest)
        if not start:
            return
        for low, high, group in zip(self.base, self.largest, optimizer.param_groups, strict=True):
            _set_momentum(group, high, self.use_beta1)
            group["max_momentum"], group["base_momentum"] = high, low


def _set_momentum(group: dict[str, Any], value: float, use_beta1: bool) -> None:
    """Give ``group`` a momentum, or a first beta."""
    if use_beta1:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class CyclicLR(Schedule):
    """From ``base_lr`` up to ``max_lr`` and down along lines, again and again; step it after each batch.

    Args:
        optimizer: whose rates change.
        base_lr: the smallest rate, or one for each group.
        max_lr: the largest rate, or one for each group.
        step_size_up: batches of the rise.
        step_size_down: batches of the fall; None: as many.
        mode: "triangular" (every cycle the same), "triangular2" (half the height after each cycle) or
            "exp_range" (height times gamma^batch).
        gamma: for "exp_range".
        scale_fn: the factor of the height, in place of ``mode``.
        scale_mode: whether ``scale_fn`` is a function of the "cycle" or of the "iterations".
        cycle_momentum: let the momentum, or the first beta, fall while the rate rises.
        base_momentum: the smallest momentum, or one for each group.
        max_momentum: the largest momentum, or one for each group.
        last_epoch: the batch before the next one.

    Raises:
        ValueError: the mode is unknown, lists do not fit the groups, or the optimizer has no momentum.

    Source: Smith (2017), Cyclical learning rates for training neural networks, section 3.
    """

    _transient = ("optimizer", "_scale_fn_custom")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ):
        check_optimizer(self, optimizer)
        base_lrs = one_per_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for rate, group in zip(base_lrs, optimizer.param_groups, strict=True):
                set_rate(group, rate)
        self.max_lrs = one_per_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(
                f"CyclicLR: mode is invalid and scale_fn is None, got {mode!r} (allowed: 'triangular', "
                "'triangular2', 'exp_range')"
            )
        self.mode, self.gamma = mode, gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode if scale_fn else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            momentum = _Momenta(optimizer, base_momentum, max_momentum, last_epoch == -1)
            self.use_beta1 = momentum.use_beta1
            self.base_momentums, self.max_momentums = momentum.base, momentum.largest
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The factor of the height at cycle, or batch, ``x``."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return 1 / 2.0 ** (x - 1)
        return self.gamma**x if self.mode == "exp_range" else 1.0

    def rates(self) -> list[float]:
        """The rates; sets the momentum as well."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        part = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        part *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            ranges = zip(self.base_momentums, self.max_momentums, strict=True)
            for group, (low, high) in zip(self.optimizer.param_groups, ranges, strict=True):
                _set_momentum(group, high - (high - low) * part, self.use_beta1)
        return [low + (high - low) * part for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """As that of :class:`LRScheduler`; of ``scale_fn``, only the attributes of a callable object."""
        return {**super().state_dict(), "_scale_fn_custom": function_state(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; a plain ``scale_fn`` stays as it is."""
        super().load_state_dict({name: v for name, v in state_dict.items() if name != "_scale_fn_custom"})
        saved = state_dict["_scale_fn_custom"]
        if saved is not None:
            vars(self._scale_fn_custom).update(saved)


class OneCycleLR(Schedule):
    """One rise to ``max_lr`` and a long fall far below the first rate; step it after each batch.

    Args:
        optimizer: whose rates change.
        max_lr: the largest rate, or one for each group.
        total_steps: batches of the cycle; None: ``epochs * steps_per_epoch``.
        epochs: epochs of the cycle.
        steps_per_epoch: batches of an epoch.
        pct_start: part of the cycle in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: let the momentum, or the first beta, fall while the rate rises.
        base_momentum: the smallest momentum, or one for each group.
        max_momentum: the largest momentum, or one for each group.
        div_factor: the first rate is max_lr / div_factor.
        final_div_factor: the last rate is the first one / final_div_factor.
        three_phase: fall to the first rate as fast as it rose, and then on to the last.
        last_epoch: the batch before the next one.

    Raises:
        ValueError: the number of batches is not given, something is out of its range, or the schedule is
            stepped beyond its end.

    Source: Smith, Topin (2018), Super-convergence: very fast training of neural networks using large learning
        rates.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        check_optimizer(self, optimizer)
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        self._anneal_func_type = anneal_strategy
        max_lrs = one_per_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for rate, group in zip(max_lrs, optimizer.param_groups, strict=True):
                group["initial_lr"], group["max_lr"] = rate / div_factor, rate
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            momentum = _Momenta(optimizer, base_momentum, max_momentum, last_epoch == -1)
            self.use_beta1 = momentum.use_beta1
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        """The rates; sets the momentum as well."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(
                f"OneCycleLR: Tried to step {step} times. The specified number of total steps is "
                f"{self.total_steps}"
            )
        phase, part = self._position(step)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._anneal(group[phase["start_lr"]], group[phase["end_lr"]], part))
            if self.cycle_momentum:
                value = self._anneal(group[phase["start_momentum"]], group[phase["end_momentum"]], part)
                _set_momentum(group, value, self.use_beta1)
        return rates

    def _position(self, step: int) -> tuple[dict[str, Any], float]:
        """The phase of ``step``, and the part of it that is over."""
        start = 0.0
        for phase in self._schedule_phases[:-1]:
            if step <= phase["end_step"]:
                break
            start = phase["end_step"]
        else:
            phase = self._schedule_phases[-1]
        return phase, (step - start) / (phase["end_step"] - start)

    def _anneal(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "cos":
            return half_wave(start, end, part)
        return (end - start) * part + start


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    """The batches of the cycle.

    Raises:
        ValueError: they are not given, or not positive integers.
    """
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        raise ValueError("OneCycleLR: You must define either total_steps OR (epochs AND steps_per_epoch)")
    if total_steps is not None:
        return _positive("total_steps", total_steps)
    return _positive("epochs", epochs) * _positive("steps_per_epoch", steps_per_epoch)


def _positive(name: str, value: int | None) -> int:
    """``value``.

    Raises:
        ValueError: it is no positive integer.
    """
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"OneCycleLR: Expected positive integer {name}, but got {value}")
    return value


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    """Ends of the phases, and the names of what the groups begin and end them with."""
    turn = float(pct_start * total_steps)
    ends = [("initial_lr", "max_lr", "max_momentum", "base_momentum", turn - 1)]
    if three_phase:
        ends.append(("max_lr", "initial_lr", "base_momentum", "max_momentum", 2 * turn - 2))
        ends.append(("initial_lr", "min_lr", "max_momentum", "max_momentum", total_steps - 1))
    else:
        ends.append(("max_lr", "min_lr", "base_momentum", "max_momentum", total_steps - 1))
    names = ("start_lr", "end_lr", "start_momentum", "end_momentum", "end_step")
    return [dict(zip(names, phase, strict=True)) for phase in ends]
