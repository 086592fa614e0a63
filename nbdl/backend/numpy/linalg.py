"""Matrix products on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

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
            if _is_half(a.dtype):
                result = np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
                if out is None:
                    return np.asarray(result)
                out[...] = result
                return out
            if out is not None:
                return np.matmul(a, b, out=out)
            return np.asarray(np.matmul(a, b))

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


def _is_half(dtype: np.dtype) -> bool:
    return dtype == dtypes.FLOAT16 or dtypes.is_bfloat16(dtype)
