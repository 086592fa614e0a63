"""Primitives that share memory with their operand: other shapes, orders of axes, windows, diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.primitive import View, inverse_permutation
from nbdl.ops.reduction import sum_to

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

Shape = tuple[int, ...]


class Reshape(View):
    """The same elements in the same order under another shape; only for strides that allow it."""

    name = "reshape"

    def __init__(self, shape: Shape):
        super().__init__(shape=shape)
        self.shape = shape

    def view(self, array: Any) -> Any:
        """The reshaped window."""
        return array.reshape(self.shape)

    def behind(self, size: int, shape: Shape) -> tuple[View, ...]:
        """The other axes reshaped."""
        return (Reshape.of((size, *self.shape)),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Reshaped back."""
        (gradient,), shape = gradients, node.shape(0)
        assert gradient is not None
        if gradient.array.flags.c_contiguous:
            return (Reshape.of(shape)(gradient),)
        return (gradient.reshape(shape),)


class Permute(View):
    """Axes in another order."""

    name = "permute"

    def __init__(self, axes: tuple[int, ...]):
        super().__init__(axes=axes)
        self.axes = axes

    def view(self, array: Any) -> Any:
        """The transposed window."""
        return array.transpose(self.axes)

    def behind(self, size: int, shape: Shape) -> tuple[View, ...]:
        """The other axes permuted."""
        return (Permute.of((0, *[axis + 1 for axis in self.axes])),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The inverse order."""
        return (Permute.of(inverse_permutation(self.axes))(gradients[0]),)


class Expand(View):
    """Axes of length 1 repeated without a copy (stride 0), and new axes in front."""

    name = "expand"

    def __init__(self, shape: Shape):
        super().__init__(shape=shape)
        self.shape = shape

    def view(self, array: Any) -> Any:
        """The broadcast window."""
        if not isinstance(array, np.ndarray):
            import cupy

            return cupy.broadcast_to(array, self.shape)
        missing = len(self.shape) - array.ndim
        strides = (0,) * missing + tuple(
            0 if n == 1 and target != 1 else stride
            for n, target, stride in zip(array.shape, self.shape[missing:], array.strides, strict=True)
        )
        if array.flags.c_contiguous and array.size and array.dtype.isbuiltin == 1:
            return np.ndarray(self.shape, array.dtype, array, 0, strides)  # a tenth of the time of as_strided
        # NumPy's broadcast_to is read-only.
        return np.lib.stride_tricks.as_strided(array, self.shape, strides)

    def behind(self, size: int, shape: Shape) -> tuple[View, ...]:
        """New axes go behind the first."""
        new = len(self.shape) - len(shape)
        rows = Expand.of((size, *self.shape))
        return (Slice.of(((None, None, None), *[None] * new)), rows) if new else (rows,)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Summed over what was repeated."""
        return (sum_to(gradients[0], node.shape(0)),)  # type: ignore[arg-type]


class Slice(View):
    """Basic indexing: integers, slices, new axes, one entry an axis.

    Args:
        index: a tuple of ints, (start, stop, step) triples, None, and at most one Ellipsis.
    """

    name = "slice"

    def __init__(self, index: tuple):
        super().__init__(index=index)
        entries = tuple(slice(*entry) if isinstance(entry, tuple) else entry for entry in index)
        # With an Ellipsis NumPy gives a 0-d array where it would give a scalar.
        self.index = entries if Ellipsis in entries else (*entries, Ellipsis)

    def view(self, array: Any) -> Any:
        """The window; also for a 0-d result."""
        return array[self.index]

    def behind(self, size: int, shape: Shape) -> tuple[View, ...]:
        """The other axes indexed."""
        return (Slice.of(((None, None, None), *self.params["index"])),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient in its place among zeros."""
        from nbdl.ops.copying import ViewScatter

        return (ViewScatter.of((self,), node.shape(0))(gradients[0]),)


class Diagonal(View):
    """The diagonal of two axes as a new last axis."""

    name = "diagonal"

    def __init__(self, offset: int, axis1: int, axis2: int):
        super().__init__(offset=offset, axis1=axis1, axis2=axis2)

    def view(self, array: Any) -> Any:
        """The diagonal; NumPy's is read-only until asked for."""
        window = array.diagonal(self.params["offset"], self.params["axis1"], self.params["axis2"])
        if isinstance(array, np.ndarray):
            window.flags.writeable = array.flags.writeable
        return window

    def behind(self, size: int, shape: Shape) -> tuple[View, ...]:
        """The diagonal of the next axes."""
        offset, a, b = self.params["offset"], self.params["axis1"], self.params["axis2"]
        return (Diagonal.of(offset, a + 1, b + 1),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient on the diagonal of a zero matrix."""
        from nbdl.ops.copying import ViewScatter

        return (ViewScatter.of((self,), node.shape(0))(gradients[0]),)
