"""Windows of images as columns, and columns added up as images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbdl.autograd.tape import apply
from nbdl.backend.windows import Sizes
from nbdl.ops.batching import over_merged_axes
from nbdl.ops.primitive import LinearMap

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class _Windows(LinearMap):
    """A linear map between images (N, C, *size) and columns (N, C * taps, windows).

    Args:
        size: spatial sizes of the images.
        kernel: sizes of the window.
        stride: distances of neighbouring windows.
        padding: zeros around the images.
        dilation: distances of neighbouring taps.
        counts: numbers of windows.
    """

    batch = over_merged_axes
    transpose: type[_Windows]

    def __init__(
        self, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes
    ):
        super().__init__(
            size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation, counts=counts
        )

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The transpose."""
        (g,) = gradients
        assert g is not None
        return (apply(self.transpose.of(**self.params), g.contiguous()),)


class ColumnsOfWindows(_Windows):
    """``columns_of_windows(x)``: every window as a column."""

    name = "columns_of_windows"


class WindowsOfColumns(_Windows):
    """``windows_of_columns(y)``: columns added up where they came from."""

    name = "windows_of_columns"
    transpose = ColumnsOfWindows


ColumnsOfWindows.transpose = WindowsOfColumns
