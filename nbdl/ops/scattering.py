"""Gather and scatter: an index for every element, along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import equal, where
from nbdl.ops.batching import along_shifted_axis, repeated
from nbdl.ops.copying import writable_copy
from nbdl.ops.creation import arange
from nbdl.ops.joining import cat
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.padding import pad_constant
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import LinearMap, Primitive, broadcast_error, normalize_axis
from nbdl.ops.scanning import LinearScan, previous
from nbdl.ops.selecting import check_range
from nbdl.ops.shape import narrow

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

__all__ = [
    "gather", "scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_",
    "take_along_dim",
]  # fmt: skip

_TIES = Formula("ties", lambda x, y: where(equal(x, y), 1, 0), 2)


class Gather(LinearMap):
    """result[i, j, k] = x[i, index[i, j, k], k] for axis 1."""

    name = "gather"
    saved = frozenset((1,))

    def __init__(self, axis: int):
        super().__init__(axis=axis)
        self.axis = axis

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return Gather.of(self.axis + 1)

    def check(self, *arrays: Any) -> None:
        """The index is not longer along the other axes."""
        x, index = arrays
        _check_index(self.label, x, index, self.axis)

    def check_values(self, *arrays: Any) -> None:
        """The index lies inside."""
        x, index = arrays
        _check_range(self.label, x, index, self.axis)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient added up where the elements came from."""
        (gradient,) = gradients
        assert gradient is not None
        zeros = gradient.new_zeros(node.shape(0))
        return apply_in_place(Scatter.of(self.axis, "add"), zeros, node.input(1), gradient), None


