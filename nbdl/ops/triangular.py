"""Triangles, diagonals and one-hot rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.reading import before_reading
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor, made
from nbdl.backend.device import device_of, module_for
from nbdl.formula import Formula
from nbdl.formula.functions import logical_or, where
from nbdl.ops.copying import ViewScatter
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.primitive import normalize_axis
from nbdl.ops.requirements import Requirement, require
from nbdl.ops.views import Diagonal

__all__ = [
    "diag", "diag_embed", "diagflat", "one_hot", "tril", "tril_", "tril_indices", "triu", "triu_",
    "triu_indices",
]  # fmt: skip

_KEEP = Pointwise.of(Formula("keep", lambda x, mask: where(mask, x, 0), 2), 0)
_DROP = Pointwise.of(Formula("drop", lambda x, mask: where(mask, 0, x), 2), 0)


def _below(label: str, x: Tensor, diagonal: int) -> Tensor:
    """The mask of the elements on and below a diagonal of the last two axes."""
    if x.array.ndim < 2:
        raise RuntimeError(f"{label}: input tensor must have at least 2 dimensions, got {x.array.ndim}")
    rows, columns = x.array.shape[-2:]
    return made(module_for(device_of(x.array)).tri(rows, columns, diagonal, dtype=bool))


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangles of matrices, 0 above ``diagonal``.

    Raises:
        RuntimeError: ``input`` has fewer than 2 axes.

    Example:
        >>> import nbdl
        >>> nbdl.ones(2, 3).tril()
        tensor([[1., 0., 0.],
                [1., 1., 0.]])
    """
    return apply(_KEEP, input, _below("tril", input, diagonal))


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangles of matrices, 0 below ``diagonal``.

    Raises:
        RuntimeError: ``input`` has fewer than 2 axes.

    Example:
        >>> import nbdl
        >>> nbdl.ones(2, 3).triu()
        tensor([[1., 1., 1.],
                [0., 1., 1.]])
    """
    return apply(_DROP, input, _below("triu", input, diagonal - 1))


def tril_(input: Tensor, diagonal: int = 0) -> Tensor:
    """Set what is above ``diagonal`` to 0."""
    return apply_in_place(_KEEP, input, _below("tril_", input, diagonal))


def triu_(input: Tensor, diagonal: int = 0) -> Tensor:
    """Set what is below ``diagonal`` to 0."""
    return apply_in_place(_DROP, input, _below("triu_", input, diagonal - 1))


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Rows and columns of the elements on and below a diagonal, (2, count) in row-major order."""
    return _indices(np.tri(row, col, offset, dtype=bool), dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Rows and columns of the elements on and above a diagonal, (2, count) in row-major order."""
    return _indices(~np.tri(row, col, offset - 1, dtype=bool), dtype, device)


def _indices(mask: np.ndarray, dtype: Any, device: Any) -> Tensor:
    from nbdl.ops.creation import tensor

    return tensor(np.stack(mask.nonzero()), dtype=dtype, device=device)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices of zeros with the last axis of ``input`` on a diagonal.

    Args:
        input: (..., n).
        offset: which diagonal: 0 the main one, above it if positive.
        dim1: axis of the rows in the result.
        dim2: axis of the columns in the result.

    Raises:
        RuntimeError: ``input`` is 0-d, or both axes are the same.
    """
    if input.array.ndim == 0:
        raise RuntimeError("diag_embed: input must be at least 1-dimensional")
    rank = input.array.ndim + 1
    a, b = normalize_axis("diag_embed", dim1, rank), normalize_axis("diag_embed", dim2, rank)
    if a == b:
        raise RuntimeError(f"diag_embed: dimensions cannot be identical {dim1}, {dim2}")
    size = input.array.shape[-1] + abs(offset)
    batch = iter(input.array.shape[:-1])
    shape = tuple([size if axis in (a, b) else next(batch) for axis in range(rank)])
    return apply(ViewScatter.of((Diagonal.of(offset, a, b),), shape), input)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, as a copy; of a vector the matrix with it on the diagonal.

    Raises:
        RuntimeError: ``input`` has neither 1 nor 2 axes.

    Example:
        >>> import nbdl
        >>> nbdl.diag(nbdl.tensor([1, 2]))
        tensor([[1, 0],
                [0, 2]])
    """
    if input.array.ndim == 1:
        return diag_embed(input, diagonal)
    if input.array.ndim == 2:
        return input.diagonal(diagonal).clone()
    raise RuntimeError(f"diag: supports 1D or 2D tensors, got {input.array.ndim}D")


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements of ``input`` on a diagonal."""
    return diag_embed(input.reshape(-1) if input.array.size else input.reshape(0), offset)


class _ClassesFit(Requirement):
    """Classes are among so many."""

    def __init__(self, classes: int):
        super().__init__(RuntimeError, f"one_hot: class values must lie in [0, {classes}), got {{}}")
        self.classes = classes

    def check_values(self, *arrays: Any) -> None:
        """Says which class does not fit."""
        _, index = arrays
        wrong = index[(index < 0) | (index >= self.classes)]
        if wrong.size:
            raise self.error(self.message.format(wrong.flat[0]))


_NO_CLASS = Formula("no_class", lambda x, count: where(logical_or(x < 0, x >= count), 1, 0), 2)


def one_hot(index: Tensor, num_classes: int = -1) -> Tensor:
    """Rows of zeros with a one at ``index``.

    Args:
        index: integers of any shape.
        num_classes: length of the rows; -1: the largest index plus one.

    Returns:
        int64 of shape index.shape + (num_classes,).

    Raises:
        RuntimeError: the index is not of integers, or out of range.

    Example:
        >>> import nbdl
        >>> nbdl.one_hot(nbdl.tensor([0, 2]), 3)
        tensor([[1, 0, 0],
                [0, 0, 1]])
    """
    if index.array.dtype.kind not in "iu":
        raise RuntimeError(f"one_hot: only applicable to integer index tensors, got {index.dtype}")
    if num_classes == -1:
        if not index.array.size:
            raise RuntimeError("one_hot: can not infer total number of classes from empty tensor")
        before_reading(index, "the largest class (one_hot)")
        num_classes = int(index.array.max()) + 1
    if isinstance(index.array, np.ndarray):
        require(_ClassesFit.of(num_classes), _NO_CLASS, index, num_classes)
    classes = Tensor(module_for(device_of(index.array)).arange(num_classes))
    return index.unsqueeze(-1).eq(classes).to(np.int64)
