"""Streams, whose work is done one after another, and events, which mark places in them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from nbdl.backend.cupy.availability import require_device
from nbdl.backend.cupy.waiting import announce
from nbdl.backend.device import Device
from nbdl.cuda.devices import current_device, number_of


class Event:
    """A mark in a stream.

    Args:
        enable_timing: whether :meth:`elapsed_time` is wanted.
        blocking: let :meth:`synchronize` sleep rather than spin.

    Raises:
        RuntimeError: there is no GPU.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False):
        made = require_device(None).cuda.Event(block=blocking, disable_timing=not enable_timing)
        self._event = made

    def record(self, stream: Stream | None = None) -> None:
        """Mark what was given to a stream up to now; default: the current one."""
        (current_stream() if stream is None else stream)._stream.record(self._event)

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream, by default the current one, do nothing further before this mark is reached."""
        (current_stream() if stream is None else stream)._stream.wait_event(self._event)

    def query(self) -> bool:
        """Whether the mark is reached."""
        return bool(self._event.done)

    def synchronize(self) -> None:
        """Wait until the mark is reached."""
        announce("Event.synchronize()")
        self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to a later one; both are reached, and made with ``enable_timing``."""
        return float(require_device(None).cuda.get_elapsed_time(self._event, end_event._event))


class Stream:
    """Work that is done in order, beside that of other streams.

    Tensors that one stream makes and another one reads need an order: see :meth:`wait_stream`.

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
        self._outer: list[Any] = []

    @classmethod
    def _of(cls, stream: Any, number: int) -> Stream:
        self = cls.__new__(cls)
        self._stream, self._number, self._outer = stream, number, []
        return self

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
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Do nothing further before all is done that another stream has now."""
        self.wait_event(stream.record_event())

    def query(self) -> bool:
        """Whether all is done."""
        return bool(self._stream.done)

    def synchronize(self) -> None:
        """Wait until all is done."""
        announce("Stream.synchronize()")
        self._stream.synchronize()

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
    """

    def __init__(self, stream: Stream | None):
        self.stream = stream
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
    """Give all further work of this thread to a stream, on its device; nothing for None."""
    if stream is not None:
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
