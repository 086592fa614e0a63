"""Memory for large temporaries, kept for the next one.

The C library gives large blocks back to the system when they are freed, and the system clears every page of
the next one: writing a fresh array of 64 MB takes two to three times as long as writing one that was used
before, and chains of operations on arrays of 1 MB take ten times as long. Arrays of this module return their
memory to a list instead when the last view of them is gone.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = [
    "MIN_BYTES",
    "MemoryPool",
    "PoolStatistics",
    "allocator",
    "clear",
    "default_pool",
    "empty",
    "keeps",
    "limited",
    "set_limit",
    "statistics",
]

MIN_BYTES = 1 << 20
"""Smaller arrays come from NumPy."""

_ALIGNMENT = 64
_MAX_KEPT_BYTES = 1 << 30
_STEPS_PER_OCTAVE = 8


class _Block(NamedTuple):
    """Memory that is lent out as a whole: `size` bytes from an aligned `address`."""

    memory: NDArray[np.uint8]
    address: int
    size: int


class PoolStatistics(NamedTuple):
    """What a pool has done.

    Attributes:
        hits: Arrays that got used memory.
        misses: Arrays that needed new memory.
        idle_bytes: Bytes kept for coming arrays.
        idle_blocks: In how many blocks.
    """

    hits: int
    misses: int
    idle_bytes: int
    idle_blocks: int


class MemoryPool:
    """Idle blocks of memory by size; the oldest are freed when they exceed the limit. Safe for threads.

    Args:
        limit: Bytes that may be kept idle.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._idle: dict[int, deque[tuple[int, _Block]]] = {}
        self._idle_bytes = 0
        self._clock = count()
        self._returned: deque[_Block] = deque()
        self._hits = self._misses = 0

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Returns an uninitialised array in C order, like `numpy.empty`, whose memory comes from the pool.

        The memory returns to the pool when the array and all views of it are gone. Arrays smaller than
        `MIN_BYTES` and arrays of objects come from NumPy.

        Raises:
            MemoryError: There is not enough memory.
        """
        return self.allocator(shape, dtype)()

    def allocator(self, shape: tuple[int, ...], dtype: DTypeLike) -> Callable[[], NDArray[Any]]:
        """Returns a function that does `empty(shape, dtype)`, for shapes that are wanted often."""
        dtype = np.dtype(dtype)
        if not keeps(shape, dtype):
            return partial(np.empty, shape, dtype)
        size = _size_class(math.prod(shape) * dtype.itemsize)
        # The interface has no name for dtypes of other packages (bfloat16): arrays of bytes, seen anew
        typestr = dtype.str if dtype.isbuiltin == 1 else f"|V{dtype.itemsize}"

        def allocate() -> NDArray[Any]:
            block = self._take(size)
            if block is None:
                block = _new_block(size)
            array = np.asarray(_Lease(self, block, shape, typestr))
            return array if array.dtype is dtype else array.view(dtype)

        return allocate

    def clear(self) -> None:
        """Frees all idle memory."""
        with self._lock:
            self._sort_in_returned()
            self._idle.clear()
            self._idle_bytes = 0

    def set_limit(self, limit: int) -> None:
        """Sets how many bytes may be kept idle; frees what exceeds it.

        Raises:
            ValueError: `limit` is negative.
        """
        if limit < 0:
            raise ValueError(f"set_limit: limit must not be negative, got {limit}")
        with self._lock:
            self._limit = limit
            self._sort_in_returned()

    @contextmanager
    def limited(self, limit: int) -> Iterator[None]:
        """Another limit within a `with` block, for all threads."""
        before = self._limit
        self.set_limit(limit)
        try:
            yield
        finally:
            self.set_limit(before)

    def statistics(self) -> PoolStatistics:
        """Returns the counts so far."""
        with self._lock:
            self._sort_in_returned()
            blocks = sum(len(same_size) for same_size in self._idle.values())
            return PoolStatistics(self._hits, self._misses, self._idle_bytes, blocks)

    def _take(self, size: int) -> _Block | None:
        with self._lock:
            self._sort_in_returned()
            same_size = self._idle.get(size)
            if not same_size:
                self._misses += 1
                return None
            self._hits += 1
            self._idle_bytes -= size
            return same_size.pop()[1]

    def _give_back(self, block: _Block) -> None:
        # The garbage collector may call this anywhere, also in a thread that holds the lock: never wait for
        # it. Who holds it sorts the block in, now or the next time.
        self._returned.append(block)
        if self._lock.acquire(blocking=False):
            try:
                self._sort_in_returned()
            finally:
                self._lock.release()

    def _sort_in_returned(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._idle.setdefault(block.size, deque()).append((next(self._clock), block))
            self._idle_bytes += block.size
        while self._idle_bytes > self._limit:
            oldest = {queue[0][0]: size for size, queue in self._idle.items() if queue}
            size = oldest[min(oldest)]
            self._idle[size].popleft()
            self._idle_bytes -= size

    def renew_lock(self) -> None:
        """For a forked child, whose parent may have held the lock in another thread."""
        self._lock = threading.Lock()


class _Lease:
    """The base of the arrays in a block: it dies with the last of them and gives the block back."""

    __slots__ = ("__array_interface__", "_block", "_pool")

    def __init__(self, pool: MemoryPool, block: _Block, shape: tuple[int, ...], typestr: str) -> None:
        self._pool = pool
        self._block = block
        data = (block.address, False)
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": typestr, "data": data}

    def __del__(self) -> None:
        self._pool._give_back(self._block)


def _new_block(size: int) -> _Block:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    address = memory.ctypes.data
    return _Block(memory, address + -address % _ALIGNMENT, size)


def keeps(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this kind come from a pool, and not from NumPy."""
    return math.prod(shape) * dtype.itemsize >= MIN_BYTES and not dtype.hasobject


def _size_class(nbytes: int) -> int:
    """The next of eight sizes per power of two, so that at most an eighth of a block is unused."""
    step = max(1, (1 << (nbytes - 1).bit_length()) // (2 * _STEPS_PER_OCTAVE))
    return -(-nbytes // step) * step


def _default_limit() -> int:
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _MAX_KEPT_BYTES
    return min(_MAX_KEPT_BYTES, physical // 8)


default_pool = MemoryPool(_default_limit())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=default_pool.renew_lock)
allocator = default_pool.allocator
empty = default_pool.empty
limited = default_pool.limited
set_limit = default_pool.set_limit


def clear() -> None:
    """Frees all idle memory, and has the C library return what is free to the system (GNU's keeps much)."""
    default_pool.clear()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


statistics = default_pool.statistics
