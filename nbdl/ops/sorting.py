"""Order statistics: sort, topk, median, mode. Values take the gradient of a gather."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops import arithmetic
from nbdl.ops.batching import along_shifted_axis
from nbdl.ops.copying import constant
from nbdl.ops.extrema import only_element, pick_axis, values_at
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.padding import pad_constant
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import Primitive, normalize_axis
from nbdl.ops.scanning import ValuesIndices

__all__ = ["argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk"]


# The place of the median in rising order, NaNs being at the end of it.
_MIDDLE = Formula("middle", lambda nans, n: f.maximum(f.floor_divide(n - nans - 1, 2), 0), 2)


class Argsort(Primitive):
    """The places of the elements in rising or falling order along an axis; equal ones keep their order."""

    name = "argsort"
    differentiable = False

    def __init__(self, axis: int, descending: bool):
        super().__init__(axis=axis, descending=descending)

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return Argsort.of(self.params["axis"] + 1, self.params["descending"])


class ArgTopK(Primitive):
    """The places of the ``k`` largest or smallest elements along an axis, best first."""

    name = "argtopk"
    differentiable = False

    def __init__(self, k: int, axis: int, largest: bool):
        super().__init__(k=k, axis=axis, largest=largest)

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return ArgTopK.of(self.params["k"], self.params["axis"] + 1, self.params["largest"])


class ArgKth(Primitive):
    """The place of the k-th smallest element, counted from 0, along an axis, which is kept.

    Args:
        k: the rank.
        axis: the axis.
        nan_wins: whether it is the place of a NaN where there is one.
    """

    name = "argkth"
    differentiable = False

    def __init__(self, k: int, axis: int, nan_wins: bool = False):
        super().__init__(k=k, axis=axis, nan_wins=nan_wins)

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return ArgKth.of(self.params["k"], self.params["axis"] + 1, self.params["nan_wins"])


# -------------------------------------------------------------------------------------------------- sorting
def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True, *, axis: int | None = None
) -> Tensor:
    """The indices that sort ``input`` along ``dim``; equal elements keep their order, NaN is largest.

    Example:
        >>> import nbdl
        >>> nbdl.argsort(nbdl.tensor([3.0, 1.0, 2.0]))
        tensor([1, 2, 0])
    """
    position = normalize_axis("argsort", dim if axis is None else axis, input.array.ndim)
    if input.array.ndim == 0:
        return input.detach().zeros_like(dtype=np.int64)
    return apply(Argsort.of(position, bool(descending)), input)


def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True, *, axis: int | None = None
) -> ValuesIndices:
    """``input`` sorted along ``dim``, and where every element was.

    Args:
        input: the tensor.
        dim: the axis.
        descending: from the largest to the smallest.
        stable: accepted; equal elements always keep their order. NaN is the largest of all.
        axis: another name of ``dim``.

    Example:
        >>> import nbdl
        >>> nbdl.sort(nbdl.tensor([3.0, 1.0, 2.0])).indices
        tensor([1, 2, 0])
    """
    position = normalize_axis("sort", dim if axis is None else axis, input.array.ndim)
    indices = argsort(input, position, descending)
    return ValuesIndices(input.gather(position, indices), indices)


def msort(input: Tensor) -> Tensor:
    """``input`` sorted along its first axis."""
    return sort(input, 0).values


def topk(
    input: Tensor,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    axis: int | None = None,
) -> ValuesIndices:
    """The ``k`` largest (or smallest) elements along ``dim``, best first, and where they are.

    Raises:
        RuntimeError: there are fewer than ``k``.

    Example:
        >>> import nbdl
        >>> nbdl.topk(nbdl.tensor([3.0, 1.0, 2.0]), 2).values
        tensor([3., 2.])
    """
    position = normalize_axis("topk", dim if axis is None else axis, input.array.ndim)
    n = input.array.shape[position] if input.array.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError(f"topk: selected index k out of range: k = {k} for size {n} of dim {position}")
    if input.array.ndim == 0:
        return only_element(input) if k else topk(input.reshape(1), 0)
    indices = apply(ArgTopK.of(int(k), position, bool(largest)), input)
    return ValuesIndices(input.gather(position, indices), indices)


@numpy_keywords
def kthvalue(
    input: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, axis: int | None = None
) -> ValuesIndices:
    """The ``k``-th smallest element along ``dim`` (counted from 1), and where it is.

    Raises:
        RuntimeError: there is no such element.
        IndexError: there is no element at all, or ``dim`` is out of range.
        NotImplementedError: the elements are bools.

    Example:
        >>> import nbdl
        >>> nbdl.kthvalue(nbdl.tensor([3.0, 1.0, 2.0]), 2).values
        tensor(2.)
    """
    _refuse_bools("kthvalue", input)
    position = normalize_axis("kthvalue", dim if axis is None else axis, input.array.ndim)
    n = input.array.shape[position] if input.array.ndim else 1
    if not 1 <= k <= n:
        error = RuntimeError if n else IndexError
        raise error(f"kthvalue: selected number k out of range for dimension {position}: k = {k}, size {n}")
    if input.array.ndim == 0:
        return only_element(input)
    return values_at(input, position, apply(ArgKth.of(k - 1, position), input), keepdim)


# ----------------------------------------------------------------------------------- elements in the middle
def _refuse_bools(label: str, x: Tensor) -> None:
    if x.dtype == np.bool_:
        raise NotImplementedError(f"{label}: not implemented for bool; cast to a number type")


def _median(label: str, x: Tensor, dim: int | None, keepdim: bool, axis: int | None, ignore_nan: bool) -> Any:
    _refuse_bools(label, x)
    if dim is None and axis is None:
        if not x.array.size:
            return x.new_full((), float("nan"))
        flat = x.reshape(-1)
        return flat.gather(0, _middle(flat, 0, ignore_nan)).reshape(())
    position = pick_axis(label, x, dim, axis)
    if x.array.ndim == 0:
        return only_element(x)
    return values_at(x, position, _middle(x, position, ignore_nan), keepdim)


def _middle(x: Tensor, axis: int, ignore_nan: bool) -> Tensor:
    """The place of the median along an axis, which is kept."""
    n = x.array.shape[axis]
    if not (ignore_nan and x.is_floating_point()):
        return apply(ArgKth.of((n - 1) // 2, axis, x.is_floating_point()), x)
    rank = call(_MIDDLE, arithmetic.isnan(x).sum(axis, keepdim=True), n)
    return argsort(x, axis).gather(axis, rank)


@numpy_keywords
def median(input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None) -> Any:
    """The median, the lower one of two; NaN where there is one.

    Returns:
        A tensor; with ``dim`` (values, indices).

    Raises:
        NotImplementedError: the elements are bools.

    Example:
        >>> import nbdl
        >>> nbdl.median(nbdl.tensor([3.0, 1.0, 2.0]))
        tensor(2.)
    """
    return _median("median", input, dim, keepdim, axis, False)


@numpy_keywords
def nanmedian(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None
) -> Any:
    """The median of the elements that are not NaN, the lower one of two.

    Returns:
        A tensor; with ``dim`` (values, indices).
    """
    return _median("nanmedian", input, dim, keepdim, axis, True)


@numpy_keywords
def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, axis: int | None = None) -> ValuesIndices:
    """The most frequent element along ``dim`` (the smallest one at a tie), and where it occurs last.

    Example:
        >>> import nbdl
        >>> nbdl.mode(nbdl.tensor([3, 1, 3, 2])).values
        tensor(3)
    """
    position = pick_axis("mode", input, dim, axis)
    if input.array.ndim == 0:
        return only_element(input)
    values, order = sort(input.detach(), position)
    n = input.array.shape[position]
    along = [-1 if k == position else 1 for k in range(input.array.ndim)]
    places = constant(np.arange(n).reshape(along), input.device)
    starts = differs_from_previous(values, position).to(np.int64) * places
    lengths = places - starts.cummax(position).values
    return values_at(input, position, order.gather(position, lengths.argmax(position, keepdim=True)), keepdim)


def differs_from_previous(x: Tensor, axis: int) -> Tensor:
    """Whether an element differs from the one before it; the first one does."""
    changed = x.narrow(axis, 1, x.array.shape[axis] - 1).ne(x.narrow(axis, 0, x.array.shape[axis] - 1))
    return pad_constant(changed, [(int(k == axis), 0) for k in range(x.array.ndim)], True)
