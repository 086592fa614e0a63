"""Matrix products on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes


class LinearAlgebra:
    """Matrix primitives."""

    def matmul(
        self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> Any:
        """``a @ b``; batches broadcast, a vector is a row on the left and a column on the right.

        Args:
            a: (..., m, k) or (k,); (..., k, m) if transposed.
            b: (..., k, n) or (k,); (..., n, k) if transposed.
            transpose_a: take the last two axes of ``a`` exchanged.
            transpose_b: likewise.
            out: receives the result.
        """
        if a.dtype != b.dtype:
            raise TypeError(f"matmul: operands have dtypes {a.dtype} and {b.dtype}")
        if transpose_a:
            a = a.swapaxes(-1, -2)
        if transpose_b:
            b = b.swapaxes(-1, -2)
        with np.errstate(all="ignore"):
            if out is None or dtypes.arithmetic_dtype(a.dtype) != a.dtype:
                product = np.asarray(np.matmul(widened(a), widened(b)))
                return delivered(narrowed(product, a.dtype), out)
            return np.matmul(a, b, out=out)

    def linear(self, x: Any, weight: Any, *bias: Any, out: Any = None) -> Any:
        """``x @ weight.T + bias``.

        Args:
            x: (..., in).
            weight: (out, in).
            bias: (out,) or nothing.
            out: (..., out), receives the result.
        """
        result = self.matmul(x, weight.T, out=out)
        if bias:
            result += bias[0]
        return result
