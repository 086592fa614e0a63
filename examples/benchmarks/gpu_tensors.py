"""What the workloads on a GPU in PyTorch and in nbdl have in common: `lib` is `torch` or `nbdl`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from data import WORKLOADS
from workloads_tensors import Loss, load, make_loss, make_optimizer, training_step

NAMES = ("a", "b", "c", "d", "e", "f")
# Batches that a GPU is not idle with: so many times those of the CPU.
FACTORS = {"c": 8, "d": 4, "e": 4, "f": 4}
ROTATION = 4  # batches that take turns, so that none is found in a cache for its sake
COPIED = 1 << 26  # elements of a copy, float32
ROWS = 8192  # of a matrix product, float32


def batches(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of a workload: its examples several times, in another order in each."""
    x, y = WORKLOADS[name].make_batch()
    count = FACTORS.get(name, 1)
    x, y = (np.concatenate([part] * count) for part in (x, y))
    orders = [np.random.default_rng(seed).permutation(len(x)) for seed in range(ROTATION)]
    return [(x[order], y[order]) for order in orders]


def prepare(
    lib: ModuleType, name: str, device: str, wrap: Callable[[Loss], Loss] = lambda loss: loss, **more: Any
) -> tuple[Loss, list[tuple[Any, Any]]]:
    """A training step, and the batches on the device.

    Args:
        lib: the framework.
        name: of the workload.
        device: where it runs.
        wrap: makes another function of the loss.
        more: settings of the optimizer.
    """
    model, _, _ = load(lib, name)
    model.to(device)
    found = [tuple(lib.from_numpy(part).to(device) for part in batch) for batch in batches(name)]
    step = training_step(make_optimizer(lib, name, model, **more), wrap(make_loss(lib, name, model)))
    return step, found


def rotating(step: Loss, found: list[tuple[Any, Any]]) -> Callable[[], Any]:
    """A function that takes the next batch at each call."""
    turns = itertools.cycle(found)
    return lambda: step(*next(turns))


class Clock:
    """Time between two marks in the device's own stream of work.

    Args:
        events: makes an event: `torch.cuda.Event` or `nbdl.cuda.Event`.
    """

    def __init__(self, events: Callable[..., Any]):
        self._start, self._end = events(enable_timing=True), events(enable_timing=True)

    def start(self) -> None:
        """Mark the beginning."""
        self._start.record()

    def stop(self) -> None:
        """Mark the end."""
        self._end.record()

    def seconds(self) -> float:
        """Between the marks; waits for the second one."""
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3
