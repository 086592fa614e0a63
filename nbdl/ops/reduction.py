"""Reductions: a formula over some axes in one loop, and what is composed of it."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import IDENTITY, Formula, var
from nbdl.formula import dtypes as rules
from nbdl.formula.expr import substitute
from nbdl.formula.formula import Source, Term
from nbdl.formula.functions import equal, square, where
from nbdl.ops.batching import aligned
from nbdl.ops.pointwise import (
    Derivative,
    Pointwise,
    call,
    conjugated,
    of_dtypes_of_examples,
    scalar,
    sum_derivative_to,
    weak_sources,
    zeros_of,
)
from nbdl.ops.primitive import (
    EVERYTHING,
    Primitive,
    bits_of,
    check_broadcast,
    inverse_permutation,
    normalize_axes,
    summed_axes,
)

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

__all__ = ["all", "amax", "amin", "any", "mean", "prod", "sum"]

_CHOSEN = Formula("chosen", lambda x, y, g: where(equal(x, y), g, 0), 3)
SQUARED_DIFFERENCE = Formula("squared_difference", lambda x, y: square(x - y), 2)


class Reduce(Primitive):
    """A formula on broadcast operands, reduced over some axes.

    Args:
        formula: what is reduced; IDENTITY, the operand itself, unless ``kind`` is ``sum`` or ``mean``.
        kind: ``sum``, ``mean``, ``prod``, ``max``, ``min``, ``any``, ``all``.
        axes: positions of the reduced axes, sorted.
        keepdims: leave them with length 1.
        weak: bit k is set where operand k was a Python number.
    """

    name = "reduce"

    def __init__(
        self, formula: Formula, kind: str, axes: tuple[int, ...], keepdims: bool = False, weak: int = 0
    ):
        super().__init__(formula=formula, kind=kind, axes=axes, keepdims=keepdims, weak=weak)
        self.formula, self.kind, self.axes, self.keepdims, self.weak = formula, kind, axes, keepdims, weak
        self.label = kind if formula.is_identity else f"{kind}_{formula.name}"
        self.differentiable = kind not in ("any", "all")
        self._vjps: dict[int, list[tuple[int, Derivative | None]]] = {}
        self._share = 0, scalar(1.0)  # one over the last count of elements

    def check(self, *arrays: Any) -> None:
        """Operands must broadcast; the maximum of nothing is undefined; means are of floats."""
        shape = check_broadcast(self.label, arrays)
        if self.kind in ("max", "min") and builtins.any(shape[axis] == 0 for axis in self.axes):
            raise IndexError(
                f"a{self.label}: cannot reduce over an axis of size 0: shape {tuple(shape)}, dim {self.axes}"
            )
        result, _, _ = rules.arithmetic(
            self.formula, tuple([a.dtype for a in arrays]), rules.priorities(arrays, self.weak)
        )
        if self.kind == "mean" and rules.category(result) < 2:
            raise RuntimeError(
                f"{self.label}: could not infer output dtype. Input dtype must be floating, got {result}"
            )

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """Sums save what the derivative contains, and all of several operands for their common shape."""
        if self.kind in ("sum", "mean"):
            rule = self.formula.vjp(needs)
            shape_only = self.formula.arity == 1 and not rule.saved_inputs and not rule.saves_output
            return None if shape_only else EVERYTHING, False
        return frozenset((0,)), True

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """The same axes, one further."""
        axes = tuple([axis + 1 for axis in self.axes])
        operands = aligned(of_dtypes_of_examples(self, values, flags), flags)
        return Reduce.of(self.formula, self.kind, axes, self.keepdims, self.weak)(*operands)

    def _kept(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """A tensor of the result's shape that broadcasts with the operand: the reduced axes put back."""
        if self.keepdims or tensor.array.ndim == 0:
            return tensor
        return tensor.reshape(tuple([1 if axis in self.axes else n for axis, n in enumerate(shape)]))

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """Sum: the gradient spread out. Extrema: shared among ties. Product: times that of the others."""
        if conjugate and node.specs[0][1].kind == "c":
            return conjugated(self.vjp, node, gradients)
        (gradient,) = gradients
        assert gradient is not None
        if self.kind in ("sum", "mean"):
            return self._sum_vjp(node, gradient)
        x, y = node.input(0), self._kept(node.output(), node.shape(0))
        gradient = self._kept(gradient, node.shape(0))
        if self.kind == "prod":
            return (product_of_others(x, self.axes) * gradient,)
        ties = call(_CHOSEN, x, y, scalar(1.0)).sum(self.axes, keepdim=True)
        return (call(_CHOSEN, x, y, gradient / ties),)

    def _sum_vjp(self, node: Node, gradient: Tensor) -> list[Tensor | None]:
        """The derivative of the formula times the gradient, spread over the reduced axes."""
        rule = self._vjps.get(node.needs)
        if rule is None:
            rule = self._vjps[node.needs] = self._vjp_rule(node.needs)
        full = node.shape(0) if len(node.edges) == 1 else _broadcast(node.saved)  # type: ignore[arg-type]
        gradient = self._kept(gradient, full)
        results: list[Tensor | None] = [None] * self.formula.arity
        for k, derivative in rule:
            if derivative is None:
                results[k] = zeros_of(node, k, (gradient,))
                continue
            operands: list[Tensor] = []
            is_full = False
            for kind, index in derivative.term.sources:
                if kind == "x":
                    operand = node.input(index)
                else:
                    operand = gradient if kind == "g" else self._share_of(node, full)
                operands.append(operand)
                is_full = is_full or operand.array.shape == full
            if not is_full and _broadcast(operands) != full:
                # The term lost an axis that only another operand had.
                operands = [operand.expand(full) if operand is gradient else operand for operand in operands]
            results[k] = sum_derivative_to(derivative, operands, full, node.shape(k))
        return results

    def _share_of(self, node: Node, full: tuple[int, ...]) -> Tensor:
        """One over the number of elements of a mean."""
        count = math.prod(full) // max(1, math.prod(node.specs[0][0]))
        known, share = self._share
        if known != count:
            share = scalar(1.0 / max(1, count))
            self._share = count, share
        return share

    def _vjp_rule(self, needs: int) -> list[tuple[int, Derivative | None]]:
        """The needed operands with their derivatives; None for one that is zero.

        A mean's formula has one operand more, the source ``s``: one over the number of elements.
        """
        rule: list[tuple[int, Derivative | None]] = []
        for k, term in enumerate(self.formula.vjp(needs).terms):
            if not needs >> k & 1:
                continue
            if term is not None:
                term = _without_output(term, self.formula)
            weak = 0 if term is None else weak_sources(term, self.weak)
            if term is not None and self.kind == "mean":
                count = len(term.sources)
                scaled = term.formula.outputs[0] * var(f"x{count}")
                formula = Formula.of(term.formula.name, (scaled,), count + 1)
                term, weak = Term(formula, (*term.sources, Source("s", 0))), weak | 1 << count
            rule.append((k, None if term is None else Derivative.of(term, weak)))
        return rule

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Sum: of the tangents. Extrema: the mean over ties. Product: each tangent times the others."""
        (y,) = outputs
        if self.kind not in ("sum", "mean"):
            (x,), (t,) = inputs, tangents
            assert t is not None
            if self.kind == "prod":
                return ((product_of_others(x, self.axes) * t).sum(self.axes, keepdim=self.keepdims),)
            kept = self._kept(y, x.array.shape)
            ties = call(_CHOSEN, x, kept, scalar(1.0)).sum(self.axes, keepdim=self.keepdims)
            return (call(_CHOSEN, x, kept, t).sum(self.axes, keepdim=self.keepdims) / ties,)
        given = bits_of(tangents)
        (term,) = self.formula.jvp(given).terms
        if term is None:
            return (None,)
        pool: dict[str, Sequence[Any]] = {"x": inputs, "t": tangents}
        if builtins.any(kind == "y" for kind, _ in term.sources):
            # The formula's own value was not kept: compute it.
            pool["y"] = (Pointwise.of(self.formula, self.weak)(*inputs),)
        operands = [pool[kind][index] for kind, index in term.sources]
        full = _broadcast(inputs)
        if _broadcast(operands) != full:
            operands[0] = operands[0].expand(full)
        return (
            apply(Reduce.of(term.formula, self.kind, self.axes, self.keepdims, 0), *operands).to(y.dtype),
        )


def _without_output(term: Term, formula: Formula) -> Term:
    """A derivative that reads the formula's value (exp' is the output), written with the operands.

    A sum keeps no values of what it sums.
    """
    if builtins.all(kind != "y" for kind, _ in term.sources):
        return term
    kept = [source for source in term.sources if source.kind != "y"]
    kept += [source for k in range(formula.arity) if (source := Source("x", k)) not in kept]
    operands = {var(f"x{k}"): var(f"x{kept.index(Source('x', k))}") for k in range(formula.arity)}
    (value,) = substitute(formula.outputs, operands)
    places = {
        var(f"x{position}"): value if source.kind == "y" else var(f"x{kept.index(source)}")
        for position, source in enumerate(term.sources)
    }
    return Term(
        Formula.of(term.formula.name, tuple(substitute(term.formula.outputs, places)), len(kept)), tuple(kept)
    )


def _broadcast(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    shape: tuple[int, ...] = ()
    for tensor in tensors:
        own = tensor.array.shape
        if own and own != shape:  # numbers go with every shape
            if shape:
                return np.broadcast_shapes(*[tensor.array.shape for tensor in tensors])
            shape = own
    return shape


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``x`` summed over the axes that broadcasting from ``shape`` had added."""
    full = x.array.shape
    if full == shape:
        return x
    summed = apply(Reduce.of(IDENTITY, "sum", summed_axes(full, shape), False), x)
    return summed if summed.array.shape == shape else summed.reshape(shape)


