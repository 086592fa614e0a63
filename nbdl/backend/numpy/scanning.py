"""Scans that are no ufunc's accumulate, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed
from nbdl.backend.numpy.results import delivered
from nbdl.formula.dtypes import arithmetic_dtype


class Scanning:
    """Scanning primitives beside :meth:`Reduction.scan`."""

    xp: Any
    scan: Callable[..., Any]

    def linear_scan(self, a: Any, b: Any, *, axis: int, reverse: bool = False, out: Any = None) -> Any:
        """The recurrence y[t] = a[t] * y[t-1] + b[t], y[0] = b[0], from the end of the axis if ``reverse``.

        Operands have one shape and dtype; halves are computed in float32.
        """
        dtype = arithmetic_dtype(a.dtype)
        factors, terms = self.xp.moveaxis(a, axis, 0), self.xp.moveaxis(b, axis, 0)
        result = self.xp.empty(factors.shape, dtype)
        if reverse:
            factors, terms, result = factors[::-1], terms[::-1], result[::-1]
        result[:1] = terms[:1]
        with np.errstate(all="ignore"):
            for t in range(1, len(factors)):
                result[t] = factors[t].astype(dtype, copy=False) * result[t - 1] + terms[t]
        if reverse:
            result = result[::-1]
        result = self.xp.moveaxis(result, 0, axis)
        return delivered(narrowed(self.xp.ascontiguousarray(result), a.dtype), out)

    def argscan(self, x: Any, *, kind: str, axis: int, out: Any = None) -> Any:
        """Index of the running ``max`` or ``min``, int64: the last of equal ones; the last NaN beats all."""
        xp = self.xp
        updates = (x == self.scan(x, kind=kind, axis=axis)) | (x != x)
        positions = xp.arange(x.shape[axis]).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
        latest = xp.where(updates, positions, 0)
        return self.scan(latest, kind="max", axis=axis, out=out)
