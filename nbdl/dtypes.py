"""The dtypes of tensors under PyTorch's names; they are NumPy's dtype objects."""

from __future__ import annotations

import numpy as np
from numpy import dtype

float16 = half = np.dtype(np.float16)
float32 = float = np.dtype(np.float32)
float64 = double = np.dtype(np.float64)
int8 = np.dtype(np.int8)
int16 = short = np.dtype(np.int16)
int32 = int = np.dtype(np.int32)
int64 = long = np.dtype(np.int64)
uint8 = np.dtype(np.uint8)
uint16 = np.dtype(np.uint16)
uint32 = np.dtype(np.uint32)
uint64 = np.dtype(np.uint64)
bool = np.dtype(np.bool_)
complex64 = cfloat = np.dtype(np.complex64)
complex128 = cdouble = np.dtype(np.complex128)

__all__ = [
    "bool", "cdouble", "cfloat", "complex64", "complex128",
    "double", "dtype", "float", "float16", "float32", "float64", "half", "int", "int8", "int16", "int32",
    "int64", "long", "short", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip
