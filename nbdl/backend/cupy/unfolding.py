"""Windows as columns on the GPU, and columns as images: a thread an element of the result."""

from __future__ import annotations

import math
from typing import Any

from nbdl.backend.cupy.files import launch_each, of_real_numbers
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.pooling import axes_of_windows
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Sizes


class CupyUnfolding:
    """See :class:`~nbdl.backend.numpy.unfolding.Unfolding`."""

    xp: Any
    _kernels: Kernels

    @of_real_numbers
    def columns_of_windows(
        self,
        x: Any,
        *,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        counts: Sizes,
        out: Any = None,
    ) -> Any:
        """Every window as a column."""
        if x.shape[2:] != size:
            raise ValueError(f"expected images of {size}, got {x.shape}")
        rows = x.shape[1] * math.prod(kernel)
        result = target(self.xp, out, (x.shape[0], rows, math.prod(counts)), x.dtype, x)
        axes = axes_of_windows(size, counts, kernel, stride, padding, dilation)
        return self._unfold("columns_of_windows", x, result, axes, out)

    @of_real_numbers
    def windows_of_columns(
        self,
        y: Any,
        *,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        counts: Sizes,
        out: Any = None,
    ) -> Any:
        """The transpose of :meth:`columns_of_windows`."""
        channels, rest = divmod(y.shape[1], math.prod(kernel))
        if rest or y.shape[2:] != (math.prod(counts),):
            raise ValueError(
                f"expected columns of {math.prod(kernel)} taps and {counts} windows, got {y.shape}"
            )
        result = target(self.xp, out, (y.shape[0], channels, *size), y.dtype, y)
        axes = axes_of_windows(size, counts, kernel, stride, padding, dilation)
        return self._unfold("windows_of_columns", y, result, axes, out)

    def _unfold(self, name: str, x: Any, result: Any, axes: tuple[Any, ...], out: Any) -> Any:
        operands, parts = (self.xp.ascontiguousarray(x), result), ("windows.cuh",)
        launch_each(self._kernels, name, "unfolding.cu", x.dtype, operands, result.size, *axes, parts=parts)
        return delivered(result, out)
