"""Elements at computed places, and where elements are: index tensors along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.bags import EmbeddingBagInput
from nbdl.ops.batching import aligned, repeated
from nbdl.ops.creation import arange
from nbdl.ops.joining import stack
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.primitive import (
    LinearMap,
    Primitive,
    inverse_permutation,
    normalize_axis,
)
from nbdl.ops.reduction import sum_to
from nbdl.ops.shape import select

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

__all__ = [
    "argwhere", "index_select", "nonzero", "nonzero_static", "take", "take_rows", "unravel_index",
]  # fmt: skip


def check_range(label: str, index: Any, axis: int, size: int, error: type[Exception] = IndexError) -> None:
    """Indices must lie in [-size, size); read on the CPU only, where it waits for nobody.

    Raises:
        IndexError: one does not (or another ``error``).
    """
    if not isinstance(index, np.ndarray) or not index.size:
        return
    low, high = int(index.min()), int(index.max())
    if low < -size or high >= size:
        raise error(
            f"{label}: index {low if low < -size else high} is out of bounds for dimension {axis} with size "
            f"{size}"
        )


class Index(LinearMap):
    """The operand at index tensors, one for each of ``axes``."""

    name = "index"
    saved = frozenset(range(1, 64))

    def __init__(self, axes: tuple[int, ...]):
        super().__init__(axes=axes)
        self.axes = axes

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """One more axis to index, by the number of the example, unless the index is the same in all."""
        x, *indices = values
        rank = x.array.ndim - flags[0]
        if not any(flags[1:]) and _together(self.axes):
            return Index.of(tuple([axis + 1 for axis in self.axes]))(x, *indices)
        (x,) = repeated((x,), flags[:1], level)
        places = _places_of_examples(indices, flags[1:], level)
        picked = Index.of(tuple(range(len(self.axes) + 1)))(_indexed_first(x, self.axes), *places)
        # (examples, index axes, rest): put the index axes where one example has them.
        return _indices_moved(picked, rank - len(self.axes), self.axes, back=True)

    def check(self, *arrays: Any) -> None:
        """Indices broadcast with each other."""
        x, *indices = arrays
        _check_indices(self.label, x, indices, self.axes)

    def check_values(self, *arrays: Any) -> None:
        """Indices lie inside their axes."""
        x, *indices = arrays
        _check_ranges(self.label, x, indices, self.axes)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient added up where the elements came from."""
        (gradient,) = gradients
        indices = [node.input(k) for k in range(1, len(node.edges))]
        assert gradient is not None
        if self._is_a_table(node, gradient, indices[0]):
            return apply(EmbeddingBagInput.of(False, None, node.shape(0)[0]), gradient, indices[0]), None
        zeros = gradient.new_zeros(node.shape(0))
        added = apply_in_place(IndexPut.of(self.axes, True), zeros, gradient, *indices)
        return added, *[None] * len(indices)

    def _is_a_table(self, node: Node, gradient: Tensor, index: Tensor) -> bool:
        """Whether rows of a table were read one by one, as an embedding does, on the CPU."""
        is_plain = isinstance(gradient.array, np.ndarray) and not mode.batch_levels
        return is_plain and self.axes == (0,) and len(node.shape(0)) == 2 and index.array.ndim == 1


