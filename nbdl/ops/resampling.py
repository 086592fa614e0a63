"""Weighted sums of a few elements along an axis: interpolation, and frames that repeat elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.backend.resampling import Taps
from nbdl.ops.batching import along_shifted_axis
from nbdl.ops.primitive import LinearMap
from nbdl.ops.shape import contiguous

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class Resample(LinearMap):
    """A sparse linear map along an axis; its adjoint is another one.

    Args:
        axis: the axis.
        taps: which elements are added up.
    """

    name = "resample"

    def __init__(self, axis: int, taps: Taps):
        super().__init__(axis=axis, taps=taps)
        self.axis, self.taps = axis, taps

    batch = along_shifted_axis

    def shifted(self) -> LinearMap:
        """Along the next axis."""
        return Resample.of(self.axis + 1, self.taps)

    def check(self, *arrays: Any) -> None:
        """The axis must have the length that the map is for."""
        (x,) = arrays
        if x.shape[self.axis] != self.taps.length:
            raise RuntimeError(
                f"resample: axis {self.axis} must have {self.taps.length} elements, got {tuple(x.shape)}"
            )

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The adjoint map."""
        (gradient,) = gradients
        assert gradient is not None
        return (resample(gradient, self.axis, self.taps.transposed),)


def resample(x: Tensor, axis: int, taps: Taps) -> Tensor:
    """Weighted sums along an axis, counted from the front."""
    return Resample.of(axis, taps)(contiguous(x))
