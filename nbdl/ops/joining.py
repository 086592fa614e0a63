"""Joining and splitting: cat, stack, split, unbind."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from operator import index as as_int
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.batching import apply_batched
from nbdl.autograd.tape import apply, wrap
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.batching import along_shifted_axis
from nbdl.ops.copying import ViewScatter
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.primitive import NOTHING, Primitive, View, normalize_axis
from nbdl.ops.shape import narrow, unsqueeze
from nbdl.ops.views import Slice

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = [
    "cat", "chunk", "concat", "concatenate", "dstack", "hstack", "split", "split_with_sizes", "stack",
    "tensor_split", "unbind", "vstack",
]  # fmt: skip

WHOLE = (None, None, None)


class Concatenate(Primitive):
    """Operands of one dtype joined along an axis.

    Args:
        axis: the axis, not negative.
        sizes: length of every operand along it.
    """

    name = "concatenate"
    saved = NOTHING

    def __init__(self, axis: int, sizes: tuple[int, ...]):
        super().__init__(axis=axis)
        self.axis, self.sizes = axis, sizes
        self.label = "cat"

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Joined along the next axis."""
        return Concatenate.of(self.axis + 1, self.sizes)

    def check(self, *arrays: Any) -> None:
        """All axes but one must agree."""
        first = arrays[0]
        for k, array in enumerate(arrays):
            if array.ndim != first.ndim:
                raise RuntimeError(
                    f"cat: tensors must have the same number of dimensions, got {first.ndim} and "
                    f"{array.ndim} "
                    f"(tensor number {k})"
                )
            for axis, (n, wanted) in enumerate(zip(array.shape, first.shape)):
                if axis != self.axis and n != wanted:
                    raise RuntimeError(
                        f"cat: sizes of tensors must match except in dimension {self.axis}: expected size "
                        f"{wanted} but "
                        f"got size {n} in dimension {axis} of tensor number {k}"
                    )

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The parts of the gradient."""
        (gradient,) = gradients
        assert gradient is not None
        results: list[Tensor | None] = []
        start = 0
        for k, size in enumerate(self.sizes):
            results.append(narrow(gradient, self.axis, start, size) if node.needs_grad(k) else None)
            start += size
        return results

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangents joined."""
        return (self(*[x.zeros_like() if t is None else t for x, t in zip(inputs, tangents)]),)


class Split(View):
    """Consecutive windows along one axis: one operation with several results, so its gradient is one join.

    Args:
        axis: the axis, not negative.
        sizes: length of every window.
        drop: windows have length 1, and lose the axis.
    """

    name = "split"

    def __init__(self, axis: int, sizes: tuple[int, ...], drop: bool = False):
        super().__init__(axis=axis, sizes=sizes, drop=drop)
        self.axis, self.drop = axis, drop
        front = (WHOLE,) * axis
        stops = np.cumsum(sizes, dtype=np.int64).tolist()
        self.windows = tuple(
            Slice.of((*front, stop - size if drop else (stop - size, stop, None)))
            for stop, size in zip(stops, sizes)
        )

    def view(self, array: Any) -> Any:
        """The windows."""
        return tuple([window.view(array) for window in self.windows])

    def behind(self, size: int, shape: tuple[int, ...]) -> tuple[View, ...]:
        """Windows along the next axis."""
        return (Split.of(self.axis + 1, self.params["sizes"], self.drop),)

    def __call__(self, *inputs: Tensor) -> Any:
        """Make the views, and record. To in-place changes each one looks like a slice."""
        (x,) = inputs
        if x.batch is not None:
            results = apply_batched(self, inputs, x.batch.level)
        else:
            results = wrap(self, inputs, self.view(x.array))
        base, primitives = x.view_of or (x, ())
        for result, window in zip(results, self.windows):
            result.view_of = (base, (*primitives, window))
            if base.storage is not None:
                result.storage, result.view_time = base.storage, base.storage.changed
        return results

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradients joined, zeros where a window was not used."""
        given = [(k, gradient) for k, gradient in enumerate(gradients) if gradient is not None]
        if len(given) == 1:
            ((k, gradient),) = given
            return (ViewScatter.of((self.windows[k],), node.shape(0))(gradient),)
        some = given[0][1]
        parts = [
            some.new_zeros(node.specs[k][0]) if gradient is None else gradient
            for k, gradient in enumerate(gradients)
        ]
        return (stack(parts, self.axis) if self.drop else cat(parts, self.axis),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The windows of the tangent."""
        return self(tangents[0])  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- joining
