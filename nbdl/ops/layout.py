"""Shapes by other names: axes exchanged, added and split; windows on memory; shapes without tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tensor import Size, Tensor, made
from nbdl.backend.device import device_of, module_for
from nbdl.ops.index_writing import index_add
from nbdl.ops.joining import (
    at_least,
    chunk,
    hstack,
    split,
    split_with_sizes,
    tensor_list,
    tensor_split,
    vstack,
)
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.primitive import View, broadcast_error, normalize_axis, sizes_of
from nbdl.ops.reduction import sum_to
from nbdl.ops.shape import movedim, transpose, view

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = [
    "as_strided", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_shapes", "column_stack", "dsplit",
    "hsplit", "moveaxis", "narrow_copy", "numel", "row_stack", "swapaxes", "swapdims",
    "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "vsplit",
]  # fmt: skip


# ------------------------------------------------------------------------------------------ windows on memory
class AsStrided(View):
    """A window on a row-major array: element (i, j) is its number offset + i * stride[0] + j * stride[1]."""

    name = "as_strided"

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...], offset: int):
        super().__init__(size=size, stride=stride, offset=offset)
        self.size, self.stride, self.offset = size, stride, offset

    def view(self, array: Any) -> Any:
        """The window, which must not be one on a copy."""
        if not array.flags.c_contiguous:
            raise RuntimeError(
                "as_strided: the tensor must be contiguous, in vmap with all examples; use contiguous()"
            )
        flat = array.reshape(-1)[self.offset :]
        steps = tuple([step * array.itemsize for step in self.stride])
        return module_for(device_of(array)).lib.stride_tricks.as_strided(flat, self.size, steps)

    def behind(self, size: int, shape: tuple[int, ...]) -> tuple[View, ...]:
        """The windows on all examples, one example apart."""
        return (AsStrided.of((size, *self.size), (math.prod(shape), *self.stride), self.offset),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Added up in the places that the elements came from, which may be the same ones."""
        (gradient,) = gradients
        assert gradient is not None
        places = np.full(self.size, self.offset, np.int64)
        for axis, (n, step) in enumerate(zip(self.size, self.stride, strict=True)):
            places += (np.arange(n) * step).reshape([n if k == axis else 1 for k in range(len(self.size))])
        index = made(module_for(device_of(gradient.array)).asarray(places.reshape(-1)))
        shape = node.shape(0)
        total = gradient.new_zeros(int(np.prod(shape, dtype=int)))
        return (index_add(total, 0, index, gradient.reshape(-1)).reshape(shape),)


class Windows(View):
    """All windows of some elements along an axis, in a new last axis.

    Args:
        axis: the axis, not negative.
        size: elements of a window.
        step: from one window to the next.
    """

    name = "windows"

    def __init__(self, axis: int, size: int, step: int):
        super().__init__(axis=axis, size=size, step=step)
        self.axis, self.size, self.step = axis, size, step

    def view(self, array: Any) -> Any:
        """The windows."""
        axis, shape, strides = self.axis, array.shape, array.strides
        count = (shape[axis] - self.size) // self.step + 1
        return module_for(device_of(array)).lib.stride_tricks.as_strided(
            array,
            (*shape[:axis], count, *shape[axis + 1 :], self.size),
            (*strides[:axis], strides[axis] * self.step, *strides[axis + 1 :], strides[axis]),
        )

    def behind(self, size: int, shape: tuple[int, ...]) -> tuple[View, ...]:
        """Along the next axis."""
        return (Windows.of(self.axis + 1, self.size, self.step),)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Added up in the places that the elements came from."""
        (gradient,) = gradients
        assert gradient is not None
        axis, shape = self.axis, node.shape(0)
        count = gradient.array.shape[axis]
        places = (np.arange(count)[:, None] * self.step + np.arange(self.size)).reshape(-1)
        index = made(module_for(device_of(gradient.array)).asarray(places))
        rows = movedim(gradient, -1, axis + 1).reshape((*shape[:axis], len(places), *shape[axis + 1 :]))
        return (index_add(gradient.new_zeros(shape), axis, index, rows),)


def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the memory of ``input`` with other sizes and strides (in elements).

    Args:
        input: a contiguous tensor; its own elements are the memory, from its first one on.
        size: the shape of the view.
        stride: for every axis the distance between neighbours.
        storage_offset: where the first element is; None: 0.

    Raises:
        RuntimeError: the tensor is not contiguous, strides are negative or do not match the sizes, or the
            view reaches beyond the end.
    """
    sizes, steps = sizes_of("as_strided", (tuple(size),)), sizes_of("as_strided", (tuple(stride),))
    offset = storage_offset or 0
    if len(sizes) != len(steps) or min((*steps, offset), default=0) < 0:
        raise RuntimeError(f"as_strided: mismatch in length, or negative: size {sizes}, stride {steps}")
    last = offset + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if 0 not in sizes and last >= input.array.size:
        raise RuntimeError(
            f"as_strided: size {sizes}, stride {steps} and offset {offset} reach element {last} of a tensor "
            f"with {input.array.size}"
        )
    return AsStrided.of(sizes, steps, offset)(input)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of all windows of ``size`` elements along an axis, ``step`` apart, in a new last axis.

    Returns:
        (n - size) // step + 1 windows in the place of n elements.

    Raises:
        RuntimeError: ``size`` exceeds the axis or is negative, or ``step`` is not positive.
        IndexError: the axis is out of range.
    """
    axis = normalize_axis("unfold", dimension, input.array.ndim)
    x = input if input.array.ndim else input.reshape(1)
    n = x.array.shape[axis]
    if not 0 <= size <= n:
        raise RuntimeError(f"unfold: maximum size for tensor at dimension {axis} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"unfold: step is {step} but must be > 0")
    windows = Windows.of(axis, size, step)(x)
    return windows if input.array.ndim else windows.squeeze(0)


# In PyTorch these leave out that a change of one part shows in the others.
unsafe_chunk, unsafe_split, unsafe_split_with_sizes = chunk, split, split_with_sizes


# ------------------------------------------------------------------------------------------------ axes
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two axes exchanged; a view."""
    return transpose(input, axis0, axis1)


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged; a view."""
    return transpose(input, dim0, dim1)


def moveaxis(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Another name of :func:`nbdl.movedim`."""
    return movedim(input, source, destination)


