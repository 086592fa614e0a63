"""``Variable``, which old programs wrap around tensors."""

from __future__ import annotations

from nbdl.autograd.tensor import Tensor


class _VariableType(type):
    """Every tensor is a variable."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, Tensor)

    def __call__(cls, data: Tensor, requires_grad: bool = False) -> Tensor:
        return data.detach().requires_grad_(requires_grad)


class Variable(metaclass=_VariableType):
    """``Variable(tensor, requires_grad=False)``: the same memory as a leaf."""
