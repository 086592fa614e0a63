"""The device of the stand-in for CuPy: fenced memory, streams that work at once, and what is counted."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
from gpu import emulator

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Counters:
    """What happened since `reset`: kernels launched, and times that the host waited for the device."""

    launches = 0
    synchronisations = 0

    def reset(self) -> None:
        self.launches = self.synchronisations = 0


counters = Counters()


# ---------------------------------------------------------------------------------------------- memory
class Memory:
    """Bytes that end at an unreadable page; what is between them and the pages is watched."""

    def __init__(self, size: int):
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


class MemoryPointer:
    """`ndarray.data`."""

    def __init__(self, ptr: int, mem: Memory):
        self.ptr, self.mem = ptr, mem

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.ptr + offset, self.mem)


class Device:
    """`cupy.cuda.Device`; there is one."""

    def __init__(self, device: int = 0):
        if device != 0:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = device

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def synchronize(self) -> None:
        counters.synchronisations += 1


class Stream:
    """`cupy.cuda.Stream`; work is done when it is issued."""

    null: Stream
    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.is_null = null

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def synchronize(self) -> None:
        counters.synchronisations += 1


Stream.null = Stream(null=True)


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""
