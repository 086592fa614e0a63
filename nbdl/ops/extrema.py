"""The largest and the smallest elements, and where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops import arithmetic, reduction
from nbdl.ops.primitive import Primitive, normalize_axis
from nbdl.ops.scanning import ValuesIndices

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel

__all__ = ["argmax", "argmin", "max", "min"]


class ArgReduce(Primitive):
    """Index of the first maximum or minimum."""

    name = "argreduce"
    differentiable = False

    def __init__(self, kind: str, axis: int | None, keepdims: bool = False):
        super().__init__(kind=kind, axis=axis, keepdims=keepdims)
        self.label = kind

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Along the next axis; without an axis, in the flattened example."""
        (x,), axis, keepdims = values, self.params["axis"], self.params["keepdims"]
        if axis is not None and x.array.ndim > 1:
            return ArgReduce.of(self.label, axis + 1, keepdims)(x)
        count = math.prod(x.array.shape[1:])
        found = ArgReduce.of(self.label, 1, False)(x.reshape((level.size, count)))
        return found.reshape((level.size, *[1] * (x.array.ndim - 1))) if keepdims else found

    def check(self, *arrays: Any) -> None:
        """There must be something to choose from."""
        (x,) = arrays
        axis = self.params["axis"]
        if x.size == 0 and (axis is None or x.shape[axis] == 0):
            raise IndexError(
                f"{self.label}: expected a non-empty axis, got shape {tuple(x.shape)} and dim {axis}"
            )


def pick_axis(label: str, x: Tensor, dim: int | None, axis: int | None) -> int:
    """The axis, which must not be empty."""
    given = dim if axis is None else axis
    position = normalize_axis(label, -1 if given is None else given, x.array.ndim)
    if x.array.ndim and x.array.shape[position] == 0:
        raise IndexError(
            f"{label}: expected dimension {position} to have non-zero size, got shape {list(x.array.shape)}"
        )
    return position


def _keep(x: Tensor, axis: int, keepdim: bool) -> Tensor:
    return x if keepdim else x.reshape((*x.array.shape[:axis], *x.array.shape[axis + 1 :]))


def values_at(x: Tensor, axis: int, indices: Tensor, keepdim: bool) -> ValuesIndices:
    """The elements at ``indices``, which have length 1 along ``axis``."""
    return ValuesIndices(_keep(x.gather(axis, indices), axis, keepdim), _keep(indices, axis, keepdim))


def only_element(x: Tensor) -> ValuesIndices:
    """What any choice from a 0-d tensor gives."""
    return ValuesIndices(x.clone(), x.detach().zeros_like(dtype=np.int64))


def _extremum(
    kind: str, x: Tensor, dim: Any, keepdim: bool, axis: int | None, keepdims: bool | None
) -> Tensor | ValuesIndices:
    if isinstance(dim, Tensor):
        return (arithmetic.maximum if kind == "max" else arithmetic.minimum)(x, dim)
    if dim is None and axis is None:
        if not x.array.size:
            raise RuntimeError(f"{kind}: expected reduction dim to be specified for an empty tensor")
        return (reduction.amax if kind == "max" else reduction.amin)(x)
    position = pick_axis(kind, x, dim, axis)
    if x.array.ndim == 0:
        return only_element(x)
    indices = apply(ArgReduce.of(f"arg{kind}", position, True), x)
    return values_at(x, position, indices, keepdim if keepdims is None else keepdims)


def max(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Any:
    """The largest element.

    Args:
        input: the tensor.
        dim: None: of all, ties sharing the gradient; an axis: along it; a tensor: elementwise, see
            :func:`maximum`.
        keepdim: leave the axis with length 1.
        axis: another name of ``dim``.
        keepdims: another name of ``keepdim``.

    Returns:
        A tensor; with an axis (values, indices), the index being that of the first one, which gets the
        gradient. NaN wins.

    Example:
        >>> import nbdl
        >>> values, indices = nbdl.tensor([[1.0, 5.0], [4.0, 3.0]]).max(1)
        >>> values
        tensor([5., 4.])
        >>> indices
        tensor([1, 0])
    """
    return _extremum("max", input, dim, keepdim, axis, keepdims)


def min(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Any:
    """The smallest element; see :func:`max`.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([3.0, 1.0, 2.0]).min()
        tensor(1.)
    """
    return _extremum("min", input, dim, keepdim, axis, keepdims)


def _argreduce(
    kind: str, x: Tensor, dim: int | None, keepdim: bool, axis: int | None, keepdims: bool | None
) -> Tensor:
    if dim is not None and axis is not None:
        raise TypeError(f"{kind}: give dim or axis, not both")
    position = axis if dim is None else dim
    if position is not None:
        position = normalize_axis(kind, position, x.array.ndim)
        if x.array.ndim == 0:
            position = None
    return apply(ArgReduce.of(kind, position, keepdim if keepdims is None else keepdims), x)


def argmax(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Index of the first maximum along ``dim``, or in the flattened tensor.

    Raises:
        IndexError: the axis is out of range, or has no elements.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 5.0], [4.0, 3.0]]).argmax(1)
        tensor([1, 0])
    """
    return _argreduce("argmax", input, dim, keepdim, axis, keepdims)


def argmin(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Index of the first minimum along ``dim``, or in the flattened tensor.

    Raises:
        IndexError: the axis is out of range, or has no elements.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([3.0, 1.0, 2.0]).argmin()
        tensor(1)
    """
    return _argreduce("argmin", input, dim, keepdim, axis, keepdims)
