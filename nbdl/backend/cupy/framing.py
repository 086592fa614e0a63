"""Frames that continue an array on the GPU: a thread an element, an axis after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import launch_each, of_real_numbers
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.cupy.placing import target
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
        framed = [axis for axis, frame in enumerate(widths) if any(frame)]
        result = x
        for axis in framed:
            place = out if axis == framed[-1] else None
            result = self._framed("extend", result, axis, widths[axis], 1, mode, place)
        return delivered(result if framed else x.copy(), out)

    @of_real_numbers
    def extend_input(self, y: Any, *, widths: Pairs, mode: str, out: Any = None) -> Any:
        """Every element inside with all that repeat it added."""
        dtype, wide = y.dtype, arithmetic_dtype(y.dtype)
        framed = [axis for axis, frame in enumerate(widths) if any(frame)]
        total = self.cast(y, dtype=wide) if wide != dtype else y  # rounded once, whatever the number of axes
        for axis in framed:
            place = out if axis == framed[-1] else None
            total = self._framed("extend_input", total, axis, widths[axis], -1, mode, place)
        if wide != dtype:
            return self.cast(total, dtype=dtype, out=out)
        return delivered(total if framed else y.copy(), out)

    def _framed(
        self, name: str, x: Any, axis: int, frame: tuple[int, int], sign: int, mode: str, place: Any
    ) -> Any:
        """``x`` longer (``sign`` 1) or shorter (-1) by a frame; in ``place`` if it fits."""
        shape = (*x.shape[:axis], x.shape[axis] + sign * sum(frame), *x.shape[axis + 1 :])
        result = target(self.xp, place, shape, x.dtype, x)
        inside = min(x.shape[axis], shape[axis])
        sizes = *map(np.int64, (inside, *frame, math.prod(shape[axis + 1 :]))), np.int32(_MODES.index(mode))
        operands = self.xp.ascontiguousarray(x), result
        launch_each(self._kernels, name, "framing.cu", x.dtype, operands, result.size, *sizes)
        return result