@numpy_keywords
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """:func:`nbdl.narrow` as a copy."""
    return input.narrow(dim, start, length).clone()


def _each(label: str, tensors: tuple[Any, ...], ndim: int) -> Any:
    """One tensor, or a tuple of several, with at least ``ndim`` axes."""
    if len(tensors) == 1 and isinstance(tensors[0], Tensor):
        return at_least(tensors[0], ndim)
    sequence = tensors[0] if len(tensors) == 1 else tensors
    return tuple(at_least(x, ndim) for x in tensor_list(label, sequence))


def atleast_1d(*tensors: Any) -> Any:
    """Tensors (given one by one or as a sequence) with at least one axis; a tuple where there are several."""
    return _each("atleast_1d", tensors, 1)


def atleast_2d(*tensors: Any) -> Any:
    """Tensors with at least two axes, new ones in front."""
    return _each("atleast_2d", tensors, 2)


def atleast_3d(*tensors: Any) -> Any:
    """Tensors with at least three axes: a vector becomes (1, n, 1), a matrix (m, n, 1)."""
    return _each("atleast_3d", tensors, 3)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Columns side by side: vectors become columns, then as :func:`nbdl.hstack`."""
    columns = tensor_list("column_stack", tensors)
    return hstack([x.reshape(x.array.size, 1) if x.array.ndim < 2 else x for x in columns])


def row_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Another name of :func:`nbdl.vstack`."""
    return vstack(tensors)


def _split(label: str, input: Tensor, sections: Any, dim: int, ndim: int) -> tuple[Tensor, ...]:
    if input.array.ndim < ndim:
        raise RuntimeError(
            f"{label}: requires a tensor with at least {ndim} dimension, but got a tensor with "
            f"{input.array.ndim} dimensions!"
        )
    n = input.array.shape[dim]
    if isinstance(sections, int) and (sections < 1 or n % sections):
        raise RuntimeError(
            f"{label}: attempted to split along dimension {dim}, but the size of the dimension {n} is not "
            f"divisible by the split_size {sections}!"
        )
    return tensor_split(input, sections, dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts that begin at the given indices, along axis 1 (of vectors 0).

    Raises:
        RuntimeError: 0-d, or a size that the number of parts does not divide.
    """
    return _split("hsplit", input, indices_or_sections, 0 if input.array.ndim == 1 else 1, 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """As :func:`hsplit` along axis 0.

    Raises:
        RuntimeError: fewer than 2 axes, or a size that the number of parts does not divide.
    """
    return _split("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """As :func:`hsplit` along axis 2.

    Raises:
        RuntimeError: fewer than 3 axes, or a size that the number of parts does not divide.
    """
    return _split("dsplit", input, indices_or_sections, 2, 3)


# ---------------------------------------------------------------------------------------- shapes like others
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Expanded to the shape of ``other``."""
    return input.expand(other.array.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """In the shape of ``other``."""
    return input.reshape(other.array.shape)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of ``other``."""
    return view(input, other.array.shape)


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed over the axes that broadcasting from ``size`` would add.

    Raises:
        RuntimeError: ``size`` cannot be broadcast to the tensor's shape.
    """
    shape = sizes_of("sum_to_size", size)
    try:
        fits = np.broadcast_shapes(shape, input.array.shape) == tuple(input.array.shape)
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(
            f"sum_to_size: size {list(shape)} is not expandable to size {list(input.array.shape)}."
        )
    return sum_to(input, shape)


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that shapes broadcast to.

    Raises:
        RuntimeError: they do not broadcast.
    """
    sizes = [(shape,) if isinstance(shape, int) else tuple(shape) for shape in shapes]
    try:
        return Size(np.broadcast_shapes(*sizes))
    except ValueError:
        raise broadcast_error("broadcast_shapes", sizes) from None


def numel(input: Tensor) -> int:
    """The number of elements."""
    return input.numel()
