"""Sets of elements, and the places of values in rising sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.batching import repeated
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.primitive import Primitive, normalize_axis
from nbdl.ops.shape import movedim
from nbdl.ops.sorting import differs_from_previous
from nbdl.ops.type_rules import result_type

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel

__all__ = ["bucketize", "searchsorted", "unique", "unique_consecutive"]


class SearchSorted(Primitive):
    """The places of values in rising boundaries."""

    name = "searchsorted"
    differentiable = False

    def __init__(self, right: bool):
        super().__init__(right=right)

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Boundaries for each example, or the same ones for all values."""
        boundaries, wanted = values
        if not flags[0] and boundaries.array.ndim == 1:
            return self(boundaries, wanted)
        boundaries, wanted = repeated(values, flags, level)
        if boundaries.array.ndim > 2:
            return self(boundaries, wanted)
        rows = wanted.reshape((level.size, math.prod(wanted.array.shape[1:])))
        return self(boundaries, rows).reshape(wanted.array.shape)

    def check(self, *arrays: Any) -> None:
        """Boundaries are a vector, or share all axes but the last with the values."""
        boundaries, values = arrays
        if boundaries.ndim != 1 and boundaries.shape[:-1] != values.shape[:-1]:
            raise RuntimeError(
                "searchsorted: boundaries must be 1-dimensional, or agree with the values in all dimensions "
                "but the last; "
                f"got boundaries {list(boundaries.shape)} and values {list(values.shape)}"
            )


class Unique(Primitive):
    """The different elements, the place of every element among them, and their counts."""

    name = "unique"
    has_static_shape = False
    differentiable = False

    def __init__(self, axis: int | None):
        super().__init__(axis=axis)


@numpy_keywords
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements in rising order; every NaN is different.

    Args:
        input: the tensor.
        sorted: accepted; the result is always sorted.
        return_inverse: give also the place of every element in the result.
        return_counts: give also how often each occurs.
        dim: compare the slices along this axis instead of elements.

    Returns:
        The elements, or a tuple of what was asked for.

    Example:
        >>> import nbdl
        >>> nbdl.unique(nbdl.tensor([3, 1, 3, 2]), return_counts=True)
        (tensor([1, 2, 3]), tensor([1, 1, 2]))
    """
    axis = None if dim is None else normalize_axis("unique", dim, input.array.ndim)
    values, inverse, counts = apply(Unique.of(axis), input)
    return _asked_for(values, (inverse, return_inverse), (counts, return_counts))


@numpy_keywords
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Runs of equal elements shortened to one.

    Args:
        input: the tensor.
        return_inverse: give also the place of every element in the result.
        return_counts: give also the lengths of the runs.
        dim: compare the slices along this axis; None: the elements of the flattened tensor.

    Returns:
        The elements, or a tuple of what was asked for.

    Example:
        >>> import nbdl
        >>> nbdl.unique_consecutive(nbdl.tensor([3, 3, 1, 3]))
        tensor([3, 1, 3])
    """
    source = input.detach().reshape(-1) if dim is None else movedim(input.detach(), dim, 0)
    n = source.array.shape[0]
    if n == 0:
        empty = input.new_zeros(0, dtype=np.int64)
        values = source.clone() if dim is None else input.detach().clone()
        return _asked_for(values, (empty, return_inverse), (empty, return_counts))
    starts = differs_from_previous(source, 0)
    starts = starts.reshape(n, -1).any(1)
    values = source[starts] if dim is None else movedim(source[starts], 0, dim)
    inverse = starts.cumsum(0) - 1
    first = starts.nonzero().reshape(-1)
    counts = first.diff(append=first.new_tensor([n]))
    return _asked_for(
        values,
        (inverse.reshape(input.shape) if dim is None else inverse, return_inverse),
        (counts, return_counts),
    )


def _asked_for(values: Tensor, *optional: tuple[Tensor, bool]) -> Any:
    extra = [tensor for tensor, wanted in optional if wanted]
    return (values, *extra) if extra else values


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values belong in a rising sequence.

    Args:
        sorted_sequence: (n,), or (..., n) with the leading axes of ``input``.
        input: tensor or number.
        out_int32: give int32 instead of int64.
        right: behind equal elements instead of before them.
        side: ``left`` or ``right``, another way to say it.
        sorter: indices that sort the sequence.

    Returns:
        The number of elements of the sequence below (or up to, if ``right``) each value.

    Raises:
        RuntimeError: shapes do not fit, or ``side`` is neither.

    Example:
        >>> import nbdl
        >>> nbdl.searchsorted(nbdl.tensor([1, 3, 5]), nbdl.tensor([2, 3, 6]))
        tensor([1, 1, 3])
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(
            f"searchsorted: side must be 'left' or 'right' and agree with right={right}, got {side!r}"
        )
    boundaries = sorted_sequence if sorter is None else sorted_sequence.gather(-1, sorter)
    wanted = (
        input
        if isinstance(input, Tensor)
        else boundaries.new_tensor(input, dtype=result_type(boundaries, input))
    )
    dtype = dtypes.promote(boundaries.dtype, wanted.dtype)
    primitive = SearchSorted.of(bool(right or side == "right"))
    primitive.check(boundaries.array, wanted.array)
    found = apply(primitive, boundaries.to(dtype), wanted.to(dtype))
    return found.to(np.int32) if out_int32 else found


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The index of the bucket between rising ``boundaries`` that each element falls into.

    Args:
        input: tensor or number.
        boundaries: (n,).
        out_int32: give int32 instead of int64.
        right: whether a boundary belongs to the bucket above it.

    Raises:
        RuntimeError: ``boundaries`` is no vector.

    Example:
        >>> import nbdl
        >>> nbdl.bucketize(nbdl.tensor([2, 3, 6]), nbdl.tensor([1, 3, 5]))
        tensor([1, 1, 3])
    """
    if boundaries.array.ndim != 1:
        raise RuntimeError(
            f"bucketize: boundaries tensor must be 1 dimension, but got dim({boundaries.array.ndim})"
        )
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)
