"""Memory that arguments share with one another or with the outside.

A program knows its arguments apart by the arrays that own their memory. So the recorded call is given views
whose memory seems to be their own, and a later call in which shared memory is written to is not replayed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.compiler.addresses import extent_of, owner_of, share_memory
from nbdl.compiler.program import CAPTURED, Program


def apart(array: Any) -> Any:
    """The same elements in an array that seems to own them: no other array has it as its base."""
    if not isinstance(array, np.ndarray):  # of CuPy
        return type(array)(array.shape, array.dtype, array.data, array.strides)
    start, stop = extent_of(array)
    memory: Any = (ctypes.c_char * (stop - start)).from_address(start)
    memory.owner = array  # keeps it alive
    offset = array.ctypes.data - start
    view = np.ndarray(array.shape, array.dtype, memory, offset, array.strides)
    view.flags.writeable = array.flags.writeable
    return view


class Writes:
    """What a program changes of its arguments and of the outside.

    Args:
        program: as it was recorded.
    """

    def __init__(self, program: Program):
        written = {w.buffer for operation in program.operations for w in operation.outputs}
        self.inputs = [k for k, buffer in enumerate(program.inputs) if buffer in written]
        outside = [buffer for buffer in program.buffers if buffer.kind == CAPTURED]
        # An argument that is written to must not be what the program reads from outside, either.
        self._changed = {id(buffer.array): buffer.array for buffer in outside if buffer in written}
        self._outside = {id(buffer.array): buffer.array for buffer in outside} if self.inputs else {}

    def collide(self, arrays: Sequence[Any]) -> bool:
        """Whether one of these arguments shares memory that the program changes with something else."""
        owners = [id(array if array.base is None else owner_of(array)) for array in arrays]
        if not self._changed.keys().isdisjoint(owners):
            for array, owner in zip(arrays, owners, strict=True):
                if owner in self._changed and share_memory(array, self._changed[owner]):
                    return True
        for k in self.inputs:
            if owners[k] in self._outside and share_memory(arrays[k], self._outside[owners[k]]):
                return True
            for other, owner in enumerate(owners):
                if other != k and owner == owners[k] and share_memory(arrays[k], arrays[other]):
                    return True
        return False
