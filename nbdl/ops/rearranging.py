"""Rearranging: flip, roll, rotate, repeat, tile, grids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.copying import COPY, constant
from nbdl.ops.joining import Concatenate, at_least, cat, split_axis, stack, tensor_list
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.padding import pad_constant
from nbdl.ops.primitive import check_broadcast, normalize_axes, normalize_axis
from nbdl.ops.shape import movedim, reshape, transpose
from nbdl.ops.views import Slice

__all__ = [
    "block_diag", "broadcast_tensors", "cartesian_prod", "combinations", "flip", "fliplr", "flipud",
    "meshgrid", "repeat", "repeat_interleave", "roll", "rot90", "tile",
]  # fmt: skip


def flip(input: Tensor, *axes: Any, dims: Any = None, axis: Any = None) -> Tensor:
    """A copy with the order reversed along some axes.

    Args:
        input: the tensor.
        axes: the axes, one by one or as a sequence.
        dims: the same by keyword, as PyTorch calls it.
        axis: the same by keyword, as NumPy calls it.

    Example:
        >>> import nbdl
        >>> nbdl.arange(3).flip(0)
        tensor([2, 1, 0])
    """
    named = axis if dims is None else dims
    if named is not None:
        axes = (named,) if isinstance(named, int) else tuple(named)
    elif len(axes) == 1 and isinstance(axes[0], (tuple, list)):
        axes = tuple(axes[0])
    positions = normalize_axes("flip", axes, input.array.ndim) if axes else ()
    return apply(COPY, _reversed_along(positions, input.array.ndim)(input))


@cache
def _reversed_along(axes: tuple[int, ...], ndim: int) -> Slice:
    return Slice.of(tuple([(None, None, -1 if k in axes else None) for k in range(ndim)]))


def fliplr(input: Tensor) -> Tensor:
    """Axis 1 reversed."""
    if input.array.ndim < 2:
        raise RuntimeError(f"fliplr: input must be at least 2-dimensional, got {input.array.ndim} axes")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Axis 0 reversed."""
    if input.array.ndim < 1:
        raise RuntimeError("flipud: input must be at least 1-dimensional, got 0 axes")
    return flip(input, 0)


@numpy_keywords
def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved along ``dims``, those beyond the end coming back at the start.

    Args:
        input: the tensor.
        shifts: by how many places, for each of ``dims``.
        dims: the axes; None: in the flattened tensor.

    Raises:
        RuntimeError: there are not as many shifts as dims.

    Example:
        >>> import nbdl
        >>> nbdl.arange(4).roll(1)
        tensor([3, 0, 1, 2])
    """
    steps = [shifts] if isinstance(shifts, int) else list(shifts)
    if dims is None:
        if len(steps) != 1:
            raise RuntimeError(f"roll: without dims one shift is needed, got {steps}")
        return (
            roll(input.reshape(-1), steps[0], 0).reshape(input.array.shape)
            if input.array.size
            else input.clone()
        )
    axes = [dims] if isinstance(dims, int) else list(dims)
    if len(axes) != len(steps):
        raise RuntimeError(f"roll: shifts and dims must align, got {len(steps)} shifts and {len(axes)} dims")
    result = input
    for step, dim in zip(steps, axes):
        axis = normalize_axis("roll", dim, input.array.ndim)
        n = result.array.shape[axis]
        places = step % n if n else 0
        if places:
            whole = ((None, None, None),) * axis
            end, start = ((n - places, None, None), (None, n - places, None))
            parts = (Slice.of((*whole, end))(result), Slice.of((*whole, start))(result))
            result = apply(Concatenate.of(axis, (places, n - places)), *parts)
    return input.clone() if result is input else result


@numpy_keywords
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Rotated by ``k`` quarter turns from the first towards the second of ``dims``.

    Raises:
        RuntimeError: ``dims`` are not two different axes.
    """
    if len(dims) != 2:
        raise RuntimeError(f"rot90: expected two rotation dims, got {list(dims)}")
    if input.array.ndim < 2:
        raise RuntimeError(f"rot90: expected total dims >= 2, but got total dims = {input.array.ndim}")
    a, b = (normalize_axis("rot90", dim, input.array.ndim) for dim in dims)
    if a == b:
        raise RuntimeError(f"rot90: rotation dims must be different axes, got {list(dims)}")
    turns = k % 4
    if turns == 0:
        return input.clone()
    if turns == 2:
        return flip(input, a, b)
    return flip(transpose(input, a, b), a if turns == 1 else b)


def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """Copies of ``input`` side by side, ``repeats`` times along every axis; extra repeats add axes in front.

    Raises:
        RuntimeError: fewer repeats than axes, or a negative one.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 2]).repeat(2, 1)
        tensor([[1, 2],
                [1, 2]])
    """
    counts = tuple(repeats[0]) if len(repeats) == 1 and isinstance(repeats[0], (tuple, list)) else repeats
    added = len(counts) - input.array.ndim
    if added < 0:
        raise RuntimeError(
            f"repeat: number of repeats ({len(counts)}) can not be smaller than number of dimensions "
            f"({input.array.ndim})"
        )
    if min(counts, default=0) < 0:
        raise RuntimeError(f"repeat: repeats must not be negative, got {list(counts)}")
    shape = (1,) * added + input.array.shape
    apart = reshape(input, [size for n in shape for size in (1, n)])
    spread = apart.expand([size for count, n in zip(counts, shape) for size in (count, n)])
    return reshape(apply(COPY, spread), [count * n for count, n in zip(counts, shape)])


