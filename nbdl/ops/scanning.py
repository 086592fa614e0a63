"""Scans: running sums, products and extrema along an axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import equal, exp, where
from nbdl.ops.arithmetic import logaddexp
from nbdl.ops.batching import along_shifted_axis
from nbdl.ops.copying import as_dtype
from nbdl.ops.joining import cat, stack
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.padding import Pad
from nbdl.ops.pointwise import call, conjugated
from nbdl.ops.primitive import Primitive, normalize_axis
from nbdl.ops.rearranging import broadcast_tensors
from nbdl.ops.shape import narrow

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = [
    "cummax", "cummin", "cumprod", "cumprod_", "cumsum", "cumsum_", "diff", "linear_scan", "logcumsumexp",
]  # fmt: skip

# exp(x - y), and 1 where both are the same infinity.
_RATIO = Formula("exp_difference", lambda x, y: where(equal(x, y), 1, exp(x - y)), 2)


def previous(x: Tensor, axis: int, reverse: bool, fill: float) -> Tensor:
    """Position t holds what was at t-1 in the direction of the scan, the first one ``fill``."""
    n = x.array.shape[axis]
    kept = narrow(x, axis, 1 if reverse and n else 0, max(0, n - 1))
    gap = (0, 1) if reverse else (1, 0)
    return Pad.of(tuple([gap if k == axis else (0, 0) for k in range(x.array.ndim)]), fill)(kept) if n else x


def _next(x: Tensor, axis: int, reverse: bool) -> Tensor:
    """Position t holds what was at t+1 in the direction of the scan, the last one 0."""
    return previous(x, axis, not reverse, 0)


class Scan(Primitive):
    """Running ``sum``, ``prod`` or ``logsumexp`` along an axis.

    Args:
        kind: what is accumulated.
        axis: the axis, not negative.
        reverse: from the end to the front.
    """

    name = "scan"

    def __init__(self, kind: str, axis: int, reverse: bool = False):
        super().__init__(kind=kind, axis=axis, reverse=reverse)
        self.kind, self.axis, self.reverse = kind, axis, reverse
        self.label = "logcumsumexp" if kind == "logsumexp" else f"cum{kind}"

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return Scan.of(self.kind, self.axis + 1, self.reverse)

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """A sum needs nothing."""
        if self.kind == "sum":
            return None, False
        return frozenset((0,)), self.kind == "logsumexp"

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """The transposed scan runs the other way.

        Element i reaches output j >= i, by the product of what is accumulated between them. Hence all
        gradients are the linear recurrence s[i] = g[i] + a[i+1] * s[i+1], where a is the factor from one
        output to the next, times the derivative of output i by element i.
        """
        (gradient,) = gradients
        assert gradient is not None
        if self.kind == "sum":
            return (Scan.of("sum", self.axis, not self.reverse)(gradient),)
        if conjugate and gradient.is_complex():
            return conjugated(self.vjp, node, gradients)
        x = node.input(0)
        y = node.output() if self.kind == "logsumexp" else None
        factors = _next(self._factors(x, y), self.axis, self.reverse)
        received = LinearScan.of(self.axis, not self.reverse)(factors, gradient)
        return (received * self._own(x, y),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The same recurrence forwards: t'[i] = a[i] * t'[i-1] + own[i] * t[i]."""
        (x,), (y,), (tangent,) = inputs, outputs, tangents
        assert tangent is not None
        if self.kind == "sum":
            return (self(tangent),)
        return (LinearScan.of(self.axis, self.reverse)(self._factors(x, y), tangent * self._own(x, y)),)

    def _factors(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The derivative of output i by output i-1."""
        if self.kind == "prod":
            return x
        assert y is not None
        return call(_RATIO, previous(y, self.axis, self.reverse, -math.inf), y)

    def _own(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The derivative of output i by element i, all before it fixed."""
        if self.kind == "prod":
            return previous(self(x), self.axis, self.reverse, 1)
        return call(_RATIO, x, y)


class LinearScan(Primitive):
    """The linear recurrence y[t] = a[t] * y[t-1] + b[t], y[0] = b[0], along an axis.

    Args:
        axis: the axis, not negative.
        reverse: from the end to the front.
    """

    name = "linear_scan"
    saved = frozenset((0,))
    saves_output = True

    def __init__(self, axis: int, reverse: bool = False):
        super().__init__(axis=axis, reverse=reverse)
        self.axis, self.reverse = axis, reverse

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return LinearScan.of(self.axis + 1, self.reverse)

    def check(self, *arrays: Any) -> None:
        """Operands are alike."""
        a, b = arrays
        if a.shape != b.shape or a.dtype != b.dtype:
            raise RuntimeError(
                f"linear_scan: a and b must have the same shape and dtype, got {a.dtype} {tuple(a.shape)} "
                "and "
                f"{b.dtype} {tuple(b.shape)}"
            )

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """With s[t] = g[t] + a[t+1] * s[t+1]: s for b, and s[t] * y[t-1] for a."""
        (gradient,) = gradients
        if conjugate and gradient.is_complex():  # type: ignore[union-attr]
            return conjugated(self.vjp, node, gradients)
        factors = _next(node.input(0), self.axis, self.reverse)
        received = LinearScan.of(self.axis, not self.reverse)(factors, gradient)
        if not node.needs_grad(0):
            return None, received
        return received * previous(node.output(), self.axis, self.reverse, 0), received

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The recurrence of the tangents, driven by t_b + t_a * y[t-1]."""
        (a, _), (y,), (factor, term) = inputs, outputs, tangents
        if factor is not None:
            driven = factor * previous(y, self.axis, self.reverse, 0)
            term = driven if term is None else term + driven
        return (self(a, term),)  # type: ignore[arg-type]


class ArgScan(Primitive):
    """Index of the running ``max`` or ``min`` along an axis."""

    name = "argscan"
    differentiable = False

    def __init__(self, kind: str, axis: int):
        super().__init__(kind=kind, axis=axis)
        self.label = f"cum{kind}"

    batch = along_shifted_axis

    def shifted(self) -> Primitive:
        """Along the next axis."""
        return ArgScan.of(self.params["kind"], self.params["axis"] + 1)


# ----------------------------------------------------------------------------------------- public functions
class ValuesIndices(NamedTuple):
    """Chosen elements and where they were."""

    values: Tensor
    indices: Tensor


def _axis(label: str, x: Tensor, dim: int | None, axis: int | None) -> int:
    chosen = dim if axis is None else axis
    if chosen is None:
        raise TypeError(f"{label}: missing argument dim")
    return normalize_axis(label, chosen, x.array.ndim)


def _scan(kind: str, label: str, x: Tensor, dim: int | None, dtype: Any, axis: int | None) -> Tensor:
    position = _axis(label, x, dim, axis)
    if dtype is not None:
        x = x.to(dtype)
    if x.array.ndim == 0:
        return _scan(kind, label, x.reshape(1), 0, None, None).reshape(())
    return apply(Scan.of(kind, position), x)


def cumsum(input: Tensor, dim: int | None = None, *, dtype: Any = None, axis: int | None = None) -> Tensor:
    """Sums of all elements up to each one along ``dim``; integers and bools are summed in int64.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 2, 3]).cumsum(0)
        tensor([1, 3, 6])
    """
    return _scan("sum", "cumsum", input, dim, dtype, axis)


def cumprod(input: Tensor, dim: int | None = None, *, dtype: Any = None, axis: int | None = None) -> Tensor:
    """Products of all elements up to each one along ``dim``; the gradient holds where elements are 0.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 2, 3, 4]).cumprod(0)
        tensor([ 1,  2,  6, 24])
    """
    return _scan("prod", "cumprod", input, dim, dtype, axis)


def _scan_in_place(kind: str, x: Tensor, dim: int | None, dtype: Any, axis: int | None) -> Tensor:
    label = f"cum{kind}_"
    position = _axis(label, x, dim, axis)
    if dtype is not None and as_dtype(dtype) != x.dtype:
        raise RuntimeError(f"{label}: dtype must be that of the tensor, {x.dtype}, got {dtype}")
    return apply_in_place(Scan.of(kind, position), x) if x.array.ndim else x


def cumsum_(input: Tensor, dim: int | None = None, *, dtype: Any = None, axis: int | None = None) -> Tensor:
    """:func:`cumsum` in place."""
    return _scan_in_place("sum", input, dim, dtype, axis)


def cumprod_(input: Tensor, dim: int | None = None, *, dtype: Any = None, axis: int | None = None) -> Tensor:
    """:func:`cumprod` in place."""
    return _scan_in_place("prod", input, dim, dtype, axis)


def logcumsumexp(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """log of the running sum of exp(x), without overflow.

    Raises:
        RuntimeError: the elements are neither floats nor complex numbers.
    """
    if input.is_complex() and input.array.size:  # the branch of every logarithm follows from the one before
        position = _axis("logcumsumexp", input, dim, axis)
        steps = input.unbind(position) if input.array.ndim else (input,)
        sums = list(itertools.accumulate(steps, logaddexp))
        return stack(sums, position) if input.array.ndim else input.clone()
    if not input.is_floating_point():
        raise RuntimeError(f"logcumsumexp: expected a floating tensor, got {input.dtype}")
    return _scan("logsumexp", "logcumsumexp", input, dim, None, axis)


@numpy_keywords
def linear_scan(a: Tensor, b: Tensor, dim: int = -1, reverse: bool = False) -> Tensor:
    """The linear recurrence y[t] = a[t] * y[t-1] + b[t], y[0] = b[0]: moving averages, discounted returns.

    Args:
        a: the factors.
        b: the terms; broadcast with ``a``.
        dim: the axis of t.
        reverse: from the end to the front.
    """
    dtype = dtypes.promote(a.dtype, b.dtype)
    a, b = broadcast_tensors(a.to(dtype), b.to(dtype))
    return LinearScan.of(normalize_axis("linear_scan", dim, a.array.ndim), bool(reverse))(a, b)


def _cumulative_extremum(kind: str, x: Tensor, dim: int | None, axis: int | None) -> ValuesIndices:
    position = _axis(f"cum{kind}", x, dim, axis)
    if x.array.ndim == 0:
        return ValuesIndices(x.clone(), x.zeros_like(dtype="int64"))
    indices = apply(ArgScan.of(kind, position), x)
    return ValuesIndices(x.gather(position, indices), indices)


def cummax(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> ValuesIndices:
    """The largest element up to each one along ``dim``, and its index (the last of equal ones); NaN wins.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 3, 2]).cummax(0).values
        tensor([1, 3, 3])
    """
    return _cumulative_extremum("max", input, dim, axis)


def cummin(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> ValuesIndices:
    """The smallest element up to each one along ``dim``, and its index (the last of equal ones); NaN wins."""
    return _cumulative_extremum("min", input, dim, axis)


@numpy_keywords
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The ``n``-th difference of neighbours along ``dim``; of bools whether they differ.

    Args:
        input: the tensor.
        n: how often differences are taken.
        dim: the axis.
        prepend: put in front of ``input`` before.
        append: put behind ``input`` before.

    Raises:
        RuntimeError: ``input`` is 0-d, or ``n`` negative.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 4, 9]).diff()
        tensor([3, 5])
    """
    if input.array.ndim == 0:
        raise RuntimeError("diff: expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"diff: order must be non-negative but got {n}")
    axis = normalize_axis("diff", dim, input.array.ndim)
    if n == 0:
        return input.clone()
    parts = [part for part in (prepend, input, append) if part is not None]
    result = cat(parts, axis) if len(parts) > 1 else input
    for _ in range(n):
        size = max(result.array.shape[axis] - 1, 0)
        later, earlier = (
            narrow(result, axis, min(1, result.array.shape[axis]), size),
            narrow(result, axis, 0, size),
        )
        result = later ^ earlier if result.array.dtype.kind == "b" else later - earlier
    return result
