"""``FloatTensor`` and the like: constructors of tensors of one dtype, as in old programs."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import constructed

__all__ = [
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor",
    "LongTensor", "ShortTensor",
]  # fmt: skip


class _TensorType(type):
    """A class of tensors that differ from others by their dtype only."""

    _dtype: str

    def __call__(cls, *data: Any) -> Tensor:
        return Tensor(constructed(cls.__name__, data, cls._dtype))

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype.name == cls._dtype


def _type(name: str, dtype: str) -> Any:
    doc = f"``{name}([1, 2])`` or ``{name}(2, 3)``: a {dtype} tensor of data, or of sizes."
    return _TensorType(name, (), {"_dtype": dtype, "__doc__": doc, "__module__": __name__})


BoolTensor = _type("BoolTensor", "bool")
ByteTensor = _type("ByteTensor", "uint8")
CharTensor = _type("CharTensor", "int8")
DoubleTensor = _type("DoubleTensor", "float64")
FloatTensor = _type("FloatTensor", "float32")
HalfTensor = _type("HalfTensor", "float16")
IntTensor = _type("IntTensor", "int32")
LongTensor = _type("LongTensor", "int64")
ShortTensor = _type("ShortTensor", "int16")
