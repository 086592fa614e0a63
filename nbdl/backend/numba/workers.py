"""The threads that compute beside the calling one: POSIX threads that run `nbdl.kernels.cpu.workers.work`.

Python knows nothing of them, and they know nothing of Python.
"""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np

from nbdl.backend.numba.compiler import Signature, compile_kernel
from nbdl.kernels.cpu import placement
from nbdl.kernels.cpu import workers as kernel

__all__ = ["Workers"]

_FUNCTIONS = {
    kernel.WAIT: "sem_wait",
    kernel.POST: "sem_post",
    kernel.YIELD: "sched_yield",
    kernel.CLOCK_TIME: "clock_gettime",
    kernel.NAP: "nanosleep",
}
_ROUTINE = Signature(arguments=1, returns=True)
_CACHE_LINE = 64


class Workers:
    """All threads of a region but the calling one.

    Args:
        threads: how many compute, with the calling one.

    Attributes:
        address: of the pool's words.

    Raises:
        OSError: this system has no such threads, or has no more.
    """

    def __init__(self, threads: int):
        words = kernel.SHARES + kernel.LINE * threads
        self._memory = np.zeros(8 * words + _CACHE_LINE, np.uint8)
        self.address = self._memory.ctypes.data + -self._memory.ctypes.data % _CACHE_LINE
        functions = [_address(name) for name in placement.FUNCTIONS]
        self._placement = np.array([*functions, placement.NEVER], np.int64)
        self._fill()
        self._threads: list[ctypes.c_ulong] = []
        self._places = np.zeros((threads, kernel.PLACE_WORDS), np.int64)
        self._places[:, kernel.PLACE_POOL] = self.address
        self._places[:, kernel.PLACE_SHARE] = np.arange(threads)
        routine = compile_kernel("work", lambda: kernel.work, "workers.work", signature=_ROUTINE)
        try:
            for place in self._places[1:]:
                self._start(routine, place.ctypes.data)
        except OSError:
            self.retire()
            raise

    def retire(self) -> None:
        """Has the threads end, and waits until they have."""
        retire = compile_kernel("retire", lambda: kernel.retire, "workers.retire", signature=_ROUTINE)
        ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(retire)(self.address)
        for thread in self._threads:
            _library().pthread_join(thread, None)
        self._threads.clear()

    def _fill(self) -> None:
        offset = self.address - self._memory.ctypes.data
        words = self._memory[offset : offset + 8 * kernel.SHARES].view(np.int64)
        for word, name in _FUNCTIONS.items():
            words[word] = _address(name)
        words[kernel.CLOCK] = time.CLOCK_MONOTONIC
        words[kernel.PLACES] = self._placement.ctypes.data if self._placement.all() else 0
        if _library().sem_init(ctypes.c_void_p(self.address + 8 * kernel.SEMAPHORE), 0, 0):
            raise OSError("Workers: this system has no semaphores without names")

    def _start(self, routine: int, place: int) -> None:
        thread = ctypes.c_ulong()
        error = _library().pthread_create(
            ctypes.byref(thread), None, ctypes.c_void_p(routine), ctypes.c_void_p(place)
        )
        if error:
            raise OSError(error, "Workers: no thread could be started")
        self._threads.append(thread)


def _address(name: str) -> int:
    """Of a function of the C library; 0 if it has none of this name."""
    function = getattr(_library(), name, None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


def _library() -> ctypes.CDLL:
    if os.name != "posix":
        raise OSError(f"Workers: expected a POSIX system, got {os.name}")
    return ctypes.CDLL(None)
