"""Python data as arrays: which dtype they get, and whether it can hold them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.copying import as_dtype


def _contains_tensor(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, Tensor)


def array_of(data: Any, dtype: Any, caller: str) -> np.ndarray:
    """Python data as a NumPy array of the right dtype.

    Raises:
        ValueError: the nesting is ragged, or a Python number is too large for int64.
        TypeError: something is no number.
        RuntimeError: a Python number is too large for the integers asked for.
    """
    wanted, given = None if dtype is None else as_dtype(dtype), data
    if _contains_tensor(data):
        data = _unwrapped(data)
    typed = isinstance(data, (np.ndarray, np.generic))
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{caller}: the nested sequence is ragged: {error}") from None
    integers = wanted is None or wanted == np.int64
    if not typed and array.size and integers and (array.dtype == np.uint64 or _overflows(array)):
        raise ValueError(f"{caller}: Overflow: an integer does not fit into 64 bits with a sign")
    if array.dtype == object or array.dtype.kind in "USMm":
        raise TypeError(
            f"{caller}: could not make a tensor of {type(data).__name__} with elements of dtype {array.dtype}"
        )
    if wanted is None:
        kinds = set() if typed else _dtypes_in(given)
        wanted = functools.reduce(dtypes.promote, kinds) if kinds else as_dtype(array.dtype)
    if not typed and wanted.kind in "iu" and array.dtype.kind in "iuf" and array.size:
        _check_range(caller, array, wanted)
    if array.dtype.kind == "c" and wanted.kind != "c":
        raise TypeError(f"{caller}: complex numbers cannot be stored as {wanted}")
    with np.errstate(all="ignore"):
        return array.astype(wanted, order="C")


def _overflows(array: np.ndarray) -> bool:
    """Whether these are Python integers too large for any of NumPy's."""
    return array.dtype == object and all(isinstance(value, int) for value in array.flat)


def _check_range(caller: str, values: np.ndarray, wanted: np.dtype) -> None:
    """Negative integers may wrap around where the dtype has none, down to minus its largest number."""
    limits = np.iinfo(wanted)
    least = -limits.max if wanted.kind == "u" and values.dtype.kind != "f" else limits.min
    low, high = values.min().item(), values.max().item()
    if not (least <= low and high <= limits.max):  # NaN is in no range
        raise (ValueError if wanted == np.int64 else RuntimeError)(
            f"{caller}: value {low if not least <= low else high} cannot be converted to type {wanted} "
            f"without overflow; it must be in [{least}, {limits.max}]"
        )


def _unwrapped(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.detach().cpu().array
    return [_unwrapped(entry) for entry in data] if isinstance(data, (list, tuple)) else data


def _dtypes_in(data: Any) -> set[np.dtype]:
    """What the elements count as in promotion: arrays, tensors and NumPy's numbers as they are."""
    entries = data if isinstance(data, (list, tuple)) else (data,)
    if len(entries) == 0:
        return {dtypes.get_default_dtype()}
    found: set[np.dtype] = set()
    for kind in set(map(type, entries)):
        if kind is float:
            found.add(dtypes.get_default_dtype())
        elif kind is complex:
            found.add(dtypes.complex_of(dtypes.get_default_dtype()))
        elif kind is int or kind is bool or issubclass(kind, np.generic):
            found.add(as_dtype(np.dtype(kind)))
        else:
            found.update(*[_dtypes_of(entry) for entry in entries if type(entry) is kind])
    return found


def _dtypes_of(entry: Any) -> set[np.dtype]:
    if isinstance(entry, (list, tuple)):
        return _dtypes_in(entry)
    return {as_dtype(entry.dtype if hasattr(entry, "dtype") else np.asarray(entry).dtype)}
