"""How tensors lie in memory: the one layout there is, and the memory that views share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbdl.autograd.tensor import Tensor

if TYPE_CHECKING:
    from nbdl.backend.device import Device

__all__ = ["UntypedStorage", "layout", "strided"]


class layout:
    """A kind of layout; :data:`strided` is the only one, for all tensors are dense."""

    def __init__(self, name: str):
        self._name = name

    def __repr__(self) -> str:
        return f"nbdl.{self._name}"


strided = layout("strided")


class UntypedStorage:
    """The memory of a tensor that is no view, in bytes; views have that of their base.

    Example:
        >>> import nbdl
        >>> x = nbdl.ones(2, 2)
        >>> x[1].untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        True
        >>> x[1].untyped_storage().nbytes()
        16
    """

    def __init__(self, owner: Tensor):
        self._owner = owner

    def nbytes(self) -> int:
        """Number of bytes."""
        return self._owner.nbytes

    size = __len__ = nbytes

    def data_ptr(self) -> int:
        """Address of the first byte."""
        return self._owner.data_ptr()

    @property
    def device(self) -> Device:
        """Where the memory is."""
        return self._owner.device

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, UntypedStorage) and self.data_ptr() == other.data_ptr()

    def __hash__(self) -> int:
        return hash(self.data_ptr())


def base(self: Tensor) -> Tensor | None:
    """The tensor whose memory this view is a window on; None if it is no view."""
    return None if self.view_of is None else self.view_of[0]


def is_view(self: Tensor) -> bool:
    """Whether it is a view of another tensor."""
    return self.view_of is not None


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory that it shares with its base and all views of it."""
    return UntypedStorage(self if self.view_of is None else self.view_of[0])
