"""Arithmetic in a wider dtype than the stored one."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.formula import dtypes


def widened(array: Any) -> Any:
    """``array`` in the dtype its arithmetic runs in: float32 for half precision, else its own."""
    return array.astype(dtypes.arithmetic_dtype(array.dtype), copy=False)


def narrowed(array: Any, dtype: np.dtype) -> Any:
    """``array`` in the dtype that is stored; what does not fit becomes infinite without a warning."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)
