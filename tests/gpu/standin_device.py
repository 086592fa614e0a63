"""The device of the stand-in for CuPy: fenced memory, streams that work at once or are captured."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from gpu import emulator

DEVICES = 2
MEMORY_OF_A_DEVICE = 1 << 27

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Counters:
    """What happened since `reset`.

    Kernels and graphs launched, how often the host waited, the streams for which memory was shared.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.launches = self.graphs = self.synchronisations = 0
        self.shared_with: list[int | None] = []


counters = Counters()


# ---------------------------------------------------------------------------------------------- memory
class Memory:
    """Bytes that end at an unreadable page; what is between them and the pages is watched."""

    def __init__(self, size: int):
        self.device, self.pool = current_device(), pool
        span = -(-max(size, 1) // _PAGE) * _PAGE + 2 * _PAGE
        self._map = mmap.mmap(-1, span)
        everything = np.frombuffer(self._map, np.uint8)
        self._address = everything.ctypes.data
        everything[:] = 0xFF
        stop = span - _PAGE - -size % 16
        self._before, self.bytes = everything[_PAGE : stop - size], everything[stop - size : stop]
        self._after = everything[stop : span - _PAGE]
        _libc.mprotect(self._address, _PAGE, 0)
        _libc.mprotect(self._address + span - _PAGE, _PAGE, 0)

    def check(self) -> None:
        """Raise if something was written beside the bytes."""
        if not ((self._before == 0xFF).all() and (self._after == 0xFF).all()):
            raise emulator.KernelError(f"a kernel wrote outside its array of {self.bytes.size} bytes")

    @property
    def ptr(self) -> int:
        """Address of the first byte."""
        return self.bytes.ctypes.data


class MemoryPointer:
    """`cupy.cuda.MemoryPointer`."""

    def __init__(self, mem: Memory, offset: int):
        self.ptr, self.mem = mem.ptr + offset, mem

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)


