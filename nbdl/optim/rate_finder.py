"""Finding a learning rate: the range test, and the largest rate at which training is stable."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.optim.lr_scheduler.base import set_rate
from nbdl.optim.optimizer import Optimizer


@dataclass
class RateStudy:
    """Learning rates with the losses that they gave.

    Attributes:
        rates: the rates, rising.
        losses: the loss of each; infinite or NaN where training diverged.
        largest_stable: the largest rate that was found stable; NaN if none was.
        suggestion: the rate at which the loss fell fastest; NaN if it never fell.
    """

    rates: np.ndarray
    losses: np.ndarray
    largest_stable: float
    suggestion: float

    def plot(self, ax: Any = None) -> Any:
        """Draw losses against rates, and lines at the rates that were found.

        Args:
            ax: matplotlib's axes to draw on; None: new ones.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        finite = np.isfinite(self.losses)
        ax.plot(self.rates[finite], self.losses[finite], marker=".")
        for rate, style, label in (
            (self.largest_stable, "--", "largest stable"),
            (self.suggestion, ":", "steepest"),
        ):
            if math.isfinite(rate):
                ax.axvline(rate, color="black", linestyle=style, label=f"{label}: {rate:.2g}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        return ax


def largest_stable_rate(
    loss: Callable[[], Tensor],
    optimizer: Optimizer,
    low: float = 1e-6,
    high: float = 1e3,
    n_steps: int = 50,
    n_trials: int = 20,
) -> RateStudy:
    """The largest learning rate at which training does not diverge, by bisection of its logarithm.

    Every trial begins at the present parameters and takes ``n_steps`` steps at one rate. It is stable if
    every loss is finite and the last is at most the first. Parameters and optimizer are afterwards as before;
    buffers, such as running statistics, are not put back. For gradient descent on a quadratic the answer is
    2 divided by the largest eigenvalue of the Hessian.

    Args:
        loss: computes the loss; all rates should be given the same data.
        optimizer: takes the steps; all its groups get the same rate.
        low: smallest rate.
        high: largest rate.
        n_steps: steps of a trial.
        n_trials: number of trials, two of which are ``low`` and ``high``.

    Returns:
        The rates that were tried with their last losses, and the largest stable one among them.

    Raises:
        ValueError: not 0 < low < high, or a number is too small.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 1.0], requires_grad=True)
        >>> curvature = nbdl.tensor([1.0, 10.0])
        >>> study = nbdl.optim.largest_stable_rate(
        ...     lambda: (curvature * w * w).sum() / 2, nbdl.optim.SGD([w]), low=1e-3, high=10.0)
        >>> round(study.largest_stable, 2)
        0.2
    """
    _check_range("largest_stable_rate", low, high, n_steps, 1)
    if n_trials < 2:
        raise ValueError(f"largest_stable_rate: n_trials must be at least 2, got {n_trials}")
    tried: dict[float, list[float]] = {}

    def is_stable(rate: float) -> bool:
        with _restored(optimizer):
            tried[rate] = losses = _train(loss, optimizer, [rate] * n_steps, math.inf)
        return len(losses) == n_steps + 1 and losses[-1] <= losses[0]

    best = math.nan
    if is_stable(low):
        best = high if is_stable(high) else low
        first, last = low, high
        while best != high and len(tried) < n_trials:
            middle = math.sqrt(first * last)
            if is_stable(middle):
                best = first = middle
            else:
                last = middle
    rates = np.array(sorted(tried))
    return _study(rates, np.array([tried[rate][-1] for rate in rates]), best)


def rate_range_test(
    loss: Callable[[], Tensor],
    optimizer: Optimizer,
    low: float = 1e-7,
    high: float = 10.0,
    n_steps: int = 100,
    smoothing: float = 0.05,
    diverged: float = 4.0,
) -> RateStudy:
    """Train while the learning rate rises exponentially, and see where the loss falls and where it explodes.

    Parameters and optimizer are afterwards as before; buffers, such as running statistics, are not put back.

    Args:
        loss: computes the loss of the next batch.
        optimizer: takes the steps; all its groups get the same rate.
        low: the first rate.
        high: the last rate.
        n_steps: number of steps.
        smoothing: weight of the last loss in a running mean of the losses, corrected for its start.
        diverged: the test ends when the smooth loss is this many times the smallest one.

    Returns:
        The rates with the smooth losses; ``largest_stable`` is the rate of the smallest one, which is too
        large rather than too small, since an explosion needs some steps to show.

    Raises:
        ValueError: not 0 < low < high, there are fewer than 2 steps, or ``smoothing`` is not in (0, 1].

    Source: Smith (2017), Cyclical learning rates for training neural networks, section 3.3.
    """
    _check_range("rate_range_test", low, high, n_steps, 2)
    if not 0 < smoothing <= 1:
        raise ValueError(f"rate_range_test: smoothing must be in (0, 1], got {smoothing}")
    rates = np.geomspace(low, high, n_steps)
    with _restored(optimizer):
        losses = _train(loss, optimizer, rates, diverged, smoothing)
    reached = np.array(losses[: len(rates)])
    rates = rates[: len(reached)]
    finite = np.where(np.isfinite(reached), reached, np.inf)
    return _study(rates, reached, float(rates[finite.argmin()]) if np.isfinite(finite).any() else math.nan)


def _study(rates: np.ndarray, losses: np.ndarray, largest_stable: float) -> RateStudy:
    """The study, with the rate before the steepest fall."""
    suggestion = math.nan
    with np.errstate(invalid="ignore"):
        falls = -np.diff(losses) / np.diff(np.log(rates))
    falls[~np.isfinite(falls)] = -np.inf
    if falls.size and falls.max() > 0:
        suggestion = float(rates[falls.argmax()])
    return RateStudy(rates, losses, largest_stable, suggestion)


def _train(
    loss: Callable[[], Tensor], optimizer: Optimizer, rates: Any, diverged: float, smoothing: float = 1.0
) -> list[float]:
    """The smooth losses before each step and after the last one, until they explode."""
    losses: list[float] = []
    mean, weight = 0.0, 0.0
    for rate in [*rates, None]:
        with enable_grad():
            value = loss()
        mean += smoothing * (float(value.detach()) - mean)
        weight += smoothing * (1 - weight)
        losses.append(mean / weight)
        if not math.isfinite(losses[-1]) or losses[-1] > diverged * min(map(abs, losses)):
            break
        if rate is not None:
            for group in optimizer.param_groups:
                set_rate(group, float(rate))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return losses


@contextmanager
def _restored(optimizer: Optimizer) -> Iterator[None]:
    """Put parameters, gradients, state and rates back at the end."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    values, grads = [param.detach().clone() for param in params], [param.grad for param in params]
    saved = copy.deepcopy(optimizer.state_dict())
    rates = [group["lr"] for group in optimizer.param_groups]
    numbers = [float(rate) for rate in rates]
    try:
        yield
    finally:
        optimizer.load_state_dict(saved)
        for group, rate, number in zip(optimizer.param_groups, rates, numbers, strict=True):
            group["lr"] = rate
            set_rate(group, number)
        with no_grad():
            for param, value, grad in zip(params, values, grads, strict=True):
                param.copy_(value)
                param.grad = grad


def _check_range(label: str, low: float, high: float, n_steps: int, least: int) -> None:
    if not 0 < low < high:
        raise ValueError(f"{label}: expected 0 < low < high, got low={low}, high={high}")
    if n_steps < least:
        raise ValueError(f"{label}: n_steps must be at least {least}, got {n_steps}")
