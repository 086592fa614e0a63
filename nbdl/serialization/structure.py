"""Nested containers as JSON, with the arrays in them set aside under names.

``None``, bools, integers, finite floats, strings and lists are themselves; anything else is an object whose
first name says what it is: ``{"tuple": [...]}``, ``{"dict": [[key, value], ...]}``, ``{"tensor": name}``.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.reading import before_reading
from nbdl.autograd.tensor import Size, Tensor
from nbdl.backend.device import CPU, Device, transfer
from nbdl.formula.dtypes import bfloat16
from nbdl.nn.parameter import Parameter
from nbdl.serialization.safetensors import METADATA, code_of

# The containers by name: what makes one of a list of entries.
_SEQUENCES: dict[str, Callable[[list], Any]] = {
    "tuple": tuple, "set": set, "frozenset": frozenset, "Size": Size,
}  # fmt: skip
_MAPPINGS: dict[str, Callable[[list], Any]] = {
    "dict": dict, "OrderedDict": OrderedDict, "Counter": lambda pairs: Counter(dict(pairs)),
}  # fmt: skip
_NAMES: dict[type, str] = {
    tuple: "tuple", set: "set", frozenset: "frozenset", Size: "Size",
    dict: "dict", OrderedDict: "OrderedDict", Counter: "Counter", defaultdict: "dict",
}  # fmt: skip


class Encoder:
    """Takes the arrays out of a nest.

    Attributes:
        arrays: what was set aside, by name: the path of keys with dots, so that the entries of a state_dict
            keep their names.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[Any, str] = {}  # by the memory of the array
        self._keep: list[Any] = []

    def encode(self, value: Any, path: tuple[Any, ...] = ()) -> Any:
        """``value`` as JSON data.

        Args:
            value: the nest.
            path: the keys that lead to it.

        Raises:
            TypeError: something is of a type that only running code could bring back.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return [self.encode(item, (*path, k)) for k, item in enumerate(value)]
        if kind in _NAMES:
            return self._container(value, _NAMES[kind], path)
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        return self._scalar(value, path)

    def _container(self, value: Any, name: str, path: tuple[Any, ...]) -> dict[str, Any]:
        if name in _SEQUENCES:
            return {name: [self.encode(item, (*path, k)) for k, item in enumerate(value)]}
        pairs = [[self.encode(key, path), self.encode(item, (*path, key))] for key, item in value.items()]
        encoded: dict[str, Any] = {name: pairs}
        if name == "OrderedDict" and hasattr(value, "_metadata"):  # the versions in a state_dict
            encoded["_metadata"] = self.encode(value._metadata, path)
        return encoded

    def _tensor(self, value: Tensor, path: tuple[Any, ...]) -> dict[str, Any]:
        kind = "parameter" if isinstance(value, Parameter) else "tensor"
        if mode.recorder is not None:
            before_reading(value, "the content (save)")
        encoded = self._array(value.array, kind, path)
        if value.requires_grad:
            encoded["requires_grad"] = True
        if value.is_cuda:
            encoded["device"] = str(value.device)
        return encoded

    def _scalar(self, value: Any, path: tuple[Any, ...]) -> dict[str, Any]:
        if type(value) is complex:
            return {"complex": [self.encode(value.real), self.encode(value.imag)]}
        if type(value) is bytes:
            return {"bytes": base64.b64encode(value).decode()}
        if type(value) is np.ndarray:
            return self._array(value, "array", path)
        if isinstance(value, np.generic):
            return self._array(np.asarray(value), "scalar", path)
        if isinstance(value, np.dtype) and value.kind in "biufcV":
            return {"dtype": value.name}
        if type(value) is Device:
            return {"device": str(value)}
        raise TypeError(
            f"save: obj{_place(path)} is of type {type(value).__name__}; allowed are tensors, NumPy arrays, "
            "numbers, strings, None, and dicts, lists, tuples and sets of them (for a module, save its "
            "state_dict())"
        )

    def _array(self, array: Any, kind: str, path: tuple[Any, ...]) -> dict[str, Any]:
        """Set an array aside; one that was seen before, once only."""
        in_pairs = array.dtype == np.complex128  # which the format lacks
        if code_of(array.dtype) is None and not in_pairs:
            raise TypeError(f"save: obj{_place(path)} has dtype {array.dtype}, which cannot be saved")
        # Empty arrays may have one address without being one.
        key = (_address(array), array.shape, array.strides, array.dtype) if array.size else id(array)
        if key not in self._names:
            name = self._free_name(".".join(map(str, path)) or "data")
            self._names[key] = name
            self._keep.append(array)  # as long as it lives, nothing else has its address
            host = transfer(array, CPU)
            self.arrays[name] = _pairs(host) if in_pairs else host
        encoded = {kind: self._names[key]}
        return encoded | {"pairs": True} if in_pairs else encoded

    def _free_name(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self.arrays or candidate == METADATA:
            number += 1
            candidate = f"{name}#{number}"
        return candidate


class Decoder:
    """Puts arrays back into a nest.

    Args:
        arrays: by name.
        place: ``place(tensor, device)`` moves a tensor that was on ``device`` to where it is wanted.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], place: Callable[[Tensor, str], Tensor]):
        self._arrays, self._place = arrays, place
        self._tensors: dict[tuple[str, bool], Tensor] = {}

    def decode(self, data: Any) -> Any:
        """What :meth:`Encoder.encode` was given.

        Raises:
            ValueError, TypeError, KeyError: it is no such data.
        """
        if data is None or isinstance(data, (bool, int, float, str)):
            return data
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        kind, content = next(iter(data.items()))
        if kind in _SEQUENCES:
            return _SEQUENCES[kind]([self.decode(item) for item in content])
        if kind in _MAPPINGS:
            found = _MAPPINGS[kind]([(self.decode(key), self.decode(item)) for key, item in content])
            if "_metadata" in data:
                found._metadata = self.decode(data["_metadata"])
            return found
        if kind in ("tensor", "parameter"):
            return self._tensor(data, content, kind == "parameter")
        if kind in ("array", "scalar"):
            array = self._array(data, content)
            return array[()] if kind == "scalar" else array
        return _decode_scalar(kind, content)

    def _array(self, data: Mapping[str, Any], name: str) -> np.ndarray:
        array = self._arrays[name]
        return array.view(np.complex128).reshape(array.shape[:-1]) if data.get("pairs") else array

    def _tensor(self, data: Mapping[str, Any], name: str, is_parameter: bool) -> Tensor:
        key = name, bool(data.get("pairs"))
        first = self._tensors.get(key)
        if first is None:
            first = self._place(Tensor(self._array(data, name)), data.get("device", "cpu"))
            self._tensors[key] = first
        tensor = first.detach()  # tensors that shared memory do so again
        requires_grad = bool(data.get("requires_grad"))
        return Parameter(tensor, requires_grad) if is_parameter else tensor.requires_grad_(requires_grad)


def _decode_scalar(kind: str, content: Any) -> Any:
    if kind == "float":
        return float(content)
    if kind == "complex":
        real, imag = (float(part["float"] if isinstance(part, dict) else part) for part in content)
        return complex(real, imag)
    if kind == "bytes":
        return base64.b64decode(content, validate=True)
    if kind == "dtype":
        return bfloat16() if content == "bfloat16" else np.dtype(content)
    if kind == "device":
        return Device(content)
    raise ValueError(f"unknown kind {kind!r}")


def _pairs(array: np.ndarray) -> np.ndarray:
    """Complex numbers as (real, imaginary) on a last axis."""
    return np.ascontiguousarray(array).reshape(-1).view(np.float64).reshape(*array.shape, 2)


def _address(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def _place(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path)
