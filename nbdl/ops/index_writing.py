"""Writing, adding and combining at positions of one axis, or of the flattened tensor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import multiply
from nbdl.ops.copying import writable_copy
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.scattering import scatter_reduce
from nbdl.ops.selecting import IndexPut, vector_index

__all__ = [
    "index_add", "index_add_", "index_copy", "index_copy_", "index_fill", "index_fill_", "index_reduce",
    "index_reduce_", "put", "put_",
]  # fmt: skip


def _put_along(label: str, x: Tensor, dim: int, index: Tensor, source: Tensor, accumulate: bool) -> Tensor:
    """``x`` itself, with ``source`` written or added to positions of one axis."""
    axis, positions = vector_index(label, x, dim, index)
    wanted = (*x.array.shape[:axis], positions.array.size, *x.array.shape[axis + 1 :])
    if not x.array.ndim:  # one element, which is taken for a vector
        row = _put_along(label, x.reshape(1), 0, index, source.reshape(-1), accumulate)
        return x.copy_(row.reshape(()))
    if source.array.ndim and source.array.shape != wanted:
        raise RuntimeError(f"{label}: source must have shape {list(wanted)}, got {list(source.array.shape)}")
    apply_in_place(IndexPut.of((axis,), accumulate), x, source.to(x.array.dtype), positions)
    return x


@numpy_keywords
def index_add_(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """Add ``alpha * source`` to the positions ``index`` of one axis; repeated positions add up."""
    scaled = source if alpha == 1 else multiply(source, alpha)
    return _put_along("index_add", input, dim, index, scaled, True)


@numpy_keywords
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of ``input`` with ``alpha * source`` added to the positions ``index`` of one axis.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(3).index_add(0, nbdl.tensor([0, 0, 2]), nbdl.ones(3))
        tensor([2., 0., 1.])
    """
    return index_add_(writable_copy(input, index, source), dim, index, source, alpha=alpha)


@numpy_keywords
def index_copy_(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Overwrite the positions ``index`` of one axis with those of ``source``."""
    return _put_along("index_copy", input, dim, index, source, False)


@numpy_keywords
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of ``input`` with the positions ``index`` of one axis overwritten."""
    return index_copy_(writable_copy(input, index, source), dim, index, source)


@numpy_keywords
def index_fill_(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """Overwrite the positions ``index`` of one axis with a number."""
    if isinstance(value, Tensor) and value.array.ndim:
        raise RuntimeError(f"index_fill: value must be a number or 0-d, got shape {list(value.array.shape)}")
    axis, positions = vector_index("index_fill", input, dim, index)
    # By a mask, so that a position named twice counts once in the gradient of the value.
    shape = [n if k == axis else 1 for k, n in enumerate(input.array.shape)]
    chosen = input.new_zeros(math.prod(shape), dtype=np.bool_)
    apply_in_place(IndexPut.of((0,), False), chosen, input.new_tensor(True, dtype=np.bool_), positions)
    return input.masked_fill_(chosen.reshape(shape), value)


@numpy_keywords
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of ``input`` with the positions ``index`` of one axis set to a number."""
    return index_fill_(writable_copy(input, index, value), dim, index, value)


@numpy_keywords
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """A copy of ``input`` with slices of ``source`` combined into the positions ``index`` of one axis.

    Args:
        input: the tensor.
        dim: the axis.
        index: vector of integers, a position for each slice of ``source``.
        source: of the shape of ``input``, with len(index) positions along ``dim``.
        reduce: ``prod``, ``mean``, ``amax`` or ``amin``.
        include_self: whether the elements of ``input`` take part.

    Raises:
        RuntimeError: ``reduce`` is none of the above, or a shape does not fit.
        IndexError: the index is no vector of integers.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce: reduce argument must be prod, mean, amax or amin, got {reduce!r}")
    if not input.array.ndim:  # one element, which is taken for a vector
        row = index_reduce(input.reshape(1), 0, index, source.reshape(-1), reduce, include_self=include_self)
        return row.reshape(())
    axis, positions = vector_index("index_reduce", input, dim, index)
    wanted = (*input.array.shape[:axis], positions.array.size, *input.array.shape[axis + 1 :])
    if source.array.shape != wanted:
        raise RuntimeError(
            f"index_reduce: source must have shape {list(wanted)}, got {list(source.array.shape)}"
        )
    along = [-1 if k == axis else 1 for k in range(input.array.ndim)]
    places = positions.reshape(along).expand(wanted)
    return scatter_reduce(input, axis, places, source, reduce, include_self=include_self)


@numpy_keywords
def index_reduce_(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Combine slices of ``source`` into positions of one axis of ``input``; see :func:`index_reduce`."""
    return input.copy_(index_reduce(input, dim, index, source, reduce, include_self=include_self))


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of ``input`` with ``source`` written, or added, at places of the flattened tensor.

    Args:
        input: the tensor.
        index: integers of any shape.
        source: as many elements, of the dtype of ``input``.
        accumulate: add; equal places add up.

    Raises:
        IndexError: an index is out of range, or no integer.
        RuntimeError: numbers of elements, or dtypes, differ.
    """
    if index.array.dtype.kind not in "iu":
        raise IndexError(f"put: expected an integer index, got {index.dtype}")
    if index.array.size != source.array.size or source.dtype != input.dtype:
        raise RuntimeError(
            f"put: expected source to have as many elements as index and the dtype of self, "
            f"{index.array.size} of {input.dtype}, got {source.array.size} of {source.dtype}"
        )
    flat = writable_copy(input, index, source).reshape(input.array.size)
    if index.array.size:
        places, values = index.to(np.int64).reshape(index.array.size), source.reshape(source.array.size)
        apply_in_place(IndexPut.of((0,), bool(accumulate)), flat, values, places)
    return flat.reshape(input.array.shape)


def put_(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """Write, or add, ``source`` at places of the flattened ``input``; see :func:`put`."""
    return input.copy_(put(input, index, source, accumulate))
