"""Batches from one process to another: the bytes of arrays through shared memory, the rest through a pipe.

A sender keeps a few blocks of shared memory and writes the arrays of a message into one; the receiver copies
them out and returns the block with its next task. Blocks are used again, since fresh memory costs more (every
page of it is made at first touch) than the copy.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np

_ALIGNMENT = 64
_SMALL = 1 << 14  # below this a pipe is quicker
_SHARED_FOLDER = "/dev/shm"  # where Linux keeps shared memory; writing more than fits kills a process


class Message(NamedTuple):
    """A pickled object, and where the bytes of its arrays are.

    Attributes:
        pickled: the object without them.
        block: name of the block of shared memory; None if they are in ``buffers``.
        sizes: of the arrays in the block, in bytes; each begins at the next aligned place.
        buffers: the bytes themselves, if they are few, or shared memory is short.
    """

    pickled: bytes
    block: str | None
    sizes: list[int]
    buffers: list[bytes]


class Sender:
    """Packs objects; the blocks of shared memory belong to it."""

    def __init__(self) -> None:
        self._blocks: dict[str, SharedMemory] = {}
        self._free: list[str] = []

    def pack(self, value: Any) -> Message:
        """``value`` as a message."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        contents = [buffer.raw() for buffer in buffers]
        sizes = [content.nbytes for content in contents]
        total = sum(map(_aligned, sizes))
        block = self._block(total) if total > _SMALL else None
        if block is None:
            return Message(pickled, None, [], [bytes(content) for content in contents])
        position = 0
        for content, size in zip(contents, sizes, strict=True):
            block.buf[position : position + size] = content  # type: ignore[index]
            position += _aligned(size)
        return Message(pickled, block.name, sizes, [])

    def release(self, name: str) -> None:
        """The receiver has copied what was in a block."""
        self._free.append(name)

    def close(self) -> None:
        """Give all blocks back."""
        for block in self._blocks.values():
            _discard(block)
        self._blocks.clear()
        self._free.clear()

    def _block(self, size: int) -> SharedMemory | None:
        """A free block of at least ``size`` bytes; None if there is not enough shared memory."""
        while self._free:
            name = self._free.pop()
            if self._blocks[name].size >= size:
                return self._blocks[name]
            _discard(self._blocks.pop(name))
        if os.path.isdir(_SHARED_FOLDER) and shutil.disk_usage(_SHARED_FOLDER).free < 2 * size:
            return None
        block = SharedMemory(create=True, size=size)
        self._blocks[block.name] = block
        return block


class Receiver:
    """Unpacks the messages of one sender."""

    def __init__(self) -> None:
        self._blocks: dict[str, SharedMemory] = {}

    def unpack(self, message: Message) -> Any:
        """The object, on memory of its own.

        Raises:
            EOFError: the sender has ended, and taken its memory with it.
        """
        if message.block is None:
            return pickle.loads(message.pickled, buffers=[bytearray(b) for b in message.buffers])
        block = self._blocks.get(message.block)
        if block is None:
            # Blocks that the sender gave up for larger ones go with the next that is new.
            self.close()
            try:
                block = self._blocks[message.block] = SharedMemory(name=message.block)
            except FileNotFoundError:
                raise EOFError(f"Receiver: the sender has given back the block {message.block}") from None
        copies, position = [], 0
        for size in message.sizes:
            copy = np.empty(size, np.uint8)
            copy[:] = np.frombuffer(block.buf, np.uint8, size, position)  # type: ignore[arg-type]
            copies.append(copy)
            position += _aligned(size)
        return pickle.loads(message.pickled, buffers=copies)

    def close(self, orphaned: bool = False) -> None:
        """Let go of the blocks; and give them back, if their owner died and cannot."""
        for block in self._blocks.values():
            if orphaned:
                _discard(block)
            else:
                block.close()
        self._blocks.clear()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _discard(block: SharedMemory) -> None:
    block.close()
    with contextlib.suppress(FileNotFoundError):
        block.unlink()
