"""Memory shared with other libraries by DLPack: what NumPy and CuPy do not know of the protocol.

These are capsules without an object around them, and bfloat16, which passes NumPy as integers of 16 bits,
whose description in the capsule is put right (DLPack's ``dlpack.h``, version 1).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from nbdl.formula import dtypes

_UNSIGNED, _BFLOAT = 1, 4  # kDLUInt, kDLBfloat


class _Tensor(ctypes.Structure):
    """``DLTensor``, up to the type of its elements."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
    )


# Where the tensor begins in what a capsule points to, by the name of the capsule.
_BEGINS = {b"dltensor": 0, b"dltensor_versioned": 32}

_name_of, _pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, (ctypes.py_object,)
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _tensor_in(capsule: Any) -> _Tensor:
    name = _name_of(capsule)
    if name not in _BEGINS:
        raise RuntimeError(
            f"from_dlpack: expected a capsule with a tensor that nobody has taken yet, got one named {name!r}"
        )
    return _Tensor.from_address(_pointer_of(capsule, name) + _BEGINS[name])


def is_capsule(source: Any) -> bool:
    """Whether it is a capsule rather than an object that gives one."""
    return type(source).__name__ == "PyCapsule"


class _Source:
    """What another library exports, as NumPy and CuPy want to see it.

    Attributes:
        is_bfloat16: whether what looks like integers is bfloat16; known when the memory was taken.
    """

    is_bfloat16 = False

    def __init__(self, source: Any):
        self._source = source

    def __dlpack_device__(self) -> tuple[int, int]:
        if not is_capsule(self._source):
            return self._source.__dlpack_device__()
        tensor = _tensor_in(self._source)
        return tensor.device_type, tensor.device_id

    def __dlpack__(self, **kwargs: Any) -> Any:
        capsule = self._source if is_capsule(self._source) else self._source.__dlpack__(**kwargs)
        tensor = _tensor_in(capsule)
        if tensor.code == _BFLOAT and tensor.bits == 16:
            self.is_bfloat16, tensor.code = True, _UNSIGNED
        return capsule


def imported(source: Any) -> Any:
    """An array of NumPy's or CuPy's in the memory of another library's.

    Args:
        source: has ``__dlpack__`` and ``__dlpack_device__``, or is a capsule.

    Raises:
        TypeError: it has and is neither.
        RuntimeError: the capsule was used before, or the memory or the elements are of an unknown kind.
    """
    if not (is_capsule(source) or (hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__"))):
        raise TypeError(
            "from_dlpack: expected an object with __dlpack__ and __dlpack_device__, or a DLPack capsule, got "
            f"{type(source).__name__}"
        )
    from nbdl.backend.device import Device, module_for

    seen = _Source(source)
    kind, number = seen.__dlpack_device__()
    is_cuda = kind in (2, 13)  # kDLCUDA, kDLCUDAManaged
    module = module_for(Device("cuda", int(number))) if is_cuda else np
    try:
        array = module.from_dlpack(seen)
    except RuntimeError as error:
        given = "a capsule" if is_capsule(source) else f"{type(source).__module__}.{type(source).__name__}"
        text = str(error).removeprefix("from_dlpack: ")
        raise RuntimeError(f"from_dlpack: cannot share the memory of {given}: {text}") from error
    return array.view(dtypes.bfloat16()) if seen.is_bfloat16 else array


def exported(array: Any, **kwargs: Any) -> Any:
    """A capsule by which another library uses the memory of an array.

    Args:
        array: of NumPy's or CuPy's.
        **kwargs: of ``__dlpack__``, as the other library gives them.

    Raises:
        BufferError: strides are negative, which PyTorch does not survive; or the arguments cannot be met.
    """
    if any(step < 0 for step in array.strides):
        raise BufferError(
            f"__dlpack__: memory with negative strides {array.strides} is not shared; use tensor.contiguous()"
        )
    if isinstance(array, np.ndarray) and kwargs.get("stream") == -1:
        kwargs["stream"] = None  # "no synchronisation", which the CPU knows as nothing else
    if not dtypes.is_bfloat16(array.dtype):
        return array.__dlpack__(**kwargs)
    capsule = array.view(np.uint16).__dlpack__(**kwargs)
    _tensor_in(capsule).code = _BFLOAT
    return capsule
