"""Arrays joined on the GPU: one launch for eight of them, in the widest words that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import kernel_of
from nbdl.backend.cupy.launch import MAX_BLOCKS, THREADS, Kernels, blocks
from nbdl.backend.cupy.placing import target
from nbdl.backend.numpy.results import delivered

# Parts that one launch takes.
_AT_ONCE = 8
# What words of so many bytes are called: the kernel copies them as they are.
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}


class CupyJoining:
    """See :class:`~nbdl.backend.numpy.joining.Joining`.

    CuPy's function sends the addresses of many small arrays to the device. A CUDA graph must not hold that: a
    replay would read what the host has in that place by then.
    """

    xp: Any
    _kernels: Kernels

    def concatenate(self, *arrays: Any, axis: int, out: Any = None) -> Any:
        """Arrays one after the other along ``axis``, in the order of axes in which all of them lie."""
        shape = joined_shape(arrays, axis)
        order = common_order(arrays)
        back = np.argsort(order)
        parts = [self.xp.ascontiguousarray(x.transpose(order)) for x in arrays if x.size]
        place = None if out is None else out.transpose(order)
        result = target(self.xp, place, tuple([shape[k] for k in order]), arrays[0].dtype, *arrays)
        if parts:
            self._join(parts, result, order.index(axis))
        return out if result is place else delivered(result.transpose(back), out)

    def _join(self, parts: Sequence[Any], result: Any, axis: int) -> None:
        """Row-major parts into the rows of a row-major result."""
        widths = [math.prod(x.shape[axis:]) * x.itemsize for x in parts]
        word = math.gcd(16, *widths, *[x.data.ptr for x in parts], result.data.ptr)
        kernel = kernel_of(
            self._kernels, "nbdl_concatenate", "joining.cu", {}, (), parts=("words.cuh", "elements.cuh"),
            flags={"NBDL_BYTES": word},
        )  # fmt: skip
        rows, width, start = math.prod(result.shape[:axis]), sum(widths) // word, 0
        operands = [_in_words(x, word) for x in parts]
        whole = _in_words(result, word)
        for first in range(0, len(parts), _AT_ONCE):
            several = operands[first : first + _AT_ONCE]
            words = [n // word for n in widths[first : first + _AT_ONCE]]
            missing = _AT_ONCE - len(several)
            count = rows * sum(words)
            sizes = map(np.int64, (count, width, start, *words, *[0] * missing))
            grid = (blocks(count, THREADS, MAX_BLOCKS),)
            kernel(grid, (THREADS,), (*several, *several[:1] * missing, whole, *sizes))
            start += sum(words)


def joined_shape(arrays: Sequence[Any], axis: int) -> tuple[int, ...]:
    """The shape of arrays joined along an axis.

    Raises:
        ValueError: they do not fit.
    """
    front, behind = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    if any((x.shape[:axis], x.shape[axis + 1 :]) != (front, behind) for x in arrays):
        raise ValueError("arrays have different shapes beside the axis")
    return (*front, sum([x.shape[axis] for x in arrays]), *behind)


def common_order(arrays: Sequence[Any]) -> tuple[int, ...]:
    """The axes as they lie in the memory of all arrays, the outermost first; as they are if there is none."""
    first = arrays[0]
    natural = tuple(range(first.ndim))
    if all(x.flags.c_contiguous for x in arrays):
        return natural
    order = tuple(sorted(natural, key=lambda axis: (-abs(first.strides[axis]), axis)))
    return order if all(x.transpose(order).flags.c_contiguous for x in arrays) else natural


def _in_words(x: Any, word: int) -> Any:
    """The elements of a row-major array as words."""
    return x if x.itemsize == word else x.reshape(-1).view(_WORDS[word])
