"""Sparse linear maps along an axis on NumPy arrays."""

from __future__ import annotations

from typing import Any

from nbdl.backend.device import device_of
from nbdl.backend.resampling import Taps
from nbdl.formula.dtypes import arithmetic_dtype


class Resampling:
    """The primitive, with nothing that CuPy does not have too."""

    xp: Any

    def resample(self, x: Any, *, axis: int, taps: Taps, out: Any = None) -> Any:
        """Weighted sums of ``x`` along ``axis``, see :class:`~nbdl.backend.resampling.Taps`."""
        xp = self.xp
        lines = xp.moveaxis(x, axis, 0)
        # Sums of half precision are taken in single.
        dtype = arithmetic_dtype(x.dtype)
        total = xp.zeros((taps.count, *lines.shape[1:]), dtype)
        for rows, places, weights in taps.columns(xp, device_of(x), dtype):
            total[rows] += weights.reshape((-1, *[1] * (x.ndim - 1))) * lines[places]
        result = xp.moveaxis(total, 0, axis)
        if out is None:
            return xp.ascontiguousarray(result, x.dtype)
        out[...] = result
        return out