class Scatter(Primitive):
    """Operand 0 with operand 2 combined into the places that operand 1 gives, along one axis.

    Args:
        axis: the axis, not negative.
        kind: ``set``, ``add``, ``prod``, ``amax`` or ``amin``.
    """

    name = "scatter"

    def __init__(self, axis: int, kind: str):
        super().__init__(axis=axis, kind=kind)
        self.axis, self.kind = axis, kind
        self.label = "scatter" if kind == "set" else f"scatter_{kind}"

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Along the next axis, from sources as large as the index."""
        x, index, source = repeated(values, flags, level)
        if source.array.ndim == 1 and index.array.ndim > 1:
            source = source.reshape((level.size, *[1] * (index.array.ndim - 1))).expand(index.array.shape)
        return along_shifted_axis(self, (x, index, source), (True,) * 3, level)

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return Scatter.of(self.axis + 1, self.kind)

    def check(self, *arrays: Any) -> None:
        """The index is not longer than the source, nor than operand 0 along other axes."""
        x, index, source = arrays
        _check_index(self.label, x, index, self.axis)
        if source.ndim and (
            source.ndim != index.ndim or any(n > m for n, m in zip(index.shape, source.shape))
        ):
            raise RuntimeError(
                f"{self.label}: expected index {list(index.shape)} to be no larger than src "
                f"{list(source.shape)}"
            )
        if source.dtype != x.dtype:
            raise RuntimeError(
                f"{self.label}: expected self.dtype to be equal to src.dtype, got {x.dtype} and "
                f"{source.dtype}"
            )

    def check_values(self, *arrays: Any) -> None:
        """The index lies inside."""
        x, index, _ = arrays
        _check_range(self.label, x, index, self.axis)

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The index; for products and extrema the operands, for extrema the result."""
        if self.kind in ("set", "add"):
            return frozenset((1,)), False
        return frozenset((0, 1, 2)), self.kind != "prod"

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Sums pass the gradient on, products weigh it with the other factors, extrema share it."""
        (gradient,) = gradients
        assert gradient is not None
        index = node.input(1)
        around: Tensor | None = gradient
        inside: Tensor | None = gradient.gather(self.axis, index)
        if self.kind == "set" and node.needs_grad(0):
            around = Scatter.of(self.axis, "set")(gradient, index, gradient.new_zeros(()))
        elif self.kind == "prod":
            first, others = self._other_factors(node.input(0), index, node.input(2))
            around, inside = gradient * first, inside * others
        elif self.kind != "set" and self.kind != "add":
            first, others = self._weights_of_extremum(node.input(0), index, node.input(2), node.output())
            around, inside = gradient * first, inside * others
        return (
            around if node.needs_grad(0) else None,
            None,
            _like_source(inside, node.shape(2)) if node.needs_grad(2) else None,  # type: ignore[arg-type]
        )

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangents weighed like gradients, and scattered."""
        x, index, source = inputs
        around, put = [
            value.zeros_like() if t is None else t
            for value, t in zip((x, source), (tangents[0], tangents[2]))
        ]
        if self.kind not in ("set", "add"):
            weigh = self._other_factors if self.kind == "prod" else self._weights_of_extremum
            first, others = weigh(x, index, source, *outputs[: self.kind != "prod"])
            around, put = around * first, _window(put, index) * others
        kind = "set" if self.kind == "set" else "add"
        return (Scatter.of(self.axis, kind)(around, index, put),)

    def _other_factors(self, x: Tensor, index: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """For every element of operand 0, and of the source, the product of what it was multiplied with.

        Sorted by place, the factors of one place are neighbours. The products of all before and of all after
        are linear recurrences that begin anew at every place. Nothing is divided, so derivatives of any order
        hold where factors are 0.
        """
        factors, axis = _window(source, index), self.axis
        if not x.array.ndim:
            return factors, x
        sizes = [size for k, size in enumerate(x.array.shape) if k != axis]
        count, added = x.array.shape[axis], index.array.shape[axis]
        sizes.insert(axis, added)
        missing = [(0, n - m) for n, m in zip(sizes, index.array.shape)]
        own = arange(count, device=x.device).reshape([-1 if k == axis else 1 for k in range(len(sizes))])
        places = cat([own.expand(x.array.shape), pad_constant(index.remainder(count), missing)], axis)
        order = places.argsort(axis)
        places = places.gather(axis, order)
        ordered = cat([x, pad_constant(factors, missing, 1.0)], axis).gather(axis, order)
        others = _exclusive_product(ordered, places, axis) * _exclusive_product(ordered, places, axis, True)
        others = others.gather(axis, order.argsort(axis))
        inside = narrow(others, axis, count, added)
        return narrow(others, axis, 0, count), inside[tuple([slice(n) for n in index.array.shape])]

    def _weights_of_extremum(
        self, x: Tensor, index: Tensor, source: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """For every element of operand 0, and of the source, its share: 1 / number of equal extrema."""
        first = call(_TIES, x.detach(), y.detach())
        others = call(_TIES, _window(source.detach(), index), y.detach().gather(self.axis, index))
        count = Scatter.of(self.axis, "add")(first, index, others)
        return first / count, others / count.gather(self.axis, index)


def _exclusive_product(x: Tensor, places: Tensor, axis: int, reverse: bool = False) -> Tensor:
    """The product of all elements before each one, or after it, that have the same place beside it."""
    first = previous(places, axis, reverse, -1) != places
    factors = previous(x, axis, reverse, 0).masked_fill(first, 0)
    return LinearScan.of(axis, reverse)(factors, first.to(x.dtype))


def _window(source: Tensor, index: Tensor) -> Tensor:
    """The part of the source that is scattered."""
    shape = index.array.shape
    if source.array.shape == shape:
        return source
    return source[tuple([slice(n) for n in shape])] if source.array.ndim else source.expand(shape)


def _like_source(inside: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of the source from that of the part that was scattered."""
    if inside.array.shape == shape:
        return inside
    if not shape:
        return inside.sum()
    return pad_constant(inside, [(0, n - m) for n, m in zip(shape, inside.array.shape)])


def _check_index(label: str, x: Any, index: Any, axis: int) -> None:
    if any(n > m for k, (n, m) in enumerate(zip(index.shape, x.shape)) if k != axis):
        raise RuntimeError(
            f"{label}: size does not match: expected index {list(index.shape)} to be no larger than self "
            f"{list(x.shape)} "
            f"apart from dimension {axis}"
        )


def _check_range(label: str, x: Any, index: Any, axis: int) -> None:
    check_range(label, index, axis, x.shape[axis] if x.ndim else 1, RuntimeError)


# ----------------------------------------------------------------------------------------- public functions
def _index_of(label: str, x: Tensor, index: Any) -> Tensor:
    if not isinstance(index, Tensor):
        raise TypeError(f"{label}: argument 'index' must be a tensor, got {type(index).__name__}")
    if index.array.ndim != x.array.ndim:
        raise RuntimeError(
            f"{label}: index tensor must have the same number of dimensions as the input tensor, got "
            f"{index.array.ndim} "
            f"and {x.array.ndim}"
        )
    if index.array.dtype.kind not in "iu":
        raise RuntimeError(f"{label}: expected dtype int64 for index, got {index.dtype}")
    return index if index.array.dtype == np.int64 else index.to(np.int64)


@numpy_keywords
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """result[i, j, k] = x[i, index[i, j, k], k] for dim 1.

    Args:
        input: the tensor.
        dim: the axis.
        index: integers, with as many axes as ``input``, none longer apart from ``dim``.

    Raises:
        RuntimeError: the index does not fit, or is out of range.
    """
    axis = normalize_axis("gather", dim, input.array.ndim)
    if isinstance(index, Tensor) and index.array.size == 0:
        return narrow(input.reshape(-1), 0, 0, 0).reshape(index.array.shape)
    if not input.array.ndim:  # one element, which is taken for a vector
        return gather(input.reshape(1), 0, index.reshape(-1)).reshape(index.array.shape)
    return apply(Gather.of(axis), input, _index_of("gather", input, index))


@numpy_keywords
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Like :func:`gather` with broadcasting; without ``dim`` from the flattened tensor."""
    if dim is None:
        return input.take(indices.reshape(-1))
    axis = normalize_axis("take_along_dim", dim, input.array.ndim)
    index = _index_of("take_along_dim", input, indices)
    shapes = [(*array.shape[:axis], 1, *array.shape[axis + 1 :]) for array in (input.array, index.array)]
    try:
        front, _, back = _around(np.broadcast_shapes(*shapes), axis)
    except ValueError:
        raise broadcast_error("take_along_dim", shapes) from None
    values = input.expand(*front, input.array.shape[axis], *back)
    return gather(values, axis, index.expand(*front, index.array.shape[axis], *back))


def _around(shape: tuple[int, ...], axis: int) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """The sizes before an axis, of it, and behind it."""
    return shape[:axis], shape[axis], shape[axis + 1 :]


def _scatter_(label: str, kind: str, x: Tensor, dim: int, index: Tensor, source: Any) -> Tensor:
    axis = normalize_axis(label, dim, x.array.ndim)
    values = source if isinstance(source, Tensor) else x.new_tensor(source)
    return apply_in_place(Scatter.of(axis, kind), x, _index_of(label, x, index), values)


_REDUCTIONS = {None: "set", "add": "add", "multiply": "prod"}


@numpy_keywords
def scatter_(input: Tensor, dim: int, index: Tensor, src: Any, *, reduce: str | None = None) -> Tensor:
    """Write (or ``add``, ``multiply``) ``src`` to x[i, index[i, j, k], k] for dim 1; see :func:`scatter`."""
    if reduce not in _REDUCTIONS:
        raise RuntimeError(f"scatter: reduce argument must be either add or multiply, got {reduce!r}")
    return _scatter_("scatter", _REDUCTIONS[reduce], input, dim, index, src)


@numpy_keywords
def scatter(input: Tensor, dim: int, index: Tensor, src: Any, *, reduce: str | None = None) -> Tensor:
    """A copy of ``input`` with ``src`` written to [i, index[i, j, k], k] for dim 1.

    Args:
        input: the tensor.
        dim: the axis.
        index: integers, with as many axes as ``input``; of equal ones, one wins.
        src: a tensor of the dtype of ``input`` with at least the shape of ``index``, or a number.
        reduce: None, ``add`` or ``multiply``.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or an index is out of range.
    """
    return scatter_(writable_copy(input, index, src), dim, index, src, reduce=reduce)


@numpy_keywords
def scatter_add_(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Add ``src`` to x[i, index[i, j, k], k] for dim 1; equal indices add up."""
    return _scatter_("scatter_add", "add", input, dim, index, src)


@numpy_keywords
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of ``input`` with ``src`` added at [i, index[i, j, k], k] for dim 1; equal indices add up."""
    return scatter_add_(writable_copy(input, index, src), dim, index, src)


def _neutral(kind: str, dtype: np.dtype) -> float | int:
    """What changes nothing."""
    if kind in ("add", "prod"):
        return int(kind == "prod")
    sign = -1 if kind == "amax" else 1
    if dtypes.is_floating(dtype):
        return sign * math.inf
    if dtype.kind == "b":
        return int(kind == "amin")
    limits = np.iinfo(dtype)
    return int(limits.min if kind == "amax" else limits.max)


@numpy_keywords
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """All elements of ``src`` with the same index combined.

    Args:
        input: the tensor.
        dim: the axis.
        index: integers, with as many axes as ``input``.
        src: a tensor of the dtype of ``input`` with at least the shape of ``index``.
        reduce: ``sum``, ``prod``, ``mean``, ``amax`` or ``amin``.
        include_self: whether the elements of ``input`` take part; where nothing arrives, they stay.

    Raises:
        RuntimeError: shapes or dtypes do not fit, an index is out of range, or ``reduce`` is none of the
            above.
    """
    kinds = {"sum": "add", "mean": "add", "prod": "prod", "amax": "amax", "amin": "amin"}
    if reduce not in kinds:
        raise RuntimeError(
            f"scatter_reduce: reduce argument must be one of {', '.join(kinds)}, got {reduce!r}"
        )
    kind = kinds[reduce]
    start = input if include_self else scatter(input, dim, index, _neutral(kind, input.array.dtype))
    total = _scatter_("scatter_reduce", kind, writable_copy(start, index, src), dim, index, src)
    if reduce != "mean":
        return total
    ones = src.detach().ones_like()
    count = scatter_add((input.ones_like if include_self else input.zeros_like)(), dim, index, ones).clamp(
        min=1
    )
    return total / count if total.is_floating_point() else total.div(count, rounding_mode="floor")


@numpy_keywords
def scatter_reduce_(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Combine all elements of ``src`` with the same index into ``input``; see :func:`scatter_reduce`."""
    return input.copy_(scatter_reduce(input, dim, index, src, reduce, include_self=include_self))
