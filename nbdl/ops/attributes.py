"""What tensors say about themselves, and where they stay, under PyTorch's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tensor import Tensor
from nbdl.backend.device import module_for
from nbdl.ops.copying import to
from nbdl.ops.creation import constructed
from nbdl.ops.memory_format import contiguous_format, is_arranged
from nbdl.ops.primitive import new_shape

_TYPE_NAMES = {
    "float16": "Half", "float32": "Float", "float64": "Double", "bfloat16": "BFloat16", "int8": "Char",
    "int16": "Short", "int32": "Int", "int64": "Long", "uint8": "Byte", "bool": "Bool",
    "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


_DTYPES = {f"{kind}Tensor": name for name, kind in _TYPE_NAMES.items()}


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the type, ``nbdl.FloatTensor``; given a dtype or such a type, the tensor cast to it."""
    if dtype is not None:
        name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", "")
        return to(self, _DTYPES.get(name.rpartition(".")[2], dtype))
    name = self.dtype.name
    place = "nbdl.cuda." if self.is_cuda else "nbdl."
    return f"{place}{_TYPE_NAMES.get(name, name.capitalize())}Tensor"


def is_contiguous(self: Tensor, memory_format: Any = contiguous_format) -> bool:
    """Whether the elements lie in memory in the order of their indices, or in that of ``memory_format``."""
    return is_arranged(self, memory_format)


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


def new(self: Tensor, *data: Any) -> Tensor:
    """A tensor of this one's dtype and device, of data, or of sizes and then uninitialised."""
    return Tensor(constructed("new", data, self.dtype)).to(self.device)


def dim_order(self: Tensor) -> tuple[int, ...]:
    """The axes by falling stride: how the elements lie in memory."""
    strides = self.array.strides
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


def resize_(self: Tensor, *sizes: Any) -> Tensor:
    """Another shape in place: the elements in row-major order, cut off or followed by arbitrary ones.

    Raises:
        RuntimeError: it requires grad, is a view, or a size is negative.
    """
    shape = new_shape("resize_", sizes)
    if self.requires_grad:
        raise RuntimeError("resize_: cannot resize variables that require grad")
    if self.view_of is not None:
        raise RuntimeError("resize_: cannot resize a view; clone() it")
    old = self.array
    new = module_for(self.device).empty(math.prod(shape), dtype=old.dtype)
    kept = min(new.size, old.size)
    new[:kept] = old.reshape(-1)[:kept]
    rebindings.count += 1
    self.array = new.reshape(shape)
    self.mark_changed()
    return self


def resize_as_(self: Tensor, the_template: Tensor) -> Tensor:
    """:func:`resize_` to the shape of another tensor."""
    return resize_(self, tuple(the_template.array.shape))


def set_(self: Tensor, source: Tensor | None = None) -> Tensor:
    """Take the memory of another tensor, and share it; without one, be empty.

    Raises:
        RuntimeError: another dtype, or one of them requires grad.
    """
    if source is None:
        return resize_(self, 0)
    if source.dtype != self.dtype:
        raise RuntimeError(f"set_: expected a source of dtype {self.dtype}, got {source.dtype}")
    if self.requires_grad or source.requires_grad:
        raise RuntimeError("set_: tensors that require grad cannot be set; use detach()")
    rebindings.count += 1
    self.array, self.storage, self.view_of = source.array, source.shared_storage(), source.view_of
    self.mark_changed()
    return self


def pin_memory(self: Tensor) -> Tensor:
    """The tensor itself: transfers do not need pinned memory."""
    return self


def share_memory_(self: Tensor) -> Tensor:
    """The tensor itself: data loaders put into shared memory what they pass on."""
    return self


def nothing(self: Tensor) -> None:
    """None."""


def never(self: Tensor) -> bool:
    """False: tensors are dense, stay on a device, and are neither quantised, pinned nor distributed."""
    return False


def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Every element replaced by what a Python function makes of it; slow, on the CPU, without derivatives.

    Raises:
        RuntimeError: it requires grad.
        TypeError: it lives on a GPU.
    """
    return _written("apply_", self, [callable(value) for value in _elements(self)])


def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """As :func:`apply_`, the function taking the elements of another tensor, broadcast, too."""
    pairs = zip(_elements(self), _elements(tensor.expand(self.shape)), strict=True)
    return _written("map_", self, [callable(a, b) for a, b in pairs])


def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """As :func:`map_`, with the elements of two other tensors."""
    triples = zip(_elements(self), *(_elements(other.expand(self.shape)) for other in (x, y)), strict=True)
    return _written("map2_", self, [callable(a, b, c) for a, b, c in triples])


def _elements(x: Tensor) -> list[Any]:
    return x.reshape(-1).tolist()


def _written(label: str, x: Tensor, values: list[Any]) -> Tensor:
    if x.requires_grad:
        raise RuntimeError(f"{label}: can't call it on a tensor that requires grad; use tensor.detach()")
    if x.is_cuda:
        raise TypeError(f"{label}: is only implemented on CPU tensors")
    x.array[...] = np.asarray(values).reshape(x.array.shape)
    x.mark_changed()
    return x


def typename(obj: Any) -> str:
    """The name of an object's type; of a tensor, that of its elements: ``nbdl.FloatTensor``."""
    if isinstance(obj, Tensor):
        return type_(obj)
    return f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")


def detach(input: Tensor) -> Tensor:
    """The same memory as a leaf that needs no gradient."""
    return input.detach()


def detach_(input: Tensor) -> Tensor:
    """Cut a tensor off from the graph in place."""
    return input.detach_()


def to_dlpack(tensor: Tensor) -> Any:
    """The capsule by which the memory of a tensor is handed to another library once."""
    return tensor.__dlpack__()
