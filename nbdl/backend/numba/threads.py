"""The thread pool of the CPU kernels: POSIX threads of our own, and no other.

It starts when the first plan with more than one task is made. Where the system has no such threads, or where
`NUMBA_THREADING_LAYER` names a pool of Numba's, it is that one: OpenMP is preferred, since it opens a
parallel region in a few microseconds, then TBB; the workqueue that is left is slow and aborts when two
threads enter it at once. Numba's pools wait for every thread, also for one that another process keeps from
its core.

A process that was forked computes in one thread, since the others do not exist in the child, and GNU OpenMP
would end it. Start worker processes by `spawn` or `forkserver` where they should compute in parallel.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from operator import index
from pathlib import Path

import llvmlite.binding as llvm
import numba

from nbdl import config
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.native import state
from nbdl.backend.numba.workers import Workers
from nbdl.kernels.cpu import launcher

__all__ = ["get_num_threads", "on_change", "set_num_threads", "start", "threading_layer"]

_log = logging.getLogger("nbdl")
_NUMBA_PRIORITY = ["tbb", "omp", "workqueue"]
_PRIORITY = ["omp", "tbb", "workqueue"]
_OURS = "posix"
_SYMBOLS = {
    launcher.STATE_GET_NUM_THREADS: "get_num_threads",
    launcher.STATE_SET_NUM_THREADS: "set_num_threads",
    launcher.STATE_PARALLEL_FOR: "numba_parallel_for",
}


class _Pool:
    """What this process knows of its thread pool."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.threads: int | None = None
        self.layer: str | None = None
        self.workers: Workers | None = None
        self.workers_for = 0
        self.forked = False
        self.listeners: list[Callable[[], None]] = []


_pool = _Pool()


def on_change(listener: Callable[[], None]) -> None:
    """Calls `listener` whenever the number of threads changes, or another setting on which plans depend."""
    _pool.listeners.append(listener)


def forget_plans() -> None:
    """Tells the listeners that a setting has changed: all plans are made anew."""
    for listener in _pool.listeners:
        listener()


def get_num_threads() -> int:
    """Threads that a kernel may be split over: as set, else `nbdl.config.num_threads()`; 1 after a fork."""
    if _pool.forked:
        return 1
    if _pool.threads is None:
        _pool.threads = config.num_threads()
    return _pool.threads


def set_num_threads(threads: int) -> None:
    """Sets the number of threads that a kernel may be split over; all plans are made anew.

    Raises:
        TypeError: `threads` is not an integer.
        ValueError: `threads` is less than 1.
    """
    count = index(threads)
    if count < 1:
        raise ValueError(f"set_num_threads: threads must be 1 or more, got {count}")
    with _pool.lock:
        _pool.threads = count
        _publish()
    forget_plans()


def threading_layer() -> str:
    """`posix`, or the name of Numba's layer (`omp`, `tbb`, `workqueue`); `none` in a forked process."""
    start()
    return "none" if _pool.forked or _pool.layer is None else _pool.layer


def start() -> None:
    """Starts the pool, if this has not happened yet."""
    if _pool.layer is not None or _pool.forked:
        return
    with _pool.lock:
        if _pool.layer is None:
            _pool.layer = _OURS if _starts_ours() else _start_numba()
            _publish()
            _log.debug("threading layer %s, %d threads", _pool.layer, get_num_threads())


def _starts_ours() -> bool:
    """Whether the pool is ours; its threads run then."""
    if numba.config.THREADING_LAYER != "default":
        return False
    try:
        _hire(get_num_threads())
    except OSError as error:
        _log.info("no threads of our own: %s", error)
        return False
    return True


def _hire(threads: int) -> None:
    """Has so many threads compute, with the calling one."""
    if threads == _pool.workers_for:
        return
    _dismiss()
    if threads > 1:
        _pool.workers = Workers(threads)
    _pool.workers_for = threads


def _dismiss() -> None:
    """Ends our threads. Their code must not go before them, so this happens before the process ends, too."""
    workers, _pool.workers, _pool.workers_for = _pool.workers, None, 0
    state()[launcher.STATE_WORKERS] = 0
    if workers is not None and not _pool.forked:
        workers.retire()


atexit.register(_dismiss)


def _start_numba() -> str:
    # OpenMP reads these when it is loaded. Threads that spin for long wait for each other when another
    # program takes a core (a region of 5 us took 11 ms); threads that sleep at once need 50 us to wake on an
    # idle machine. A short spin (30 us) bridges the gaps between the calls of a program: 1 us a region, 70 us
    # on a busy machine.
    config.set_environment_default("OMP_WAIT_POLICY", "PASSIVE")
    config.set_environment_default("GOMP_SPINCOUNT", "1000")
    if numba.config.THREADING_LAYER == "default" and numba.config.THREADING_LAYER_PRIORITY == _NUMBA_PRIORITY:
        numba.config.THREADING_LAYER_PRIORITY = _PRIORITY
    _load_tbb()
    numba.get_num_threads()  # starts the threads
    state()[launcher.STATE_REGION] = compile_kernel("region", lambda: launcher.region, "launcher.region")
    layer = numba.threading_layer()
    if layer == "workqueue":
        warnings.warn(
            "Numba found neither OpenMP nor TBB, so kernels use its workqueue: small ones run slower, and the"
            " process ends if other code enters the workqueue from another thread. Remedy: pip install tbb",
            RuntimeWarning,
            stacklevel=2,
        )
    return layer


def _load_tbb() -> None:
    """Load the TBB of ``pip install tbb``, which lies where the system's loader does not look."""
    for path in sorted(Path(sys.prefix, "lib").glob("libtbb.so.12*")):
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            _log.debug("%s cannot be loaded: %s", path, error)
        else:
            return


def _publish() -> None:
    """Tells the entry points the pool's address and the number of threads."""
    words = state()
    started = _pool.layer is not None and not _pool.forked
    threads = get_num_threads()
    if _pool.layer == "workqueue":
        threads = min(threads, numba.config.NUMBA_NUM_THREADS)
    if _pool.layer == _OURS and started:
        _hire(threads)
    words[launcher.STATE_THREADS] = threads
    words[launcher.STATE_WORKERS] = _pool.workers.address if started and _pool.workers is not None else 0
    for word, symbol in _SYMBOLS.items():
        words[word] = llvm.address_of_symbol(symbol) if started and _pool.layer != _OURS else 0


def _after_fork() -> None:
    _pool.lock = threading.RLock()
    _pool.forked = True
    if _pool.layer is not None:
        _publish()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
