"""Making arrays on a device that is named, and saying what was missing where its memory is full."""

from __future__ import annotations

import functools
import re
import weakref
from typing import Any

import numpy as np

from nbdl.backend.cupy.lending import collect


class OutOfMemoryError(RuntimeError):
    """There was no memory left on the GPU; what was computed before is there, and the program may go on."""


class PrivatePool:
    """A memory pool of a program, whose graphs work in it: what is free in it is theirs, too.

    A limit of the default pool leaves it what tensors and other programs do not take when it is made.

    Args:
        cupy: the module.
    """

    def __init__(self, cupy: Any):
        self._pool, default = cupy.cuda.MemoryPool(), cupy.get_default_memory_pool()
        if limit := default.get_limit():
            self._pool.set_limit(size=max(1, limit - default.used_bytes() - private_bytes()))
        self.malloc = self._pool.malloc
        _private.add(self)

    def total_bytes(self) -> int:
        """What it holds of the current device."""
        return int(self._pool.total_bytes())


_private: weakref.WeakSet[PrivatePool] = weakref.WeakSet()


def private_bytes() -> int:
    """What the pools of all programs hold of the current device."""
    return sum([pool.total_bytes() for pool in list(_private)])


def out_of_memory(cupy: Any, what: str, error: str) -> OutOfMemoryError:
    """The error for full memory: who asked for how much, and where the rest is.

    Args:
        cupy: the module.
        what: was computed.
        error: the text of CuPy's error.
    """
    collect()
    asked = re.search(r"allocating ([\d,]+) bytes", error)
    device, pool = cupy.cuda.Device(), cupy.get_default_memory_pool()
    used, kept, programs = pool.used_bytes(), pool.free_bytes(), private_bytes()
    pool.free_all_blocks()
    free, total = device.mem_info
    limit = pool.get_limit()
    wanted = _size(int(asked[1].replace(",", "")) if asked else None)
    text = (
        f"{what}: CUDA out of memory. Tried to allocate {wanted} on cuda:{device.id}, which has "
        f"{_size(total)}, of which {_size(free)} are free. This program's tensors take {_size(used)}, and "
        f"{_size(kept)} were kept for coming ones"
    )
    if programs:
        text += f"; compiled programs hold {_size(programs)}"
    if limit:
        text += f"; it may take {_size(limit)} (nbdl.cuda.set_per_process_memory_fraction)"
    return OutOfMemoryError(
        text + ". Take smaller batches, run under no_grad() what needs no gradients, or drop tensors."
    )


def _size(count: int | None) -> str:
    if count is None:
        return "an unknown number of bytes"
    for unit, bytes_of in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_of:
            return f"{count / bytes_of:.2f} {unit}"
    return f"{count} bytes"


class Placed:
    """The functions of ``cupy``, run on one device.

    Args:
        cupy: the module.
        index: number of the device; None for the current one.

    Attributes:
        index: the same.
    """

    def __init__(self, cupy: Any, index: int | None):
        self._cupy, self.index = cupy, index

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cupy, name)
        if not callable(value) or isinstance(value, type):
            return value
        return functools.partial(self._call, name, value)

    def _call(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        with self._cupy.cuda.Device(self.index):
            try:
                return function(*args, **kwargs)
            except MemoryError as error:
                text = str(error)
            raise out_of_memory(self._cupy, name, text)


def target(xp: Any, out: Any, shape: tuple[int, ...], dtype: np.dtype, *operands: Any) -> Any:
    """Where a kernel writes its result: to ``out`` at once, if that is row-major and apart from the operands.

    Args:
        xp: the module ``cupy``.
        out: receives the result in the end; None if nothing is given.
        shape: of the result.
        dtype: of the result.
        operands: what the kernel reads.
    """
    fits = out is not None and out.flags.c_contiguous and out.shape == shape and out.dtype == dtype
    return out if fits and not any(overlap(x, out) for x in operands) else xp.empty(shape, dtype)


def overlap(x: Any, y: Any) -> bool:
    """Whether the ranges of memory that two arrays lie in overlap; a number on the host overlaps nothing."""
    if isinstance(x, np.ndarray) or not x.size or not y.size:
        return False
    (first, end), (other_first, other_end) = _byte_bounds(x), _byte_bounds(y)
    return first < other_end and other_first < end


def _byte_bounds(array: Any) -> tuple[int, int]:
    """Addresses of the first byte and of the one after the last."""
    first = last = array.data.ptr
    for n, stride in zip(array.shape, array.strides, strict=True):
        first += min(0, (n - 1) * stride)
        last += max(0, (n - 1) * stride)
    return first, last + array.itemsize
