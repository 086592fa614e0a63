"""What tensors say about themselves, and where they stay, under PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.copying import to

_TYPE_NAMES = {
    "float16": "Half", "float32": "Float", "float64": "Double", "bfloat16": "BFloat16", "int8": "Char",
    "int16": "Short", "int32": "Int", "int64": "Long", "uint8": "Byte", "bool": "Bool",
    "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the type, ``nbdl.FloatTensor``; with ``dtype`` the tensor cast to it."""
    if dtype is not None:
        return to(self, dtype)
    name = self.dtype.name
    place = "nbdl.cuda." if self.is_cuda else "nbdl."
    return f"{place}{_TYPE_NAMES.get(name, name.capitalize())}Tensor"


def ndimension(self: Tensor) -> int:
    """Number of axes."""
    return self.array.ndim


def nelement(self: Tensor) -> int:
    """Number of elements."""
    return self.numel()


def get_device(self: Tensor) -> int:
    """The number of the GPU, -1 on the CPU."""
    return self.device.index or 0 if self.is_cuda else -1


def storage_offset(self: Tensor) -> int:
    """Elements between the start of the memory that it shares and its first element."""
    owner = self if self.view_of is None else self.view_of[0]
    return (self.data_ptr() - owner.data_ptr()) // self.array.itemsize


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both are the same window on the same memory."""
    return (
        self.data_ptr() == tensor.data_ptr()
        and tuple(self.array.shape) == tuple(tensor.array.shape)
        and self.array.strides == tensor.array.strides
    )


def pin_memory(self: Tensor) -> Tensor:
    """The tensor itself: transfers do not need pinned memory."""
    return self


def share_memory_(self: Tensor) -> Tensor:
    """The tensor itself: data loaders put into shared memory what they pass on."""
    return self


def never(self: Tensor) -> bool:
    """False: tensors are dense, stay on a device, and are neither quantised, pinned nor distributed."""
    return False


def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Every element replaced by what a Python function makes of it; slow, on the CPU, without derivatives.

    Raises:
        RuntimeError: it requires grad.
        TypeError: it lives on a GPU.
    """
    return _written("apply_", self, [callable(value) for value in self.array.ravel().tolist()])


def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """As :func:`apply_`, the function taking the elements of another tensor, broadcast, too."""
    others = np.broadcast_to(tensor.array, self.array.shape).ravel().tolist()
    pairs = zip(self.array.ravel().tolist(), others, strict=True)
    return _written("map_", self, [callable(a, b) for a, b in pairs])


def _written(label: str, x: Tensor, values: list[Any]) -> Tensor:
    if x.requires_grad:
        raise RuntimeError(f"{label}: can't call it on a tensor that requires grad; use tensor.detach()")
    if x.is_cuda:
        raise TypeError(f"{label}: is only implemented on CPU tensors")
    x.array[...] = np.asarray(values).reshape(x.array.shape)
    x.mark_changed()
    return x
