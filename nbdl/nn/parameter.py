"""Parameter and Buffer: tensors that a module registers when they are assigned to it.

Either may be there before its shape is known, see :mod:`nbdl.nn.lazy`.
"""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Size, Tensor
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


class Uninitialized(Tensor):
    """A tensor whose shape is not known yet, so that who asks for it gets a RuntimeError."""

    @property
    def shape(self) -> Size:
        """Not known yet.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            f"{type(self).__name__}: the shape is not known yet; call the module once, so that it is, "
            "or give it one by materialize(shape)"
        )

    def size(self, dim: int | None = None) -> Any:
        """That of a tensor without elements, as PyTorch has it."""
        return Size(self.array.shape) if dim is None else self.array.shape[dim]

    def numel(self) -> int:
        """Not known yet.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__}: the number of elements is not known yet; call the module once, so "
            "that it is"
        )

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Give it a shape, and memory that holds nothing yet; it is then an ordinary parameter or buffer."""
        device, dtype = device or self.device, dtype or self.dtype
        self.data = empty(tuple(shape), device=device, dtype=dtype)
        self.__class__ = type(self).__mro__[2]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(Uninitialized, Parameter):
    """A parameter whose shape is not known yet; see :class:`LazyLinear`."""

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        Parameter.__init__(self, empty(0, device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(Uninitialized, Buffer):
    """A buffer whose shape is not known yet; see :class:`LazyBatchNorm1d`."""

    def __init__(
        self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ):
        Buffer.__init__(self, empty(0, device=device, dtype=dtype), persistent=persistent)


def is_lazy(param: Any) -> bool:
    """Whether the shape of a parameter or buffer is not known yet."""
    return isinstance(param, Uninitialized)
