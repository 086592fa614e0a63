"""Streams, whose work is done one after another, and events, which mark places in them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from nbdl.backend.cupy.availability import require_device
from nbdl.backend.cupy.waiting import announce
from nbdl.backend.device import Device
from nbdl.cuda.devices import current_device, number_of


def _checked(caller: str, name: str, given: Any, kind: type) -> Any:
    if not isinstance(given, kind):
        raise TypeError(f"{caller}: {name} must be an nbdl.cuda.{kind.__name__}, got {type(given).__name__}")
    return given


class Event:
    """A mark in a stream.

    Args:
        enable_timing: whether :meth:`elapsed_time` is wanted.
        blocking: let :meth:`synchronize` sleep rather than spin.

    Raises:
        RuntimeError: there is no GPU.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False):
        self._cuda = require_device(None).cuda
        self._options = {"block": blocking, "disable_timing": not enable_timing}
        self._event: Any = None  # made where it is first recorded, which says of which device it is
        self._number = -1

    def _recorded(self, caller: str) -> Any:
        if self._event is None:
            raise RuntimeError(f"{caller}: both events must be recorded before calculating elapsed time")
        if self._options["disable_timing"]:
            raise RuntimeError(f"{caller}: both events must be made with enable_timing=True")
        return self._event

    def record(self, stream: Stream | None = None) -> None:
        """Mark what was given to a stream up to now; default: the current one.

        Raises:
            TypeError: it is no stream.
            RuntimeError: the event was recorded on another device before.
        """
        place = current_stream() if stream is None else _checked("Event.record", "stream", stream, Stream)
        if self._event is not None and self._number != place._number:
            raise RuntimeError(
                f"Event.record: the event belongs to cuda:{self._number}, the stream to {place.device}; make "
                "an event for each device"
            )
        with place._on_device():
            if self._event is None:
                self._event, self._number = self._cuda.Event(**self._options), place._number
            place._stream.record(self._event)

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream, by default the current one, do nothing further before this mark is reached.

        Raises:
            TypeError: it is no stream.
        """
        place = current_stream() if stream is None else _checked("Event.wait", "stream", stream, Stream)
        if self._event is not None:
            with place._on_device():
                place._stream.wait_event(self._event)

    def query(self) -> bool:
        """Whether the mark is reached."""
        return self._event is None or bool(self._event.done)

    def synchronize(self) -> None:
        """Wait until the mark is reached."""
        announce("Event.synchronize()")
        if self._event is not None:
            self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to a later one; both are reached, and made with ``enable_timing``.

        Raises:
            TypeError: it is no event.
            RuntimeError: an event was not recorded, is not reached yet, or does not measure.
        """
        caller = "Event.elapsed_time"
        end = _checked(caller, "end_event", end_event, Event)._recorded(caller)
        start = self._recorded(caller)
        if not (start.done and end.done):
            raise RuntimeError(f"{caller}: the GPU has not reached both events; call synchronize() first")
        return float(self._cuda.get_elapsed_time(start, end))


class Stream:
    """Work that is done in order, beside that of other streams; a ``with`` block of it gives it the work.

    Tensors that one stream makes and another one reads need an order, see :meth:`wait_stream`, and their
    memory must outlive the reader, see :meth:`nbdl.Tensor.record_stream`.

    Args:
        device: the GPU; default: the current one.
        priority: smaller numbers go first.

    Raises:
        RuntimeError: there is no such GPU.
    """

    def __init__(self, device: Any = None, priority: int = 0):
        number = number_of(device)
        cupy = require_device(number)
        with cupy.cuda.Device(number) as place:
            self._number = int(place.id)
            self._stream = cupy.cuda.Stream(non_blocking=True, priority=priority)
        self._blocks: list[stream] = []

    @classmethod
    def _of(cls, stream: Any, number: int) -> Stream:
        self = cls.__new__(cls)
        self._stream, self._number, self._blocks = stream, number, []
        return self

    def _on_device(self) -> Any:
        """A block in which the default stream, which every GPU has, is that of this one."""
        return require_device(None).cuda.Device(self._number)

    @property
    def device(self) -> Device:
        """The GPU."""
        return Device("cuda", self._number)

    @property
    def cuda_stream(self) -> int:
        """CUDA's handle."""
        return int(self._stream.ptr)

    def record_event(self, event: Event | None = None) -> Event:
        """Mark what was given to this stream up to now."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Do nothing further before a mark is reached."""
        _checked("Stream.wait_event", "event", event, Event).wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Do nothing further before all is done that another stream has now."""
        self.wait_event(_checked("Stream.wait_stream", "stream", stream, Stream).record_event())

    def query(self) -> bool:
        """Whether all is done."""
        with self._on_device():
            return bool(self._stream.done)

    def synchronize(self) -> None:
        """Wait until all is done."""
        announce("Stream.synchronize()")
        with self._on_device():
            self._stream.synchronize()

    def __enter__(self) -> Stream:
        self._blocks.append(stream(self))
        self._blocks[-1].__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.pop().__exit__(kind, error, trace)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self._number, self.cuda_stream) == (
            other._number,
            other.cuda_stream,
        )

    def __hash__(self) -> int:
        return hash((self._number, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<nbdl.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class stream:
    """Give the work of a ``with`` block to a stream, on its device; nothing for None.

    Args:
        stream: the stream.

    Raises:
        TypeError: it is no stream.
    """

    def __init__(self, stream: Stream | None):
        self.stream = None if stream is None else _checked("stream", "stream", stream, Stream)
        self._outer: list[tuple[Any, Any]] = []

    def __enter__(self) -> stream:
        if self.stream is not None:
            cupy = require_device(None)
            place = cupy.cuda.Device(self.stream._number)
            place.__enter__()
            self._outer.append((place, cupy.cuda.get_current_stream()))
            self.stream._stream.use()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stream is not None:
            place, outer = self._outer.pop()
            outer.use()
            place.__exit__(kind, error, trace)


def set_stream(stream: Stream | None) -> None:
    """Give all further work of this thread to a stream, on its device; nothing for None.

    Raises:
        TypeError: it is no stream.
    """
    if stream is not None:
        _checked("set_stream", "stream", stream, Stream)
        require_device(None).cuda.Device(stream._number).use()
        stream._stream.use()


def current_stream(device: Any = None) -> Stream:
    """The stream that work on a GPU is given to.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = number_of(device)
    cupy = require_device(number)
    with cupy.cuda.Device(number) as place:
        return Stream._of(cupy.cuda.get_current_stream(), int(place.id))


def default_stream(device: Any = None) -> Stream:
    """The stream that work on a GPU is given to where none is chosen.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = number_of(device)
    cupy = require_device(number)
    return Stream._of(cupy.cuda.Stream.null, current_device() if number is None else number)