def product_of_others(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """For every element the product of the others along ``axes``, right where elements are zero.

    It is the product of all before times the product of all after, two exclusive scans.
    """
    from nbdl.ops.padding import pad_constant

    others = tuple(axis for axis in range(x.array.ndim) if axis not in axes)
    order = (*others, *axes)
    moved = x.permute(order)
    flat = moved.reshape((*[x.array.shape[axis] for axis in others], -1))
    n = flat.array.shape[-1]
    ones = pad_constant(flat, [(0, 0)] * len(others) + [(1, 1)], 1.0)
    before = ones.narrow(-1, 0, n + 1).cumprod(-1).narrow(-1, 0, n)
    after = ones.narrow(-1, 2, n).flip(-1).cumprod(-1).flip(-1)
    result = (before * after).reshape(tuple(moved.array.shape))
    return result.permute(inverse_permutation(order))


# ----------------------------------------------------------------------------------------- public functions
def _axes(label: str, x: Tensor, dim: Any, axis: Any) -> tuple[int, ...]:
    if dim is not None and axis is not None:
        raise TypeError(f"{label}: give dim or axis, not both")
    return normalize_axes(label, axis if dim is None else dim, x.array.ndim)


def _reduce(
    kind: str, x: Tensor, dim: Any, keepdim: bool, dtype: Any, axis: Any, keepdims: bool | None
) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{kind}(): argument 1 must be a tensor, got {type(x).__name__}")
    if dtype is not None and x.array.dtype != dtype:
        x = x.to(dtype)
    if kind in ("max", "min"):
        if x.array.dtype.kind == "c":
            raise NotImplementedError(f"{kind}: complex numbers have no order, got {x.dtype}")
        if x.array.size == 0 and dim is None and axis is None:
            raise RuntimeError(f"a{kind}: a tensor without elements has none; shape {tuple(x.shape)}")
    return apply(
        Reduce.of(IDENTITY, kind, _axes(kind, x, dim, axis), keepdim if keepdims is None else keepdims), x
    )


def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Sum over ``dim`` (all axes if None). Integers and bools are summed in int64.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]).sum(axis=0)
        tensor([4., 6.])
    """
    return _reduce("sum", input, dim, keepdim, dtype, axis, keepdims)


def mean(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Mean over ``dim`` (all axes if None) of a floating tensor; NaN where there is nothing to average.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: the elements are no floats, or an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]).mean(0)
        tensor([2., 3.])
    """
    return _reduce("mean", input, dim, keepdim, dtype, axis, keepdims)


