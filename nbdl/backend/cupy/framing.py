"""Frames that continue an array on the GPU: a thread an element, an axis after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import launch_each, of_real_numbers
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Pairs
from nbdl.formula.dtypes import arithmetic_dtype

# As kernels/cuda/framing.cu numbers them.
_MODES = ("edge", "reflect", "symmetric", "wrap")


class CupyFraming:
    """See :class:`~nbdl.backend.numpy.joining.Joining`."""

    xp: Any
    cast: Any
    _kernels: Kernels

    @of_real_numbers
    def extend(self, x: Any, *, widths: Pairs, mode: str, out: Any = None) -> Any:
        """``x`` continued beyond its edges."""
        for axis, frame in enumerate(widths):
            x = self._framed("extend", x, axis, frame, sum(frame), mode)
        return delivered(x if any(map(any, widths)) else x.copy(), out)

    @of_real_numbers
    def extend_input(self, y: Any, *, widths: Pairs, mode: str, out: Any = None) -> Any:
        """Every element inside with all that repeat it added."""
        dtype, wide = y.dtype, arithmetic_dtype(y.dtype)
        total = self.cast(y, dtype=wide) if wide != dtype else y  # rounded once, whatever the number of axes
        for axis, frame in enumerate(widths):
            total = self._framed("extend_input", total, axis, frame, -sum(frame), mode)
        if wide != dtype:
            total = self.cast(total, dtype=dtype)
        return delivered(total if total is not y else y.copy(), out)

    def _framed(self, name: str, x: Any, axis: int, frame: tuple[int, int], growth: int, mode: str) -> Any:
        if not any(frame):
            return x
        shape = (*x.shape[:axis], x.shape[axis] + growth, *x.shape[axis + 1 :])
        result = self.xp.empty(shape, x.dtype)
        inside = min(x.shape[axis], shape[axis])
        sizes = *map(np.int64, (inside, *frame, math.prod(shape[axis + 1 :]))), np.int32(_MODES.index(mode))
        operands = self.xp.ascontiguousarray(x), result
        launch_each(self._kernels, name, "framing.cu", x.dtype, operands, result.size, *sizes)
        return result
