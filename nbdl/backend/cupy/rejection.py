"""Random numbers by rejection on the GPU: a thread proposes until a number is accepted, and nobody waits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.files import launch_each
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.cupy.placing import target
from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes


class CupyRejection:
    """The numbers of :class:`~nbdl.backend.numpy.rejection.Rejection`, to the last roundings."""

    xp: Any
    cast: Any
    _kernels: Kernels

    def random_log_gamma(
        self,
        seed: Any,
        offset: Any,
        concentration: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Logarithms of gamma numbers of rate 1."""
        return self._rejected("random_log_gamma", (seed, offset), (concentration,), shape, dtype, out)

    def random_poisson(
        self, seed: Any, offset: Any, rate: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """Poisson numbers."""
        return self._rejected("random_poisson", (seed, offset), (rate,), shape, dtype, out)

    def random_binomial(
        self,
        seed: Any,
        offset: Any,
        count: Any,
        p: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Numbers of successes in ``count`` trials."""
        return self._rejected("random_binomial", (seed, offset), (count, p), shape, dtype, out)

    def random_von_mises(
        self,
        seed: Any,
        offset: Any,
        concentration: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Angles in [-pi, pi] about 0."""
        return self._rejected("random_von_mises", (seed, offset), (concentration,), shape, dtype, out)

    def _rejected(
        self,
        name: str,
        draw: tuple[Any, Any],
        parameters: tuple[Any, ...],
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any,
    ) -> Any:
        result = target(self.xp, out, shape, dtype, *parameters)
        columns = [
            self.xp.ascontiguousarray(self.xp.broadcast_to(self.cast(x, dtype=dtypes.FLOAT64), shape))
            for x in parameters
        ]
        operands = *draw, *columns, result
        count, parts = math.prod(shape), ("philox.cuh",)
        launch_each(self._kernels, name, "rejection.cu", dtype, operands, count, parts=parts)
        return delivered(result, out)