def _truth(kind: str, x: Tensor, dim: Any, keepdim: bool, axis: Any, keepdims: bool | None) -> Tensor:
    """``any`` or ``all``: a bool; a byte of bytes, as in PyTorch, which once had no bools."""
    result = _reduce(kind, x, dim, keepdim, None, axis, keepdims)
    return result.to(np.uint8) if x.array.dtype == np.uint8 else result


def any(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None
) -> Tensor:
    """Whether an element along ``dim`` is not zero.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.any(nbdl.tensor([0, 2]))
        tensor(True)
    """
    return _truth("any", input, dim, keepdim, axis, keepdims)


def all(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None
) -> Tensor:
    """Whether all elements along ``dim`` are not zero.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.all(nbdl.tensor([0, 2]))
        tensor(False)
    """
    return _truth("all", input, dim, keepdim, axis, keepdims)


def prod(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Product over ``dim`` (all axes if None).

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]).prod(1)
        tensor([ 2., 12.])
    """
    return _reduce("prod", input, dim, keepdim, dtype, axis, keepdims)


def amax(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None
) -> Tensor:
    """Maximum over ``dim``; ties share the gradient evenly, NaN wins.

    Raises:
        IndexError: an axis is out of range, or has no elements.
        RuntimeError: an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]).amax(1)
        tensor([2., 4.])
    """
    return _reduce("max", input, dim, keepdim, None, axis, keepdims)


def amin(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool | None = None
) -> Tensor:
    """Minimum over ``dim``; ties share the gradient evenly, NaN wins.

    Raises:
        IndexError: an axis is out of range, or has no elements.
        RuntimeError: an axis is given twice.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]).amin(1)
        tensor([1., 3.])
    """
    return _reduce("min", input, dim, keepdim, None, axis, keepdims)