class IndexPut(Primitive):
    """Operand 0 with operand 1 written, or added, at index tensors, one for each of ``axes``."""

    name = "index_put"
    saved = frozenset(range(2, 64))

    def __init__(self, axes: tuple[int, ...], accumulate: bool):
        super().__init__(axes=axes, accumulate=accumulate)
        self.axes, self.accumulate = axes, accumulate

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """One more axis to index, by the number of the example."""
        x, source, *indices = values
        (x,) = repeated((x,), flags[:1], level)
        places = _places_of_examples(indices, flags[2:], level)
        rest = x.array.ndim - 1 - len(self.axes)
        indexed = np.broadcast_shapes(*[place.array.shape for place in places])
        selected = (level.size, *_selected_shape(x.array.shape[1:], indexed[1:], self.axes))
        source = aligned((source, x.new_zeros(selected)), (flags[1], True))[0].expand(selected)
        moved = _indices_moved(source, rest, self.axes, back=False)
        first = _indexed_first(x, self.axes)
        put = IndexPut.of(tuple(range(len(self.axes) + 1)), self.accumulate)
        return put(first, moved, *places).permute(inverse_permutation(_order(x, self.axes)))

    def check(self, *arrays: Any) -> None:
        """Values broadcast to what the indices select."""
        x, values, *indices = arrays
        shape = _check_indices(self.label, x, indices, self.axes)
        selected = _selected_shape(x.shape, shape, self.axes)
        try:
            fits = np.broadcast_shapes(values.shape, selected) == selected
        except ValueError:
            fits = False
        if not fits:
            raise RuntimeError(
                f"{self.label}: shape mismatch: value tensor of shape {list(values.shape)} cannot be "
                "broadcast to "
                f"indexing result of shape {list(selected)}"
            )

    def check_values(self, *arrays: Any) -> None:
        """Indices lie inside their axes."""
        x, _, *indices = arrays
        _check_ranges(self.label, x, indices, self.axes)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """For operand 0 the gradient outside the places (everywhere if added), for the values at them."""
        (gradient,) = gradients
        assert gradient is not None
        indices = [node.input(k) for k in range(2, len(node.edges))]
        outside = inside = None
        if node.needs_grad(0):
            zero = gradient.new_zeros(())
            outside = gradient if self.accumulate else IndexPut.of(self.axes, False)(gradient, zero, *indices)
        if node.needs_grad(1):
            inside = sum_to(Index.of(self.axes)(gradient, *indices), node.shape(1))
        return outside, inside, *[None] * len(indices)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The same with tangents: the operation is linear in both operands."""
        around, put = [x.zeros_like() if t is None else t for x, t in zip(inputs[:2], tangents[:2])]
        return (self(around, put, *inputs[2:]),)


class Nonzero(Primitive):
    """The indices of the elements that are not zero; the shape of the result depends on the data."""

    name = "nonzero"
    has_static_shape = False
    differentiable = False


def _check_indices(label: str, x: Any, indices: Sequence[Any], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape that index arrays broadcast to.

    Raises:
        IndexError: they do not, or the tensor does not have that axis.
    """
    if max(axes) >= x.ndim:
        raise IndexError(f"{label}: too many indices for tensor of dimension {x.ndim}")
    shapes = [tuple(array.shape) for array in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(
            f"{label}: shape mismatch: indexing tensors could not be broadcast together with shapes "
            + ", ".join(str(list(shape)) for shape in shapes)
        ) from None
    return shape


def _check_ranges(label: str, x: Any, indices: Sequence[Any], axes: Sequence[int]) -> None:
    for array, axis in zip(indices, axes):
        check_range(label, array, axis, x.shape[axis])


def _together(axes: Sequence[int]) -> bool:
    """Whether what indices select stands in the place of the axes; else it stands in front."""
    return axes[-1] - axes[0] == len(axes) - 1


def _order(x: Tensor, axes: Sequence[int]) -> tuple[int, ...]:
    """The batch axis, then the indexed ones of an example, then the rest."""
    indexed = [axis + 1 for axis in axes]
    return (0, *indexed, *[axis for axis in range(1, x.array.ndim) if axis not in indexed])


def _indexed_first(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x.permute(_order(x, axes))


def _places_of_examples(indices: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> list[Tensor]:
    """Indices that broadcast, with the examples along axis 0, after the one that counts them."""
    rank = max(x.array.ndim - is_batched for x, is_batched in zip(indices, flags, strict=True))
    numbers = arange(level.size, device=indices[0].device).reshape((level.size, *[1] * rank))
    return aligned((numbers, *indices), (True, *flags))


def _indices_moved(x: Tensor, rest: int, axes: Sequence[int], back: bool) -> Tensor:
    """Between (examples, index axes, rest) and the order in which one example has the last two."""
    place = axes[0] if _together(axes) else 0
    count = x.array.ndim - 1 - rest
    first = tuple(range(1, 1 + count))
    there = tuple([axis + place for axis in first])
    return x.movedim(first, there) if back else x.movedim(there, first)


def _selected_shape(shape: tuple[int, ...], indexed: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape of what indices of shape ``indexed`` select."""
    rest = [n for axis, n in enumerate(shape) if axis not in axes]
    place = axes[0] if _together(axes) else 0
    return (*rest[:place], *indexed, *rest[place:])


# --------------------------------------------------------------------------------------- where elements are
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero.

    Args:
        input: the tensor.
        as_tuple: give one vector an axis, as an index is written.

    Returns:
        int64 of shape (count, ndim), or a tuple of vectors (one for a 0-d tensor).

    Example:
        >>> import nbdl
        >>> nbdl.nonzero(nbdl.tensor([[0, 1], [2, 0]]))
        tensor([[0, 1],
                [1, 0]])
    """
    if as_tuple and input.array.ndim == 0:
        input = input.reshape(1)
    found = apply(Nonzero.of(), input)
    return tuple([select(found, 1, axis) for axis in range(input.array.ndim)]) if as_tuple else found


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The indices of the first ``size`` elements that are not zero: a shape that does not depend on the data.

    Args:
        input: the tensor.
        size: rows of the result.
        fill_value: fills the rows that are left over.

    Returns:
        int64 of shape (size, ndim).

    Raises:
        RuntimeError: ``size`` is negative.
    """
    if size < 0:
        raise RuntimeError(f"nonzero_static: size must be non-negative, got {size}")
    n = input.array.size
    found = input.detach().reshape(n).ne(0)
    rank = found.cumsum(0) - 1
    # What is not wanted goes to one place behind the result.
    row = where(found.logical_and(rank.lt(size)), rank, size)
    places = input.new_full((size + 1,), n, dtype=np.int64)
    apply_in_place(IndexPut.of((0,), False), places, arange(n, device=input.device), row)
    places = places[:size]
    columns = [where(places.lt(n), part, fill_value) for part in unravel_index(places, input.array.shape)]
    return stack(columns, 1) if columns else input.new_zeros((size, 0), dtype=np.int64)


def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Indices of the flattened array as one index tensor an axis of ``shape``.

    Raises:
        ValueError: a length is negative.
        TypeError: the indices are no integers.

    Example:
        >>> import nbdl
        >>> nbdl.unravel_index(nbdl.tensor([5]), (2, 3))
        (tensor([1]), tensor([2]))
    """
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in lengths):
        raise ValueError(f"unravel_index: shape must not have negative lengths, got {list(lengths)}")
    if indices.array.dtype.kind not in "iu":
        raise TypeError(f"unravel_index: expected integer indices, got {indices.dtype}")
    rest, parts = indices, []
    for n in reversed(lengths):
        parts.append(rest % max(n, 1))
        rest = rest // max(n, 1)
    return tuple(reversed(parts))


def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not zero, one row each."""
    return nonzero(input)


# ------------------------------------------------------------------------------------------- along one axis
def vector_index(label: str, x: Tensor, dim: int, index: Tensor) -> tuple[int, Tensor]:
    """The axis, and the index as an int64 vector.

    Raises:
        IndexError: the index has more than one axis, or is not of integers.
    """
    if not isinstance(index, Tensor):
        raise TypeError(f"{label}: argument 'index' must be a tensor, got {type(index).__name__}")
    if index.array.dtype.kind not in "iu":
        raise IndexError(f"{label}: expected an integer index, got {index.dtype}")
    if index.array.ndim > 1:
        raise IndexError(f"{label}: index is supposed to be a vector, got shape {list(index.array.shape)}")
    axis = normalize_axis(label, dim, x.array.ndim)
    if index.array.ndim != 1:
        index = index.reshape(-1)
    return axis, index if index.array.dtype == np.int64 else index.to(np.int64)


@numpy_keywords
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions ``index`` of one axis, as a copy.

    Args:
        input: the tensor.
        dim: the axis.
        index: integer vector.

    Raises:
        IndexError: a position is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.arange(6).reshape(2, 3).index_select(1, nbdl.tensor([2, 0]))
        tensor([[2, 0],
                [5, 3]])
    """
    axis, positions = vector_index("index_select", input, dim, index)
    if input.array.ndim == 0:
        return apply(Index.of((0,)), input.reshape(1), positions).reshape(())
    try:
        return apply(Index.of((axis,)), input, positions)
    except IndexError as error:
        raise named(error, "index_select") from None


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened tensor, in the shape of ``index``.

    Example:
        >>> import nbdl
        >>> nbdl.arange(10, 16).reshape(2, 3).take(nbdl.tensor([0, 5]))
        tensor([10, 15])
    """
    return apply(
        Index.of((0,)), input.reshape(-1) if input.array.size else input.reshape(0), index.to(np.int64)
    )


def named(error: IndexError, function: str) -> IndexError:
    """The error of :class:`Index` with the name of the function that was called."""
    return IndexError(f"{function}: {str(error).removeprefix('index: ')}")


def take_rows(input: Tensor, index: Tensor) -> Tensor:
    """Rows of a table: (n, ...) at an index of any shape, giving index.shape + (...); an embedding."""
    return apply(Index.of((0,)), input, index.to(np.int64))
