"""Callbacks for :func:`nbdl.utils.fit`: progress, early stopping, checkpoints, TensorBoard."""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from nbdl.random import get_rng_state_all, set_rng_state_all
from nbdl.serialization import load, save
from nbdl.utils.loop import Callback, Run
from nbdl.utils.tensorboard import SummaryWriter


class _Best:
    """The best value so far of a metric.

    Args:
        label: what errors call the user's object.
        monitor: name of the metric.
        mode: ``min`` or ``max``: what is better.
        min_delta: by how much a value must be better.
    """

    def __init__(self, label: str, monitor: str, mode: str, min_delta: float = 0.0):
        if mode not in ("min", "max"):
            raise ValueError(f"{label}: mode must be 'min' or 'max', got {mode!r}")
        if not min_delta >= 0:
            raise ValueError(f"{label}: min_delta must be 0 or more, got {min_delta!r}")
        self._label, self._monitor, self._min_delta = label, monitor, min_delta
        self._sign = 1.0 if mode == "min" else -1.0
        self.value = math.nan

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric is better than ever; NaN never is."""
        if self._monitor not in metrics:
            names = ", ".join(metrics) or "none"
            raise KeyError(f"{self._label}: there is no metric {self._monitor!r}; there are {names}")
        value = metrics[self._monitor]
        if math.isnan(self.value):
            better = not math.isnan(value)
        else:
            better = self._sign * (self.value - value) > self._min_delta
        if better:
            self.value = value
        return better


class EarlyStopping(Callback):
    """Ends the loop when a metric stops getting better.

    Args:
        monitor: name of the metric.
        patience: how many epochs in a row may bring nothing better.
        mode: ``min`` or ``max``: what is better.
        min_delta: by how much it must be better to count.
        restore: a module that gets the parameters of its best epoch back at the end.

    It can be a part of a :class:`Checkpoint` that stands after it among the callbacks, so that a resumed run
    stops where an uninterrupted one would.

    Attributes:
        best_epoch: number of the best epoch; None before the first.

    Raises:
        ValueError: an option has a value that is not allowed.
    """

    def __init__(
        self,
        monitor: str = "loss",
        patience: int = 5,
        mode: str = "min",
        min_delta: float = 0.0,
        restore: Any = None,
    ):
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be 1 or more, got {patience!r}")
        self._best = _Best("EarlyStopping", monitor, mode, min_delta)
        self._patience, self._module = patience, restore
        self._state: Any = None
        self._waited = 0
        self.best_epoch: int | None = None

    @property
    def best(self) -> float:
        """The best value; NaN before the first epoch."""
        return self._best.value

    def on_start(self, run: Run) -> None:
        run.should_stop |= self._waited >= self._patience

    def on_epoch_end(self, run: Run) -> None:
        if self._best.improves(run.metrics):
            self.best_epoch, self._waited = run.epoch, 0
            if self._module is not None:
                self._state = copy.deepcopy(self._module.state_dict())
            return
        self._waited += 1
        run.should_stop |= self._waited >= self._patience

    def on_end(self, run: Run) -> None:
        if self._state is not None:
            self._module.load_state_dict(self._state)

    def state_dict(self) -> dict[str, Any]:
        """What it has seen."""
        return {
            "best": self._best.value, "best_epoch": self.best_epoch, "waited": self._waited,
            "state": self._state,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._best.value, self.best_epoch = state["best"], state["best_epoch"]
        self._waited, self._state = state["waited"], state["state"]


class Checkpoint(Callback):
    """Saves after epochs, so that a run can be taken up again.

    The file holds the state of the parts, of the random generators, and the history. So a run that was
    stopped and resumed ends with the very numbers of one that was not, if nothing else decides about them.

    Args:
        path: of the file, which is replaced each time.
        parts: by name, what has ``state_dict`` and ``load_state_dict``: model, optimizer, scheduler.
        every: after how many epochs; after the last one in any case.
        monitor: save only when this metric is better than ever; default: always.
        mode: ``min`` or ``max``: what is better.

    Raises:
        ValueError: an option has a value that is not allowed.

    Example:
        >>> import nbdl, tempfile, pathlib
        >>> from nbdl.utils import callbacks, fit
        >>> model = nbdl.nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = callbacks.Checkpoint(pathlib.Path(folder) / "last", {"model": model})
        ...     run = fit(lambda batch: 0.0, [None], 3, [checkpoint], start=checkpoint.resume())
        ...     checkpoint.resume()  # with which epoch to go on
        3
    """

    def __init__(
        self,
        path: str | os.PathLike,
        parts: Mapping[str, Any],
        every: int = 1,
        monitor: str | None = None,
        mode: str = "min",
    ):
        if every < 1:
            raise ValueError(f"Checkpoint: every must be 1 or more, got {every!r}")
        self._best = None if monitor is None else _Best("Checkpoint", monitor, mode)
        self.path, self._parts, self._every = path, dict(parts), every
        self._history: list[dict[str, float]] = []

    def on_start(self, run: Run) -> None:
        run.history = [*self._history]

    def on_epoch_end(self, run: Run) -> None:
        is_due = (run.epoch + 1) % self._every == 0 or run.epoch + 1 == run.epochs
        if not is_due or not (self._best is None or self._best.improves(run.metrics)):
            return
        content = {
            "epoch": run.epoch,
            "history": run.history,
            "best": None if self._best is None else self._best.value,
            "random": get_rng_state_all(),
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
        }
        save(content, self.path)

    def resume(self, map_location: Any = None) -> int:
        """Load the file, if there is one.

        Args:
            map_location: as of :func:`nbdl.load`.

        Returns:
            The epoch to go on with: 0 if there is no file.

        Raises:
            RuntimeError: the file is broken, or is no checkpoint of these parts.
        """
        if not os.path.exists(self.path):
            return 0
        found = load(self.path, map_location)
        if not isinstance(found, dict) or set(found.get("parts", ())) != set(self._parts):
            raise RuntimeError(
                f"Checkpoint: '{os.fspath(self.path)}' is no checkpoint of {', '.join(self._parts)}"
            )
        for name, part in self._parts.items():
            part.load_state_dict(found["parts"][name])
        if self._best is not None and found["best"] is not None:
            self._best.value = found["best"]
        set_rng_state_all(found["random"])
        self._history = found["history"]
        return found["epoch"] + 1


class Progress(Callback):
    """Shows how far the loop is: a bar over all of its batches, else a line an epoch.

    The bar is tqdm's if that is installed, else a plain one.

    Args:
        file: where to; default: standard error.
        bar: whether to draw a bar; default: if ``file`` is a terminal.
    """

    def __init__(self, file: TextIO | None = None, bar: bool | None = None):
        self._file, self._wants_bar = file, bar
        self._bar: Any = None

    def on_start(self, run: Run) -> None:
        file = self._file or sys.stderr
        if self._wants_bar or (self._wants_bar is None and file.isatty()):
            self._bar = _new_bar(run, file)

    def on_epoch_start(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.set_description(f"epoch {run.epoch + 1}/{run.epochs}")

    def on_step(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_epoch_end(self, run: Run) -> None:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in run.metrics.items())
        if self._bar is not None:
            self._bar.set_postfix_str(metrics)
        else:
            file = self._file or sys.stderr
            file.write(f"epoch {run.epoch + 1}/{run.epochs}: {metrics}\n")
            file.flush()

    def on_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _new_bar(run: Run, file: TextIO) -> Any:
    total = None if run.n_batches is None else run.epochs * run.n_batches
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return _PlainBar(total, run.step, file)
    return tqdm(total=total, initial=run.step, unit="batch", file=file)


class _PlainBar:
    """The part of tqdm's bar that is used here, drawn again at most ten times a second."""

    _WIDTH, _PAUSE = 30, 0.1

    def __init__(self, total: int | None, done: int, file: TextIO):
        self._total, self._done, self._file = total, done, file
        self._description = self._note = ""
        self._drawn, self._length = -math.inf, 0

    def set_description(self, text: str) -> None:
        self._description = text

    def set_postfix_str(self, text: str) -> None:
        self._note = text

    def update(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._drawn >= self._PAUSE:
            self._drawn = now
            self._draw()

    def close(self) -> None:
        self._draw()
        self._file.write("\n")
        self._file.flush()

    def _draw(self) -> None:
        count = f"{self._done}"
        if self._total:
            filled = self._WIDTH * self._done // self._total
            count = f"[{'#' * filled:.<{self._WIDTH}}] {self._done}/{self._total}"
        line = f"{self._description} {count} {self._note}"
        self._file.write("\r" + line.ljust(self._length))  # no rest of a longer line stays
        self._file.flush()
        self._length = len(line)


class TensorBoard(Callback):
    """Writes the metrics of each epoch, and the values of some steps, for TensorBoard.

    Args:
        log_dir: the folder.
        every: after how many steps their values are written; 0: never.

    Raises:
        ValueError: ``every`` is negative.
    """

    def __init__(self, log_dir: str | os.PathLike, every: int = 0):
        if every < 0:
            raise ValueError(f"TensorBoard: every must be 0 or more, got {every!r}")
        self._log_dir, self._every = log_dir, every
        self._writer: SummaryWriter | None = None

    def on_start(self, run: Run) -> None:
        self._writer = SummaryWriter(self._log_dir)

    def on_step(self, run: Run) -> None:
        if self._every and run.step % self._every == 0:
            self._add("step", run.values, run.step)

    def on_epoch_end(self, run: Run) -> None:
        self._add("epoch", run.metrics, run.epoch)

    def on_end(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, group: str, values: Mapping[str, Any], step: int) -> None:
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()
