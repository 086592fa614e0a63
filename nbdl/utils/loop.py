"""The loop over epochs and batches, with callbacks; the step itself is the user's function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.utils.metrics import Mean


class Run:
    """Where a loop is; callbacks read it, and may ask it to stop.

    Attributes:
        epoch: number of the epoch, from 0.
        epochs: how many there are to be.
        step: how many batches were done, over all epochs.
        n_batches: how many an epoch has; None if nobody knows.
        values: what the last step returned, by name.
        metrics: means over the epoch, and what ``evaluate`` returned; until it ends, of the epoch before.
        history: the metrics of all epochs.
        should_stop: set it to end the loop before the next epoch.
    """

    def __init__(self, epoch: int, epochs: int, n_batches: int | None):
        self.epoch, self.epochs, self.n_batches = epoch, epochs, n_batches
        self.step = epoch * (n_batches or 0)
        self.values: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.should_stop = False


class Callback:
    """What a loop calls; subclasses define what they need."""

    def on_start(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_start(self, run: Run) -> None:
        """Before the first batch of an epoch."""

    def on_step(self, run: Run) -> None:
        """After a batch; ``run.values`` is what the step returned."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch; ``run.metrics`` is complete."""

    def on_end(self, run: Run) -> None:
        """At the end, also when an exception ended the loop."""


def fit(
    step: Callable[[Any], Any],
    batches: Iterable[Any],
    epochs: int,
    callbacks: Sequence[Callback] = (),
    evaluate: Callable[[], Mapping[str, Any]] | None = None,
    start: int = 0,
) -> Run:
    """Call ``step`` with every batch of every epoch.

    Args:
        step: trains on a batch, and returns its loss or a dict of numbers by name; it may be compiled.
        batches: a data loader, or anything that can be iterated once an epoch.
        epochs: how many.
        callbacks: called in this order.
        evaluate: called after each epoch; what it returns joins the metrics.
        start: the first epoch, when a run is taken up again.

    Returns:
        The run, with its history.

    Raises:
        TypeError: ``batches`` is an iterator, which would be empty from the second epoch on.
        ValueError: ``epochs`` or ``start`` is negative.

    Example:
        >>> import nbdl
        >>> from nbdl.utils import fit
        >>> x = nbdl.tensor(3.0, requires_grad=True)
        >>> optimizer = nbdl.optim.SGD([x], lr=0.25)
        >>> def step(batch):
        ...     optimizer.zero_grad()
        ...     loss = x * x
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> fit(step, [None], epochs=3).history
        [{'loss': 9.0}, {'loss': 2.25}, {'loss': 0.5625}]
    """
    if iter(batches) is batches and epochs - start > 1:
        raise TypeError(f"fit: batches must be iterable more than once, got {type(batches).__name__}")
    for name, value in (("epochs", epochs), ("start", start)):
        if value < 0:
            raise ValueError(f"fit: {name} must be 0 or more, got {value}")
    run = Run(start, epochs, len(batches) if isinstance(batches, Sized) else None)
    try:
        _call(callbacks, "on_start", run)
        for epoch in range(start, epochs):
            if run.should_stop:
                break
            run.epoch = epoch
            _epoch(run, step, batches, callbacks, evaluate)
    finally:
        _call(callbacks, "on_end", run)
    return run


def _epoch(
    run: Run,
    step: Callable[[Any], Any],
    batches: Iterable[Any],
    callbacks: Sequence[Callback],
    evaluate: Callable[[], Mapping[str, Any]] | None,
) -> None:
    means: dict[str, Mean] = {}
    _call(callbacks, "on_epoch_start", run)
    for batch in batches:
        returned = step(batch)
        run.values = dict(returned) if isinstance(returned, Mapping) else {"loss": returned}
        run.step += 1
        for name, value in run.values.items():
            means.setdefault(name, Mean()).update(value.detach() if isinstance(value, Tensor) else value)
        _call(callbacks, "on_step", run)
    run.metrics = {name: float(mean.compute()) for name, mean in means.items()}
    if evaluate is not None:
        run.metrics |= {name: float(value) for name, value in evaluate().items()}
    run.history.append(run.metrics)
    _call(callbacks, "on_epoch_end", run)


def _call(callbacks: Sequence[Callback], event: str, run: Run) -> None:
    for callback in callbacks:
        getattr(callback, event)(run)
