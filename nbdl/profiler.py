"""Where the time goes: by operation and by line of the program, with the memory that it takes.

The profiler looks on below the tape (:mod:`nbdl.utils.observer`), so it sees forward pass, backward pass and
optimizer alike. The replay of a compiled function is one call of machine code and has no parts to see:
profile the function before it is compiled.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.anomaly import user_line
from nbdl.utils.flops import flops
from nbdl.utils.observer import Call, observing
from nbdl.utils.text import as_table, with_unit

__all__ = ["Event", "Row", "profile"]


class Event(NamedTuple):
    """One call of the array layer.

    Attributes:
        name: of the operation.
        line: of the user's program, as ``file:line in function``.
        start: in seconds from the beginning of the profile.
        duration: in seconds.
        shapes: of the operands.
        flops: multiplications and additions in products.
        memory: bytes of live results after it.
    """

    name: str
    line: str
    start: float
    duration: float
    shapes: tuple[tuple[int, ...], ...]
    flops: int
    memory: int


class Row(NamedTuple):
    """Events that have something in common.

    Attributes:
        name: what they have in common.
        calls: how many they are.
        seconds: their time together.
        flops: their operations together.
    """

    name: str
    calls: int
    seconds: float
    flops: int


class profile:
    """Notes every operation inside a ``with`` block, in this thread.

    Attributes:
        events: what was noted, in order.
        seconds: how long the block took, the profiler's own work included.

    Example:
        >>> import nbdl
        >>> with nbdl.profiler.profile() as profile:
        ...     y = (nbdl.ones(100, 100) @ nbdl.ones(100, 100)).sum()
        >>> [(row.name, row.calls, row.flops) for row in profile.by_operation() if row.flops]
        [('matmul', 1, 2000000)]
        >>> report = profile.table()  # a text to print; profile.export_chrome_trace(path) for a picture
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seconds = 0.0
        self._memory = _Memory()

    def __enter__(self) -> profile:
        self._stack = ExitStack()
        self._stack.enter_context(observing(self._note))
        self._begin = time.perf_counter_ns()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds += (time.perf_counter_ns() - self._begin) / 1e9
        self._stack.close()

    @property
    def peak_memory(self) -> int:
        """The most bytes that results of operations inside the block took at a time.

        What existed before is not counted.
        """
        return self._memory.peak

    # --------------------------------------------------------------------------------------------- looking on
    def _note(self, call: Call) -> None:
        if not call.into:
            for array in call.outputs:
                self._memory.watch(array, call.inputs)
        self.events.append(
            Event(
                call.primitive.label,
                user_line(),
                (call.start - self._begin) / 1e9,
                (call.stop - call.start) / 1e9,
                tuple([tuple(array.shape) for array in call.inputs]),
                flops(call),
                self._memory.live,
            )
        )

    # ---------------------------------------------------------------------------------------------- reporting
    def by_operation(self) -> list[Row]:
        """The time of each operation, the longest first."""
        return _grouped((event.name, event) for event in self.events)

    def by_line(self) -> list[Row]:
        """The time of each line of the user's program, the longest first.

        Gradients belong to the line of ``backward()``.
        """
        return _grouped((event.line, event) for event in self.events)

    def table(self, by: str = "operation", limit: int = 20) -> str:
        """A report.

        Args:
            by: ``operation`` or ``line``.
            limit: so many rows at most.

        Raises:
            ValueError: ``by`` is something else.
        """
        if by not in ("operation", "line"):
            raise ValueError(f"table: by must be 'operation' or 'line', got {by!r}")
        rows = self.by_operation() if by == "operation" else self.by_line()
        total = sum(row.seconds for row in rows) or 1.0
        lines = [
            (
                row.name,
                str(row.calls),
                with_unit(row.seconds, "s"),
                f"{row.seconds / total:.1%}",
                with_unit(row.seconds / row.calls, "s"),
                with_unit(row.flops / row.seconds, "FLOP/s") if row.flops and row.seconds else "",
            )
            for row in rows[:limit]
        ]
        return (
            as_table((by, "calls", "time", "share", "per call", "speed"), lines)
            + f"\n{len(self.events)} calls, {with_unit(total, 's')} of {with_unit(self.seconds, 's')}; "
            f"peak memory of results {with_unit(self.peak_memory, 'B')}"
        )

    def export_chrome_trace(self, path: str | os.PathLike) -> None:
        """Write the events in the format of chrome://tracing and https://ui.perfetto.dev.

        Source: Trace Event Format, "complete" (X) and "counter" (C) events; times are in microseconds.

        Args:
            path: of the JSON file.
        """
        common = {"pid": os.getpid(), "tid": threading.get_ident()}
        trace: list[dict[str, Any]] = []
        for event in self.events:
            start = event.start * 1e6
            details = {"line": event.line, "shapes": str(event.shapes), "flops": event.flops}
            trace.append(
                {"ph": "X", "name": event.name, "cat": "op", "ts": start, "dur": event.duration * 1e6}
                | common
                | {"args": details}
            )
            after = start + event.duration * 1e6
            trace.append(
                {"ph": "C", "name": "memory", "ts": after} | common | {"args": {"bytes": event.memory}}
            )
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": trace, "displayTimeUnit": "ms"}, file)


class _Memory:
    """Bytes of the results that are still referred to.

    Attributes:
        live: now.
        peak: the most there were.
    """

    def __init__(self) -> None:
        self.live = self.peak = 0
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._lock = threading.RLock()  # the garbage collector may call _forget inside watch

    def watch(self, array: Any, inputs: Iterable[Any]) -> None:
        """Count the memory of a result until it is gone, unless it is that of an operand."""
        owner = _owner(array)
        key = id(owner)
        if key in self._watched or any(owner is _owner(x) for x in inputs):
            return
        with self._lock:
            self._watched[key] = weakref.ref(owner, functools.partial(self._forget, key, owner.nbytes))
            self.live += owner.nbytes
            self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int, reference: weakref.ref[Any]) -> None:
        with self._lock:
            if self._watched.pop(key, None) is not None:
                self.live -= size


def _owner(array: Any) -> Any:
    """The array that a view is a window on."""
    return array.base if isinstance(array.base, type(array)) and isinstance(array, np.ndarray) else array


def _grouped(events: Iterable[tuple[str, Event]]) -> list[Row]:
    groups: dict[str, list[Event]] = defaultdict(list)
    for name, event in events:
        groups[name].append(event)
    rows = [
        Row(name, len(found), sum(event.duration for event in found), sum(event.flops for event in found))
        for name, found in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)
