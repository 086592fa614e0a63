"""Padding of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.module import Module
from nbdl.nn.settings import per_axis


class _Pad(Module):
    _dims: ClassVar[int]
    _mode: ClassVar[str]

    def __init__(self, padding: int | Sequence[int]):
        super().__init__()
        self.padding = per_axis(type(self).__name__, "padding", padding, 2 * self._dims)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode=self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode="constant", value=self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """One value around the last axis; arguments as in :class:`ConstantPad2d`."""

    _dims = 1


class ConstantPad2d(_ConstantPad):
    """One value around the last two axes.

    Args:
        padding: width on every side, or one width a side: left, right, top, bottom.
        value: the value.
    """

    _dims = 2


class ConstantPad3d(_ConstantPad):
    """One value around the last three axes; arguments as in :class:`ConstantPad2d`, then front and back."""

    _dims = 3


class _ZeroPad(_Pad):
    _mode = "constant"


class ZeroPad1d(_ZeroPad):
    """Zeros around the last axis; padding as in :class:`ConstantPad2d`."""

    _dims = 1


class ZeroPad2d(_ZeroPad):
    """Zeros around the last two axes; padding as in :class:`ConstantPad2d`."""

    _dims = 2


class ZeroPad3d(_ZeroPad):
    """Zeros around the last three axes; padding as in :class:`ConstantPad2d`, then front and back."""

    _dims = 3


class _ReflectionPad(_Pad):
    _mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """The last axis mirrored at its ends, which are not repeated; padding as in :class:`ConstantPad2d`."""

    _dims = 1


class ReflectionPad2d(_ReflectionPad):
    """The last two axes mirrored at the ends, these not repeated; padding as in :class:`ConstantPad2d`."""

    _dims = 2


class ReflectionPad3d(_ReflectionPad):
    """The last three axes mirrored at the ends, these not repeated; padding as in :class:`ConstantPad3d`."""

    _dims = 3


class _ReplicationPad(_Pad):
    _mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """The ends of the last axis repeated; padding as in :class:`ConstantPad2d`."""

    _dims = 1


class ReplicationPad2d(_ReplicationPad):
    """The ends of the last two axes repeated; padding as in :class:`ConstantPad2d`."""

    _dims = 2


class ReplicationPad3d(_ReplicationPad):
    """The ends of the last three axes repeated; padding as in :class:`ConstantPad3d`."""

    _dims = 3


class _CircularPad(_Pad):
    _mode = "circular"


class CircularPad1d(_CircularPad):
    """The last axis continued as a ring; padding as in :class:`ConstantPad2d`."""

    _dims = 1


class CircularPad2d(_CircularPad):
    """The last two axes continued as rings; padding as in :class:`ConstantPad2d`."""

    _dims = 2


class CircularPad3d(_CircularPad):
    """The last three axes continued as rings; padding as in :class:`ConstantPad3d`."""

    _dims = 3