def tensor_list(label: str, tensors: Any, of_none: type[Exception] = ValueError) -> list[Tensor]:
    """The sequence as a list, checked; ``of_none`` is the error where it is empty."""
    if isinstance(tensors, Tensor):
        raise TypeError(f"{label}: argument 'tensors' must be a sequence of tensors, got one tensor")
    found = list(tensors)
    for k, tensor in enumerate(found):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{label}: expected a tensor as element {k} of argument 'tensors', got "
                f"{type(tensor).__name__}"
            )
    if not found:
        raise of_none(f"{label}: expected a non-empty sequence of tensors")
    return found


def _same_dtype(tensors: list[Tensor]) -> list[Tensor]:
    found = {tensor.array.dtype for tensor in tensors}
    if len(found) == 1:
        return tensors
    wanted = functools.reduce(dtypes.promote, found)
    return [tensor if tensor.array.dtype == wanted else tensor.to(wanted) for tensor in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors one after the other along ``dim``; their dtypes are promoted.

    Args:
        tensors: their shapes differ at most in ``dim``; 1-D tensors without elements are passed over.
        dim: the axis.
        axis: another name of ``dim``.

    Raises:
        RuntimeError: shapes do not fit, or a tensor has no axes.
        ValueError: there are none.

    Example:
        >>> import nbdl
        >>> nbdl.cat([nbdl.tensor([1, 2]), nbdl.tensor([3])])
        tensor([1, 2, 3])
    """
    found = _same_dtype(tensor_list("cat", tensors))
    for k, tensor in enumerate(found):
        if tensor.array.ndim == 0:
            raise RuntimeError(
                f"cat: zero-dimensional tensor (at position {k}) cannot be concatenated; use stack()"
            )
    joined = [tensor for tensor in found if tensor.array.shape != (0,)] or found[:1]
    ndim = joined[0].array.ndim
    position = normalize_axis("cat", dim if axis is None else axis, ndim)
    sizes = tuple([tensor.array.shape[position] if tensor.array.ndim == ndim else 0 for tensor in joined])
    return apply(Concatenate.of(position, sizes), *joined)


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors of one shape along a new axis.

    Raises:
        RuntimeError: the shapes differ.
        ValueError: there are none.

    Example:
        >>> import nbdl
        >>> nbdl.stack([nbdl.tensor([1, 2]), nbdl.tensor([3, 4])])
        tensor([[1, 2],
                [3, 4]])
    """
    found = tensor_list("stack", tensors, RuntimeError)
    shape = found[0].array.shape
    for k, tensor in enumerate(found):
        if tensor.array.shape != shape:
            raise RuntimeError(
                f"stack: expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                f"{list(tensor.array.shape)} at entry {k}"
            )
    position = normalize_axis("stack", dim if axis is None else axis, len(shape) + 1)
    found = _same_dtype(found)
    if position == len(shape):
        rows = [unsqueeze(tensor, position) for tensor in found]
        return apply(Concatenate.of(position, (1,) * len(found)), *rows)
    joined = apply(Concatenate.of(position, (shape[position],) * len(found)), *found)
    return joined.reshape((*shape[:position], len(found), *shape[position:]))


def at_least(x: Tensor, ndim: int) -> Tensor:
    """``x`` with axes of length 1: in front up to two, a third one at the end."""
    while x.array.ndim < min(ndim, 2):
        x = unsqueeze(x, 0)
    return unsqueeze(x, 2) if x.array.ndim < ndim else x


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined horizontally: along axis 1, vectors along axis 0.

    Example:
        >>> import nbdl
        >>> nbdl.hstack([nbdl.tensor([1, 2]), nbdl.tensor([3])])
        tensor([1, 2, 3])
    """
    found = [at_least(tensor, 1) for tensor in tensor_list("hstack", tensors, RuntimeError)]
    return cat(found, 0 if found[0].array.ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined vertically: along axis 0, vectors being rows.

    Example:
        >>> import nbdl
        >>> nbdl.vstack([nbdl.tensor([1, 2]), nbdl.tensor([3, 4])])
        tensor([[1, 2],
                [3, 4]])
    """
    return cat([at_least(tensor, 2) for tensor in tensor_list("vstack", tensors, RuntimeError)], 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along axis 2, matrices having one layer."""
    return cat([at_least(tensor, 3) for tensor in tensor_list("dstack", tensors, RuntimeError)], 2)


# ------------------------------------------------------------------------------------------------ splitting
def split_axis(label: str, x: Tensor, dim: int) -> tuple[int, int]:
    """The axis and its length."""
    if x.array.ndim == 0:
        raise RuntimeError(f"{label}: expects at least a 1-dimensional tensor, got a 0-dimensional one")
    axis = normalize_axis(label, dim, x.array.ndim)
    return axis, x.array.shape[axis]


@numpy_keywords
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of an axis.

    Args:
        tensor: the tensor.
        split_size_or_sections: the length of every piece (the last may be shorter), or all lengths.
        dim: the axis.

    Raises:
        RuntimeError: the lengths do not add up to the size of the axis, or are negative.

    Example:
        >>> import nbdl
        >>> nbdl.split(nbdl.arange(5), 2)
        (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    axis, n = split_axis("split", tensor, dim)
    if isinstance(split_size_or_sections, Sequence):
        sizes = tuple([int(size) for size in split_size_or_sections])
        if sum(sizes) != n or min(sizes, default=0) < 0:
            raise RuntimeError(
                f"split: sections {list(sizes)} must be non-negative and add up to {n}, the size of dim "
                f"{axis}"
            )
        return Split.of(axis, sizes)(tensor)
    size = as_int(split_size_or_sections)
    if size < 0 or (size == 0 and n):
        raise RuntimeError(f"split: split_size must be positive, got {size}")
    count = math.ceil(n / size) if n else 1
    return Split.of(axis, (*(size,) * (count - 1), n - size * (count - 1)))(tensor)


@numpy_keywords
def split_with_sizes(tensor: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of the given lengths; see :func:`split`."""
    return split(tensor, tuple(split_sizes), dim)


@numpy_keywords
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` views of equal length, the last one shorter if need be.

    Raises:
        RuntimeError: ``chunks`` is not positive.

    Example:
        >>> import nbdl
        >>> nbdl.chunk(nbdl.arange(5), 2)
        (tensor([0, 1, 2]), tensor([3, 4]))
    """
    axis, n = split_axis("chunk", input, dim)
    if chunks <= 0:
        raise RuntimeError(f"chunk: expects chunks to be greater than 0, got {chunks}")
    if n == 0:
        return Split.of(axis, (0,) * chunks)(input)
    return split(input, math.ceil(n / chunks), axis)


@numpy_keywords
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views between the given indices, or a number of views whose lengths differ by at most 1.

    Raises:
        RuntimeError: the number of sections is not positive.

    Example:
        >>> import nbdl
        >>> nbdl.tensor_split(nbdl.arange(5), [1, 3])
        (tensor([0]), tensor([1, 2]), tensor([3, 4]))
    """
    axis, n = split_axis("tensor_split", input, dim)
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        sections = indices_or_sections
        if sections <= 0:
            raise RuntimeError(f"tensor_split: number of sections must be larger than 0, got {sections}")
        small, larger = divmod(n, sections)
        return Split.of(axis, (small + 1,) * larger + (small,) * (sections - larger))(input)
    bounds = [0, *[slice(None, index).indices(n)[1] for index in indices_or_sections], n]
    return tuple([narrow(input, axis, start, max(0, stop - start)) for start, stop in pairwise(bounds)])


@numpy_keywords
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of all positions along ``dim``, which disappears.

    Raises:
        IndexError: there is no such axis.

    Example:
        >>> import nbdl
        >>> nbdl.unbind(nbdl.tensor([[1, 2], [3, 4]]))
        (tensor([1, 2]), tensor([3, 4]))
    """
    if input.array.ndim == 0:
        raise IndexError(f"unbind: dimension specified as {dim} but tensor has no dimensions")
    axis, n = split_axis("unbind", input, dim)
    return Split.of(axis, (1,) * n, True)(input)
