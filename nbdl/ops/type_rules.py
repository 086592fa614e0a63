"""Dtypes: their limits, and which one numbers and tensors meet in."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.copying import as_dtype

__all__ = ["can_cast", "finfo", "iinfo", "is_floating_point", "promote_types", "result_type"]


class _finfo:
    """Limits of a floating dtype.

    Attributes:
        dtype: the dtype.
        bits: size of one element.
        eps: the distance from 1 to the next larger number.
        max: the largest finite number.
        min: the smallest one, ``-max``.
        tiny: the smallest positive number of full precision; ``smallest_normal`` too.
        resolution: the decimal resolution, ``10**-digits``.
    """

    def __init__(self, dtype: np.dtype):
        if dtypes.is_bfloat16(dtype):
            import ml_dtypes

            info: Any = ml_dtypes.finfo(dtype)
        else:
            info = np.finfo(dtype)
        self.dtype, self.bits = dtype, dtype.itemsize * 8
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)


def finfo(dtype: Any = None) -> _finfo:
    """Limits of a floating dtype (the default one if None).

    Raises:
        TypeError: the dtype is not floating.

    Example:
        >>> import nbdl
        >>> nbdl.finfo(nbdl.float32).eps
        1.1920928955078125e-07
    """
    wanted = dtype_or_default(dtype)
    if not dtypes.is_floating(wanted):
        raise TypeError(f"finfo: dtype must be floating, got {wanted}; use iinfo for integers")
    return _finfo(wanted)


def iinfo(dtype: Any) -> np.iinfo:
    """Limits of an integer dtype.

    Raises:
        TypeError: the dtype is no integer.

    Example:
        >>> import nbdl
        >>> nbdl.iinfo(nbdl.int8).max
        127
    """
    wanted = as_dtype(dtype)
    if wanted.kind not in "iu":
        raise TypeError(f"iinfo: dtype must be an integer, got {wanted}; use finfo for floats")
    return np.iinfo(wanted)


def dtype_or_default(dtype: Any) -> np.dtype:
    """The dtype; None is the default one."""
    return dtypes.get_default_dtype() if dtype is None else as_dtype(dtype)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floats."""
    return input.is_floating_point()


def result_type(*values: Any) -> np.dtype:
    """The dtype that an arithmetic operation on these tensors and numbers has.

    Example:
        >>> import nbdl
        >>> nbdl.result_type(nbdl.tensor([1, 2]), 1.5)
        dtype('float32')
    """
    kinds, priorities = [], []
    for value in values:
        if isinstance(value, Tensor):
            kinds.append(value.array.dtype)
            priorities.append(2 if value.array.ndim else 1)
        else:
            kinds.append(np.asarray(value).dtype)
            priorities.append(0)
    return dtypes.result_dtype(tuple(kinds), tuple(priorities))


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The dtype that two dtypes meet in.

    Raises:
        TypeError: something is no dtype.

    Example:
        >>> import nbdl
        >>> nbdl.promote_types(nbdl.int64, nbdl.float32)
        dtype('float32')
    """
    return dtypes.promote(as_dtype(type1), as_dtype(type2))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether type promotion may turn one dtype into the other: not complex to real, float to integer, ...

    Raises:
        TypeError: something is no dtype.
    """
    source, target = as_dtype(from_), as_dtype(to)
    if source.kind == "i" and target.kind == "u":
        return False
    return dtypes.category(source) <= dtypes.category(target)
