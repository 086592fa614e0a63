"""Sparse linear maps along an axis on the GPU: a thread an element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import launch_each, of_real_numbers
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.cupy.placing import target
from nbdl.backend.device import device_of
from nbdl.backend.numpy.results import delivered
from nbdl.backend.resampling import Taps
from nbdl.formula.dtypes import arithmetic_dtype


class CupyResampling:
    """See :class:`~nbdl.backend.numpy.resampling.Resampling`."""

    xp: Any
    _kernels: Kernels

    @of_real_numbers
    def resample(self, x: Any, *, axis: int, taps: Taps, out: Any = None) -> Any:
        """Weighted sums of ``x`` along ``axis``."""
        if x.shape[axis] != taps.length:
            raise ValueError("the map is for an axis of another length")
        shape = (*x.shape[:axis], taps.count, *x.shape[axis + 1 :])
        result = target(self.xp, out, shape, x.dtype, x)
        terms = taps.on(self.xp, device_of(x), arithmetic_dtype(x.dtype))
        operands = self.xp.ascontiguousarray(x), *terms, result
        sizes = map(np.int64, (taps.length, taps.count, math.prod(shape[axis + 1 :])))
        launch_each(self._kernels, "resample", "resampling.cu", x.dtype, operands, result.size, *sizes)
        return delivered(result, out)
