"""Threads that help another one leave its processor: what is asked of the system, and when."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.workers import Workers
from nbdl.kernels.cpu import placement, workers
from nbdl.kernels.cpu.memory import load_int64, store_int64

_Mask = ctypes.c_uint64 * placement.MASK_WORDS
_INT, _POINTER = ctypes.c_int, ctypes.c_void_p


class System:
    """Stands in for the C library: threads that may use the processors `allowed`."""

    def __init__(self, cpu: int, allowed: set[int]) -> None:
        self.cpu, self.allowed, self.nanoseconds = cpu, set(allowed), 7
        self.asked: list[set[int]] = []
        self._functions = (
            ctypes.CFUNCTYPE(_INT)(lambda: self.cpu),
            ctypes.CFUNCTYPE(_INT, _INT, ctypes.c_size_t, _POINTER)(self._get),
            ctypes.CFUNCTYPE(_INT, _INT, ctypes.c_size_t, _POINTER)(self._set),
            ctypes.CFUNCTYPE(_INT, _INT, _POINTER)(self._time),
        )
        addresses = [ctypes.cast(f, _POINTER).value for f in self._functions]
        self._places = np.array([*addresses, placement.NEVER], np.int64)

    def _get(self, thread: int, size: int, address: int) -> int:
        mask = _Mask.from_address(address)
        for k in range(len(mask)):
            mask[k] = sum(1 << cpu % 64 for cpu in self.allowed if cpu // 64 == k)
        return 0 if size == ctypes.sizeof(_Mask) else -1

    def _set(self, thread: int, size: int, address: int) -> int:
        words = enumerate(_Mask.from_address(address))
        self.asked.append({64 * k + bit for k, word in words for bit in range(64) if word >> bit & 1})
        return 0 if self.asked[-1] else -1

    def _time(self, clock: int, address: int) -> int:
        seconds_and_nanoseconds = (ctypes.c_int64 * 2).from_address(address)
        seconds_and_nanoseconds[:] = 3, self.nanoseconds
        return 0

    def leave(self, cpu: int) -> bool:
        """What `placement.leave` answers to a thread that helps one on `cpu`."""
        return call_leave(self._places.ctypes.data, cpu)


def call_leave(places: int, cpu: int) -> bool:
    words = np.array([places, cpu, -1])
    kernel = compile_kernel("test_leave", make_leave, "tests leave")
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(kernel)(words.ctypes.data, 0, 1, 0)
    return bool(words[2])


def make_leave() -> Callable[..., Any]:
    def leave(args, lo, hi, task):
        store_int64(args, 2, placement.leave(load_int64(args, 0), load_int64(args, 1)))

    return leave


@pytest.mark.parametrize("cpu", [0, 3, 63, 64, 700])
def test_a_thread_leaves_and_may_come_back(cpu):
    system = System(cpu, {cpu, 1, 65})
    assert system.leave(cpu)
    assert system.asked == [{1, 65}, {cpu, 1, 65}]


def test_a_thread_elsewhere_stays():
    system = System(2, {0, 1, 2})
    assert not system.leave(1)
    assert system.asked == []


def test_a_thread_that_has_no_other_processor_stays():
    system = System(1, {1})
    assert not system.leave(1)
    assert system.asked == [set()]


def test_once_a_tick():
    system = System(0, {0, 1})
    assert [system.leave(0), system.leave(0)] == [True, False]
    system.nanoseconds += 1
    assert [system.leave(0), system.leave(0)] == [True, False]
    assert len(system.asked) == 4


def test_nothing_is_asked_where_the_system_does_not_tell():
    assert not call_leave(0, 0)
    assert not call_leave(0, -1)


@pytest.mark.skipif(sys.platform != "linux", reason="the functions are Linux's")
def test_a_thread_of_the_system_may_run_where_it_could():
    pool = Workers(2)
    try:
        places = ctypes.c_int64.from_address(pool.address + 8 * workers.PLACES).value
        before = os.sched_getaffinity(0)
        for cpu in before:
            call_leave(places, cpu)
        assert os.sched_getaffinity(0) == before
    finally:
        pool.retire()
