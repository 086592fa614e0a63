"""Threads that help another one leave its processor: what is asked of the system, and when."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbdl.backend.numba import native, threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.kernels.cpu import launcher, placement
from nbdl.kernels.cpu.memory import load_int64, store_int64

_Mask = ctypes.c_uint64 * placement.MASK_WORDS
_INT, _POINTER = ctypes.c_int, ctypes.c_void_p


class System:
    """Stands in for the C library: threads that may use the processors `allowed`."""

    def __init__(self, cpu: int, allowed: set[int]) -> None:
        self.cpu, self.allowed, self.now, self.wait = cpu, set(allowed), 10**12, 0
        self.asked: list[set[int]] = []
        self._functions = (
            ctypes.CFUNCTYPE(_INT)(lambda: self.cpu),
            ctypes.CFUNCTYPE(_INT, _INT, ctypes.c_size_t, _POINTER)(self._get),
            ctypes.CFUNCTYPE(_INT, _INT, ctypes.c_size_t, _POINTER)(self._set),
            ctypes.CFUNCTYPE(_INT, _INT, _POINTER)(self._time),
        )
        self._places = np.zeros(placement.PLACES_WORDS, np.int64)
        self._places[: len(self._functions)] = [ctypes.cast(f, _POINTER).value for f in self._functions]

    def _get(self, thread: int, size: int, address: int) -> int:
        mask = _Mask.from_address(address)
        for k in range(len(mask)):
            mask[k] = sum(1 << cpu % 64 for cpu in self.allowed if cpu // 64 == k)
        return 0 if size == ctypes.sizeof(_Mask) else -1

    def _set(self, thread: int, size: int, address: int) -> int:
        words = enumerate(_Mask.from_address(address))
        self.asked.append({64 * k + bit for k, word in words for bit in range(64) if word >> bit & 1})
        self.now += self.wait
        return 0 if self.asked[-1] else -1

    def _time(self, clock: int, address: int) -> int:
        seconds_and_nanoseconds = (ctypes.c_int64 * 2).from_address(address)
        seconds_and_nanoseconds[:] = divmod(self.now, 10**9)
        return 0

    def leave(self, cpu: int, late: int = 0) -> bool:
        """What `placement.leave` answers to a thread that helps one on `cpu`, so long after it was called."""
        return call_leave(self._places.ctypes.data, cpu, self.now - late)

    def pause(self) -> int:
        """How long it takes from now on until a thread leaves processor 0 again, to the millisecond."""
        self.cpu, start = 0, self.now
        while not self.leave(0):
            self.now += 10**6
        return (self.now - start) // 10**6


def call_leave(places: int, cpu: int, called: int) -> bool:
    words = np.array([places, cpu, called, -1])
    kernel = compile_kernel("test_leave", make_leave, "tests leave")
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(kernel)(words.ctypes.data, 0, 1, 0)
    return bool(words[3])


def make_leave() -> Callable[..., Any]:
    def leave(args, lo, hi, task):
        left = placement.leave(load_int64(args, 0), load_int64(args, 1), load_int64(args, 2))
        store_int64(args, 3, left)

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
    assert [system.pause(), len(system.asked)] == [4, 4]


def test_who_comes_late_from_elsewhere_stops_it_for_a_while():
    system = System(1, {0, 1})
    assert not system.leave(0, late=2 * placement.LATE)
    assert system.pause() == 8
    system = System(1, {0, 1})
    assert not system.leave(0, late=placement.LATE)
    assert system.pause() == 0


def test_who_waits_for_the_other_processor_stops_it_for_a_while():
    system = System(0, {0, 1})
    system.wait = 2 * placement.LATE
    assert system.leave(0)
    system.wait = 0
    assert system.pause() == 8


def test_pauses_become_longer_where_others_stay_busy():
    system, lengths = System(0, {0, 1}), []
    for _ in range(14):
        system.cpu = 1
        assert not system.leave(0, late=2 * placement.LATE)
        lengths.append(system.pause())
        system.now += placement.SHORTEST_PAUSE
    assert lengths[:4] == [8, 16, 32, 64]
    assert lengths[-1] * 10**6 == placement.LONGEST_PAUSE
    system.now += 2 * placement.LONGEST_PAUSE
    system.cpu = 1
    assert not system.leave(0, late=2 * placement.LATE)
    assert system.pause() == 8


@pytest.mark.skipif(sys.platform != "linux", reason="the functions are Linux's")
def test_the_pool_knows_the_places():
    knows = threads.threading_layer() == "omp" and all(threads._places()[: len(placement.FUNCTIONS)])
    assert bool(native.state()[launcher.STATE_PLACES]) == knows
    if knows:
        before = os.sched_getaffinity(0)
        for cpu in before:
            call_leave(int(native.state()[launcher.STATE_PLACES]), cpu, 0)
        assert os.sched_getaffinity(0) == before