class ForeignMemory:
    """Memory of another library: `cupy._core.dlpack.DLPackMemory`."""

    def __init__(self, host: np.ndarray, device: int):
        self.bytes, self.device, self.pool = host, device, pool
        self.ptr = host.ctypes.data

    def check(self) -> None:
        """Nothing is known of what is beside it."""


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`, with the text that CuPy gives it."""

    def __init__(self, size: int, total: int, limit: int = 0):
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(f"{text}, limit set to: {limit:,} bytes)." if limit else f"{text}).")


_pools: weakref.WeakSet[Any] = weakref.WeakSet()


def _taken() -> int:
    """Bytes of the current device in all pools."""
    return sum(pool.total_bytes() for pool in list(_pools))


class MemoryPool:
    """`cupy.cuda.MemoryPool`: counts blocks of 512 bytes by device, and keeps freed ones."""

    def __init__(self) -> None:
        self.was_trimmed = False
        _pools.add(self)
        self._used = [0] * DEVICES
        self._kept = [0] * DEVICES
        self._limits = [0] * DEVICES

    def malloc(self, size: int) -> MemoryPointer:
        if self is pool and is_capturing():
            raise CUDARuntimeError("memory of the default pool is allocated while a stream is captured")
        device, rounded = current_device(), -(-size // 512) * 512
        self._take(device, rounded)
        memory = Memory(size)
        memory.pool = self
        weakref.finalize(memory, self._freed, device, rounded)
        return MemoryPointer(memory, 0)

    def _take(self, device: int, size: int) -> None:
        total = self.total_bytes()
        if self._kept[device] >= size:
            self._kept[device] -= size
        elif self._limits[device] and total + size > self._limits[device]:
            raise OutOfMemoryError(size, total, self._limits[device])
        elif _taken() + size > MEMORY_OF_A_DEVICE:
            raise OutOfMemoryError(size, total)
        self._used[device] += size

    def _freed(self, device: int, size: int) -> None:
        self._used[device] -= size
        self._kept[device] += size

    def used_bytes(self) -> int:
        return self._used[current_device()]

    def free_bytes(self) -> int:
        return self._kept[current_device()]

    def total_bytes(self) -> int:
        return self.used_bytes() + self.free_bytes()

    def n_free_blocks(self) -> int:
        return int(self.free_bytes() > 0)

    def free_all_blocks(self, stream: Any = None) -> None:
        self._kept[current_device()] = 0
        self.was_trimmed = True

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if fraction is not None:
            size = int(fraction * MEMORY_OF_A_DEVICE)
        self._limits[current_device()] = size or 0

    def get_limit(self) -> int:
        return self._limits[current_device()]


# ---------------------------------------------------------------------------------- devices, streams, events
_current = threading.local()


def current_device() -> int:
    return getattr(_current, "device", 0)


pool = MemoryPool()


def allocate(size: int) -> Memory:
    """Memory of the allocator in force."""
    return getattr(_current, "allocator", pool.malloc)(size).mem


@contextlib.contextmanager
def using_allocator(allocator: Callable[[int], MemoryPointer] | None = None) -> Iterator[None]:
    """`cupy.cuda.using_allocator`."""
    outer = getattr(_current, "allocator", pool.malloc)
    _current.allocator = pool.malloc if allocator is None else allocator
    try:
        yield
    finally:
        _current.allocator = outer


class Device:
    """`cupy.cuda.Device`; there are two."""

    def __init__(self, device: int | None = None):
        device = current_device() if device is None else int(device)
        if not 0 <= device < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = device
        self._outer: list[int] = []

    def use(self) -> None:
        _current.device = self.id

    def __enter__(self) -> Device:
        self._outer.append(current_device())
        self.use()
        return self

    def __exit__(self, *exc_info: object) -> None:
        _current.device = self._outer.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def synchronize(self) -> None:
        wait("Device.synchronize()")

    @property
    def mem_info(self) -> tuple[int, int]:
        with self:
            return MEMORY_OF_A_DEVICE - _taken(), MEMORY_OF_A_DEVICE

    @property
    def compute_capability(self) -> str:
        return "90"


class Event:
    """`cupy.cuda.Event`: work is done when it is issued, so an event is a time."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.has_timing, self.time, self.device = not disable_timing, None, current_device()
        self.ptr = id(self)

    def record(self, stream: Stream | None = None) -> None:
        stream = get_current_stream() if stream is None else stream
        if self.device != (current_device() if stream.is_null else stream.device_id):
            raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle", 400)
        self.time = time.perf_counter()

    @property
    def done(self) -> bool:
        return True

    def synchronize(self) -> None:
        wait("Event.synchronize()")


def get_elapsed_time(start: Event, end: Event) -> float:
    if start.time is None or end.time is None or not (start.has_timing and end.has_timing):
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return 1e3 * (end.time - start.time)


# --------------------------------------------------------------------------------------------------- capture
def is_capturing() -> bool:
    """Whether what is issued now is captured."""
    return get_current_stream().operations is not None


def wait(what: str) -> None:
    """The host waits for the device."""
    if is_capturing():
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while the stream is captured", 900)
    counters.synchronisations += 1


def issue(run: Callable[[], None], memories: Iterable[Memory]) -> None:
    """Do work now, or note it where the current stream is captured."""
    operations = get_current_stream().operations
    if operations is None:
        run()
    else:
        operations.append((run, [(weakref.ref(memory), weakref.ref(memory.pool)) for memory in memories]))


class Graph:
    """`cupy.cuda.Graph`: owns no memory, so what it works on must be kept, or the pool that it came from."""

    def __init__(self, operations: list[Any]):
        self._operations = operations

    def launch(self, stream: Stream | None = None) -> None:
        counters.graphs += 1
        for run, memories in self._operations:
            for memory, owner in memories:
                if memory() is None and (owner() in (None, pool) or owner().was_trimmed):
                    raise CUDARuntimeError("a graph is launched whose memory was freed; keep arrays or pool")
            run()

    def upload(self, stream: Stream | None = None) -> None:
        pass


class Stream:
    """`cupy.cuda.Stream`; work is done when it is issued, or noted while the stream is captured."""

    null: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ):
        self.is_null, self.device_id = null, -1 if null else current_device()
        self.ptr = 0 if null else id(self)
        self.operations: list[Any] | None = None
        self._outer: list[Stream] = []

    def begin_capture(self, mode: int | None = None) -> None:
        if self.is_null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.operations is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed", 401)
        self.operations = []

    def end_capture(self) -> Graph:
        operations, self.operations = self.operations, None
        if operations is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed", 401)
        return Graph(operations)

    def is_capturing(self) -> bool:
        return self.operations is not None

    def use(self) -> Stream:
        _streams()[current_device()] = self
        return self

    def __enter__(self) -> Stream:
        self._outer.append(get_current_stream())
        return self.use()

    def __exit__(self, *exc_info: object) -> None:
        self._outer.pop().use()

    def synchronize(self) -> None:
        wait("Stream.synchronize()")

    @property
    def done(self) -> bool:
        return True

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if not isinstance(event, Event):
            raise TypeError(f"expected an Event, got {type(event).__name__}")


Stream.null = Stream(null=True)


def _streams() -> dict[int, Stream]:
    if not hasattr(_current, "streams"):
        _current.streams = {}
    return _current.streams


def get_current_stream(device_id: int = -1) -> Stream:
    return _streams().get(current_device() if device_id == -1 else device_id, Stream.null)


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`.

    Attributes:
        status: CUDA's number of the error.
    """

    def __init__(self, message: str, status: int = 101):
        super().__init__(message)
        self.status = status
