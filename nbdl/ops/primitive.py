"""What a primitive is: a named operation with its parameters, its shape rule, vjp and jvp side by side.

A primitive object holds the static parameters (axes, a formula, a stride) and nothing that belongs to one
call, so equal primitives are one object (:meth:`Primitive.of`), on which backends keep their plans for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nbdl.autograd.batching import apply_batched
from nbdl.autograd.tape import apply, wrap
from nbdl.ops.batching import one_by_one

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor

EVERYTHING = frozenset(range(64))
NOTHING: frozenset[int] = frozenset()


def _no_plan(*operands: Any) -> None:
    return None


class Primitive:
    """Base of all primitives.

    Attributes:
        name: the method of the backends that computes it.
        label: what errors, graphs and programs call it.
        params: keyword arguments of that method.
        saved: which operands the vjp reads (indices).
        saves_output: whether the vjp reads the outputs.
        protects_output: whether saved outputs survive that users overwrite them, since PyTorch's rule reads
            the operands; else that is an error.
        differentiable: False if no output has a derivative (argmax, comparisons).
        has_effect: whether it is run although nobody reads its results, for the error that it may raise.
        has_static_shape: False if the shape of the result depends on values (nonzero, unique).
        plans: tables of what the Numba backend has planned for this primitive.
        verified: those plans for operations in place whose operands were checked, by identity.
        run_plan: runs the plan for operands, or returns None; the first thing that backend does.
        find_plan: finds that plan, or None.
    """

    name: ClassVar[str] = ""
    saved: ClassVar[frozenset[int]] = EVERYTHING
    saves_output: ClassVar[bool] = False
    protects_output: bool = False
    differentiable: bool = True
    has_effect: ClassVar[bool] = False
    has_static_shape: ClassVar[bool] = True
    of: ClassVar[Callable[..., Any]]

    def __init__(self, **params: Any):
        self.params = params
        self.label = self.name
        self.plans: dict[Any, Any] = {}
        self.verified: dict[int, Any] = {}
        self.run_plan: Callable[..., Any] = _no_plan
        self.find_plan: Callable[..., Any] = _no_plan

    def forget_plans(self) -> None:
        """Drop what backends prepared."""
        self.plans.clear()
        self.verified.clear()
        self.run_plan = self.find_plan = _no_plan

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        # The one primitive with these parameters. Bounded: parameters may hold the sizes of a user's arrays.
        cls.of = staticmethod(functools.lru_cache(maxsize=4096, typed=True)(cls))

    def __call__(self, *inputs: Tensor) -> Any:
        """Run on tensors, and record."""
        return apply(self, *inputs)

    def check(self, *arrays: Any) -> None:
        """The shape and dtype rule: raise the error that explains what does not fit.

        Called before a backend plans for new shapes, and when a backend failed.
        """

    def check_values(self, *arrays: Any) -> None:
        """The rule for elements, such as indices that must lie inside; called when a backend failed."""

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """Which operands (None: none), and whether the outputs, are kept for a vjp.

        Args:
            needs: bit k is set where operand k needs a gradient.
        """
        return self.saved or None, self.saves_output

    def is_differentiable_output(self, k: int) -> bool:
        """Whether output k has a derivative."""
        return True

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Gradients of the operands from those of the outputs, written with differentiable operations.

        Args:
            node: gives ``input(k)``, ``output(k)``, ``shape(k)``, ``needs_grad(k)``.
            gradients: one per output; None where an output was not used.
        """
        raise RuntimeError(f"derivative for {self.label} is not implemented")

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Tangents of the outputs from the tangents of the operands (None: zero)."""
        raise RuntimeError(f"forward derivative for {self.label} is not implemented")

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """The outputs for many examples, along axis 0; written with operations. This default is a loop.

        Args:
            values: the operands.
            flags: which of them have the examples along axis 0; the others are the same in all examples.
            level: the vmap.
        """
        return one_by_one(self, values, flags, level)

    def shifted(self) -> Primitive:
        """The same operation along the axes behind those of this one."""
        raise NotImplementedError

    def __repr__(self) -> str:
        params = ", ".join(f"{key}={value!r}" for key, value in self.params.items())
        return f"{self.label}({params})"


class LinearMap(Primitive):
    """A primitive that is linear in its first operand and has no other one with a gradient: jvp is itself."""

    saved = NOTHING

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The same operation on the tangent."""
        if tangents[0] is None:
            return (None,)
        return (self(tangents[0], *inputs[1:]),)


NEVER = 1 << 62  # later than all changes


