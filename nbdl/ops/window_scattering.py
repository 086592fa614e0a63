"""Tensors with a window overwritten: copies, for what assignment to an index does in place."""

from __future__ import annotations

from collections.abc import Sequence

from nbdl.autograd.tensor import Tensor
from nbdl.ops.copying import writable_copy
from nbdl.ops.creation import arange
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.layout import as_strided
from nbdl.ops.primitive import normalize_axis
from nbdl.ops.shape import diagonal, select

__all__ = ["as_strided_scatter", "diagonal_scatter", "select_scatter", "slice_scatter"]


def _filled(label: str, copy: Tensor, window: Tensor, src: Tensor) -> Tensor:
    """``copy``, whose ``window`` receives ``src``."""
    if window.array.shape != src.array.shape:
        raise RuntimeError(
            f"{label}: expected src to have a size equal to the slice of self: src size = "
            f"{list(src.array.shape)}, slice size = {list(window.array.shape)}"
        )
    window.copy_(src)
    return copy


@numpy_keywords
def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of ``input`` with ``src`` in the slice ``start:end:step`` of one axis.

    Args:
        input: the tensor.
        src: of the shape of the slice.
        dim: the axis.
        start: first position.
        end: behind the last position.
        step: distance of positions, positive.

    Raises:
        RuntimeError: ``src`` has another shape.
        ValueError: ``step`` is not positive.
    """
    axis = normalize_axis("slice_scatter", dim, input.array.ndim)
    if step <= 0:
        raise ValueError(f"slice_scatter: step must be positive, got {step}")
    copy = writable_copy(input, src)
    window = copy[(slice(None),) * axis + (slice(start, end, step),)]
    return _filled("slice_scatter", copy, window, src)


@numpy_keywords
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of ``input`` with ``src`` at one position of an axis.

    Raises:
        IndexError: there is no such position.
        RuntimeError: ``src`` has not the shape of ``input`` without the axis.
    """
    copy = writable_copy(input, src)
    return _filled("select_scatter", copy, select(copy, dim, index), src)


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of ``input`` with ``src`` on a diagonal; see :func:`diagonal`.

    Raises:
        RuntimeError: ``src`` has not the shape of the diagonal.
    """
    copy = writable_copy(input, src)
    return _filled("diagonal_scatter", copy, diagonal(copy, offset, dim1, dim2), src)


def as_strided_scatter(
    input: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A copy of ``input`` with ``src`` in a window on its memory; see :func:`as_strided`.

    Raises:
        RuntimeError: ``src`` has not the shape ``size``, or the window does not fit.
    """
    window = as_strided(input.detach(), size, stride, storage_offset)
    if src.shape != window.shape:
        raise RuntimeError(
            f"as_strided_scatter: src must have shape {list(window.shape)}, got {list(src.shape)}"
        )
    places = as_strided(arange(input.numel(), device=input.device), size, stride, storage_offset)
    copy = input.reshape(-1).index_copy(0, places.reshape(-1), src.reshape(-1).to(input.dtype))
    return copy.reshape(input.shape)
