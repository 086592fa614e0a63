"""Arithmetic in a wider dtype than the stored one."""

from __future__ import annotations

from typing import Any

from nbdl.formula import dtypes


def widened(array: Any) -> Any:
    """``array`` in the dtype its arithmetic runs in: float32 for half precision, else its own."""
    half = array.dtype == dtypes.FLOAT16 or dtypes.is_bfloat16(array.dtype)
    return array.astype(dtypes.FLOAT32) if half else array