class View(LinearMap):
    """A primitive whose result shares the memory of its operand; no backend computes anything."""

    def view(self, array: Any) -> Any:
        """The window on ``array``."""
        raise NotImplementedError

    def behind(self, size: int, shape: tuple[int, ...]) -> tuple[View, ...]:
        """Views of an array of shape (size, *shape) that are together this one for every example."""
        raise NotImplementedError

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """The same window on every example."""
        (value,) = values
        for primitive in self.behind(level.size, value.array.shape[1:]):
            value = primitive(value)
        return value

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Make the view, and record."""
        (x,) = inputs
        if x.batch is not None:
            out = apply_batched(self, inputs, x.batch.level)
        else:
            out = wrap(self, inputs, self.view(x.array))
        base, primitives = x.view_of or (x, ())
        out.view_of = (base, (*primitives, self))
        storage = base.storage
        if storage is not None:
            out.storage = storage
            out.view_time = storage.changed
        if base.requires_grad and not out.requires_grad:  # made in no_grad mode: a constant, come what may
            out.view_time = NEVER
        return out


def broadcast_error(label: str, shapes: Sequence[tuple[int, ...]]) -> RuntimeError:
    """The error for operands that do not broadcast, naming the axis."""
    described = " and ".join(str(tuple(shape)) for shape in shapes)
    rank = max(len(shape) for shape in shapes)
    for axis in range(1, rank + 1):
        sizes = {shape[-axis] for shape in shapes if len(shape) >= axis} - {1}
        if len(sizes) > 1:
            return RuntimeError(
                f"{label}: shapes {described} cannot be broadcast: "
                f"sizes {' and '.join(map(str, sorted(sizes)))} meet at axis {-axis}; they must be equal or 1"
            )
    return RuntimeError(f"{label}: shapes {described} cannot be broadcast")


def check_broadcast(label: str, arrays: Sequence[Any]) -> tuple[int, ...]:
    """The broadcast shape of ``arrays``.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    shapes = [array.shape for array in arrays]
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise broadcast_error(label, shapes) from None


def summed_axes(full: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of ``full`` that broadcasting from ``shape`` had added or stretched."""
    added = len(full) - len(shape)
    return tuple(axis for axis, n in enumerate(full) if axis < added or (shape[axis - added] == 1 and n != 1))


def inverse_permutation(axes: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes the order ``axes``."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def bits_of(values: Sequence[Any]) -> int:
    """A number whose bit k is set where value k is not None."""
    return sum(1 << k for k, value in enumerate(values) if value is not None)


def sizes_of(label: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes that were given one by one or as one sequence.

    Raises:
        TypeError: a size is no integer.
    """
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    for n in sizes:
        if type(n) is not int:
            break
    else:
        return sizes
    try:
        return tuple(n.__index__() for n in sizes)
    except AttributeError:
        raise TypeError(f"{label}: sizes must be integers, got {sizes!r}") from None


def new_shape(label: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of a new tensor, given as for :func:`sizes_of`.

    Raises:
        TypeError: a size is no integer.
        RuntimeError: a size is negative.
    """
    shape = sizes_of(label, sizes)
    if min(shape, default=0) < 0:
        raise RuntimeError(
            f"{label}: trying to create a tensor with negative dimension {min(shape)}: {list(shape)}"
        )
    return shape


def normalize_axis(label: str, axis: int, ndim: int) -> int:
    """``axis`` counted from the front.

    Raises:
        TypeError: it is no integer.
        IndexError: it is out of range.
    """
    try:
        position = axis.__index__()
    except AttributeError:
        raise TypeError(f"{label}: dim must be an integer, got {type(axis).__name__}") from None
    size = max(ndim, 1)
    if not -size <= position < size:
        raise IndexError(
            f"{label}: Dimension out of range (expected to be in range of [{-size}, {size - 1}], "
            f"but got {axis})"
        )
    return position + size if position < 0 else position


def normalize_axes(label: str, axes: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """``axes`` as sorted positions from the front; None and () mean all.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: an axis appears twice.
    """
    if axes is None:
        return tuple(range(ndim))
    given: Sequence[Any] = axes if isinstance(axes, (tuple, list)) else (axes,)
    if not given:
        return tuple(range(ndim))
    positions = [normalize_axis(label, axis, ndim) for axis in given]
    for axis in positions:
        if positions.count(axis) > 1:
            raise RuntimeError(f"{label}: dim {axis} appears multiple times in the list of dims {given}")
    return tuple(sorted(positions)) if ndim else ()
