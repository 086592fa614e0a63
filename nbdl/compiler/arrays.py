"""Windows as arrays: the memory of a program, and views of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.compiler.addresses import address_of, extent_of
from nbdl.compiler.memory import ALIGNMENT, Layout
from nbdl.compiler.program import CAPTURED, INPUT, OUTPUT, TEMPORARY, Buffer, Window


class _Memory:
    """Bytes at an address, for ``numpy.asarray``; keeps their owner alive."""

    def __init__(self, owner: Any, address: int, shape: tuple[int, ...], strides: tuple[int, ...], item: int):
        self.base = owner
        self.__array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "strides": strides,
            "typestr": f"|V{item}",
            "version": 3,
        }


def view_at(owner: Any, address: int, window: Window) -> Any:
    """The elements of ``window`` in the memory of ``owner``, the window's buffer beginning at ``address``."""
    place = address + window.offset
    if not isinstance(owner, np.ndarray):
        pointer = owner.data + (place - owner.data.ptr)  # keeps the memory alive
        return type(owner)(window.shape, window.dtype, pointer, strides=window.strides)
    memory = _Memory(owner, place, window.shape, window.strides, window.dtype.itemsize)
    return np.asarray(memory).view(window.dtype)


class Memory:
    """The memory of a program between its calls, and in one call.

    Args:
        layout: where the temporaries lie.
        xp: numpy or cupy.
    """

    def __init__(self, layout: Layout, xp: Any):
        self._xp, self._layout = xp, layout
        self._arena = xp.empty(layout.size + ALIGNMENT, np.uint8)
        self._start = -(-address_of(self._arena) // ALIGNMENT) * ALIGNMENT
        self._aside: dict[Buffer, np.ndarray] = {}
        self._views: dict[tuple, Any] = {}
        self._samples: dict[Buffer, Any] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the arena."""
        return self._layout.size

    def array(self, window: Window) -> Any:
        """The array of a window.

        Windows on the same elements give the same array. Of inputs and outputs it is one like those that the
        calls will bring, good for making plans.
        """
        owner, address = self._home(window.buffer)
        key = (address + window.offset, window.shape, window.strides, window.dtype)
        if key not in self._views:
            self._views[key] = view_at(owner, address, window)
        return self._views[key]

    def forget_samples(self) -> None:
        """Let go of the arrays that stood for inputs and outputs."""
        self._samples.clear()
        self._views.clear()

    def _home(self, buffer: Buffer) -> tuple[Any, int]:
        if buffer.kind == TEMPORARY and buffer not in self._layout.offsets:
            numbers = self._aside.setdefault(buffer, np.empty(max(1, buffer.nbytes), np.uint8))
            return numbers, address_of(numbers)
        if buffer.kind == TEMPORARY:
            return self._arena, self._start + self._layout.offsets[buffer]
        if buffer.kind == OUTPUT:
            if buffer not in self._samples:
                self._samples[buffer] = self.new(buffer)
            sample = self._samples[buffer]
            return sample, address_of(sample)
        assert buffer.kind in (CAPTURED, INPUT)
        return buffer.array, extent_of(buffer.array)[0]

    def new(self, buffer: Buffer) -> Any:
        """Fresh memory for a result."""
        return (np if buffer.on_host else self._xp).empty(buffer.nbytes, np.uint8)