def tile(input: Tensor, *dims: Any) -> Tensor:
    """Like :func:`repeat`; with fewer counts than axes the first axes are not repeated.

    Example:
        >>> import nbdl
        >>> nbdl.tile(nbdl.tensor([1, 2]), (2,))
        tensor([1, 2, 1, 2])
    """
    counts = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return repeat(input, (1,) * (input.array.ndim - len(counts)) + tuple(counts))


@numpy_keywords
def repeat_interleave(
    input: Tensor,
    repeats: int | Tensor | Sequence[int],
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Tensor:
    """Every element repeated in place.

    Args:
        input: the tensor.
        repeats: how often: a number, or one for every position of the axis.
        dim: the axis; None: of the flattened tensor.
        output_size: the length of the result, if it is known.

    Raises:
        RuntimeError: a number of repeats is negative, there are not as many as positions, or they do not add
            up to ``output_size``.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 2]).repeat_interleave(2)
        tensor([1, 1, 2, 2])
    """
    if dim is None:
        input, dim = input.reshape(-1) if input.array.size else input.reshape(0), 0
    axis, n = split_axis("repeat_interleave", input, dim)
    counts = np.asarray(repeats.tolist() if isinstance(repeats, Tensor) else repeats)
    if counts.dtype.kind not in "iu" and counts.size:
        raise RuntimeError(f"repeat_interleave: repeats must be integers, got {counts.dtype}")
    if counts.size not in (1, n) or counts.ndim > 1:
        raise RuntimeError(
            f"repeat_interleave: repeats must have 1 or {n} elements (dim {axis}), got shape {counts.shape}"
        )
    if counts.size and counts.min() < 0:
        raise RuntimeError(f"repeat_interleave: repeats can not be negative, got {counts.min()}")
    source = np.repeat(np.arange(n), np.broadcast_to(counts.astype(np.int64), (n,)))
    if output_size is not None and output_size != len(source):
        raise RuntimeError(f"repeat_interleave: output_size is {output_size}, repeats make {len(source)}")
    return input.index_select(axis, constant(source, input.device, np.int64))


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Views of the tensors, expanded to their common shape.

    Raises:
        RuntimeError: the shapes do not broadcast.
    """
    found = tensor_list("broadcast_tensors", tensors)
    shape = check_broadcast("broadcast_tensors", [tensor.array for tensor in found])
    return tuple([tensor.expand(shape) for tensor in found])


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of the grid that vectors span: views, one for every vector.

    Args:
        tensors: vectors or scalars.
        indexing: ``ij``: axis k belongs to vector k; ``xy``: the first two axes are exchanged.

    Raises:
        ValueError: another ``indexing``.
        RuntimeError: an operand has more than one axis.

    Example:
        >>> import nbdl
        >>> rows, columns = nbdl.meshgrid(nbdl.arange(2), nbdl.arange(3), indexing="ij")
        >>> rows
        tensor([[0, 0, 0],
                [1, 1, 1]])
    """
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    found = tensor_list(
        "meshgrid", tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    )
    if any(tensor.array.ndim > 1 for tensor in found):
        raise RuntimeError(
            f"meshgrid: expected vectors, got shapes {[tuple(tensor.array.shape) for tensor in found]}"
        )
    vectors = [at_least(tensor, 1) for tensor in found]
    shape = tuple([vector.array.shape[0] for vector in vectors])
    grids = []
    for k, vector in enumerate(vectors):
        grid = reshape(vector, [n if axis == k else 1 for axis, n in enumerate(shape)]).expand(shape)
        grids.append(movedim(grid, 0, 1) if indexing == "xy" and len(shape) > 1 else grid)
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element from each vector, as rows in lexicographic order.

    Raises:
        RuntimeError: an operand is no vector.
    """
    found = tensor_list("cartesian_prod", tensors)
    for k, tensor in enumerate(found):
        if tensor.array.ndim != 1:
            raise RuntimeError(
                f"cartesian_prod: expected vectors, got shape {list(tensor.array.shape)} at position {k}"
            )
    if len(found) == 1:
        return found[0]
    return stack([grid.reshape(-1) for grid in meshgrid(*found)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All selections of ``r`` elements of a vector in their order, as rows.

    Args:
        input: the vector.
        r: how many are selected.
        with_replacement: whether an element may be selected more than once.

    Raises:
        RuntimeError: ``input`` is no vector, or ``r`` negative.
    """
    if input.array.ndim != 1:
        raise RuntimeError(f"combinations: expected a 1-D vector, got shape {list(input.array.shape)}")
    if r < 0:
        raise RuntimeError(f"combinations: r must be non-negative, got {r}")
    if r == 0:
        return input.new_zeros(0)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = np.array(list(choose(range(input.array.size), r)), np.int64).reshape(-1, r)
    return input.index_select(0, constant(chosen.reshape(-1), input.device)).reshape(chosen.shape)


def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal of a larger one, zeros elsewhere; vectors are rows.

    Raises:
        RuntimeError: an operand has more than two axes.
    """
    found = [at_least(tensor, 2) for tensor in tensor_list("block_diag", tensors)]
    for k, block in enumerate(found):
        if block.array.ndim > 2:
            raise RuntimeError(
                f"block_diag: expected tensors of at most 2 dimensions, got shape "
                f"{list(block.array.shape)} at position {k}"
            )
    width, before, rows = sum(block.array.shape[1] for block in found), 0, []
    for block in found:
        n = block.array.shape[1]
        rows.append(pad_constant(block, [(0, 0), (before, width - before - n)]))
        before += n
    return cat(rows, 0)
