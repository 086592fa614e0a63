"""Parameter and Buffer: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import empty


def _adopt(tensor: Tensor, data: Tensor | None) -> None:
    """Let ``tensor`` share the memory of ``data``, without its history.

    Raises:
        TypeError: ``data`` is no tensor.
    """
    if data is None:
        data = empty(0)
    if not isinstance(data, Tensor):
        raise TypeError(
            f"{type(tensor).__name__}: data must be a tensor or None, got {type(data).__name__}; "
            "make one with nbdl.tensor(...)"
        )
    tensor.array, tensor.storage = data.array, data.shared_storage()


class Parameter(Tensor):
    """A tensor that is trained: assigned to an attribute of a module, it is listed by ``parameters()``.

    Args:
        data: its value, whose memory is shared.
        requires_grad: whether gradients flow to it.

    Raises:
        TypeError: ``data`` is no tensor.
        RuntimeError: a gradient is required of elements that are not floats.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Parameter(nbdl.zeros(2)).requires_grad
        True
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        _adopt(self, data)
        self.requires_grad_(requires_grad)


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained, such as a running mean.

    Args:
        data: its value, whose memory is shared.
        persistent: whether it is a part of the module's ``state_dict``.

    Raises:
        TypeError: ``data`` is no tensor.
    """

    persistent: bool = True

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True):
        _adopt(self, data)
        self.persistent = persistent

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (*super().__reduce_ex__(protocol), {"persistent": self.persistent})
