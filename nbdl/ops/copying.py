"""Copies: clone, casts, moves between devices, and writing a window into zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.batching import Batch, apply_batched, level_of, lifted
from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply, wrap
from nbdl.autograd.tensor import Tensor, made
from nbdl.backend.device import Device, current_device, device_of, transfer
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import where
from nbdl.ops.batching import one_by_one, over_leading_axes
from nbdl.ops.memory_format import arranged
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import NOTHING, LinearMap, Primitive, View, inverse_permutation

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

__all__ = ["clone", "to", "type_as"]

_CHOICE = Formula("where", where, 3)


class Copy(LinearMap):
    """The same elements in fresh memory.

    Args:
        order: ``C`` for row-major, ``K`` for the layout of the operand.
    """

    name = "copy"

    def __init__(self, order: str):
        super().__init__(order=order)

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient itself."""
        return gradients


COPY = Copy.of("C")


class Rearrange(LinearMap):
    """A copy with axes split, permuted and merged again, in one pass.

    Args:
        split: the shape with more axes.
        axes: their new order.
        shape: of the result.
    """

    name = "rearrange"

    def __init__(self, split: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]):
        super().__init__(split=split, axes=axes, shape=shape)
        self.split, self.axes, self.shape = split, axes, shape

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """The same behind one more axis."""
        n, axes = level.size, tuple([axis + 1 for axis in self.axes])
        return Rearrange.of((n, *self.split), (0, *axes), (n, *self.shape))(*values)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The reverse."""
        (g,), split = gradients, tuple([self.split[axis] for axis in self.axes])
        assert g is not None
        return (Rearrange.of(split, inverse_permutation(self.axes), node.shape(0))(g),)


class Cast(LinearMap):
    """Another dtype; of a complex number cast to a real one its real part is left."""

    name = "cast"

    def __init__(self, dtype: np.dtype):
        super().__init__(dtype=dtype)
        self.differentiable = dtypes.is_floating(dtype) or dtype.kind == "c"

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Cast back."""
        (gradient,) = gradients
        return (gradient.to(node.dtype(0)),)  # type: ignore[union-attr]


class Transfer(LinearMap):
    """Another device.

    Args:
        device: where the result is.
        source: where the operand is.
    """

    name = "transfer"

    def __init__(self, device: Device, source: Device):
        super().__init__(device=device, source=source)
        self.device, self.source = device, source

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Copy the memory over, and record."""
        (x,) = inputs
        if x.batch is not None:
            return apply_batched(self, inputs, x.batch.level)
        if mode.recorder is not None:
            mode.recorder.refuse("a copy to another device", "give the function tensors of one device")
        return wrap(self, inputs, transfer(x.array, self.device))

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Back to where the operand was."""
        return (Transfer.of(self.source, self.device)(gradients[0]),)


class ViewScatter(LinearMap):
    """The transpose of a chain of views: the operand in its place among zeros.

    Args:
        views: view primitives that lead from an array of ``shape`` to one of the operand's shape.
        shape: shape of the result.
    """

    name = "view_scatter"

    def __init__(self, views: tuple[View, ...], shape: tuple[int, ...]):
        super().__init__(views=views, shape=shape)
        self.views = views

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Every example in its place."""
        window: Any = np.broadcast_to(np.empty(()), self.params["shape"])
        views: list[View] = []
        for view in self.views:
            behind = view.behind(level.size, window.shape)
            if not behind:
                return one_by_one(self, values, flags, level)
            views.extend(behind)
            window = view.view(window)
        return ViewScatter.of(tuple(views), (level.size, *self.params["shape"]))(*values)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The window on the gradient."""
        (gradient,) = gradients
        for primitive in self.views:
            gradient = primitive(gradient)  # type: ignore[arg-type]
        return (gradient,)


class ViewUpdate(Primitive):
    """A base whose window was overwritten; recorded, never run.

    The operands are the base as it was before, and the new window.
    """

    name = "view_update"
    saved = NOTHING

    def __init__(self, views: tuple[View, ...]):
        super().__init__(views=views)
        self.views = views

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient outside the window for the base, inside it for the window."""
        (gradient,) = gradients
        assert gradient is not None
        outside = call(_CHOICE, self._inside(gradient), 0.0, gradient) if node.needs_grad(0) else None
        return outside, self._window(gradient) if node.needs_grad(1) else None

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangent of the base, its window replaced."""
        base, window = (
            x.zeros_like() if tangent is None else tangent
            for x, tangent in zip(inputs, tangents, strict=True)
        )
        placed = ViewScatter.of(self.views, base.array.shape)(window)
        return (call(_CHOICE, self._inside(base), placed, base),)

    def _window(self, x: Tensor) -> Tensor:
        for primitive in self.views:
            x = primitive(x)
        return x

    def _inside(self, x: Tensor) -> Tensor:
        """Where the window of ``x`` is; choosing by it keeps infinities and NaN on their side."""
        window = self._window(x.detach()).ones_like(dtype=bool)
        return ViewScatter.of(self.views, x.array.shape)(window)


# ----------------------------------------------------------------------------------------- public functions
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy that gradients flow through, with the memory layout of ``input``, or in ``memory_format``.

    Example:
        >>> import nbdl
        >>> x = nbdl.zeros(2)
        >>> y = x.clone().fill_(1)
        >>> x
        tensor([0., 0.])
    """
    copy = apply(Copy.of("K"), input)
    return copy if memory_format is None else arranged("clone", copy, memory_format)


def writable_copy(x: Tensor, *others: Any) -> Tensor:
    """A copy of ``x`` to be overwritten by values of ``others``: batched under vmap at the levels of all."""
    tensors = [other for other in others if isinstance(other, Tensor)]
    level = level_of((x, *tensors))
    if level is None:
        return clone(x)
    operand = lifted(x, level)
    values = [lifted(other, level).batch.value for other in tensors]  # type: ignore[union-attr]
    copy = writable_copy(operand.batch.full(), *values)  # type: ignore[union-attr]
    return wrap(COPY, (operand,), Batch(level, copy, True))


def constant(array: np.ndarray, device: Any, dtype: Any = None) -> Tensor:
    """A tensor of an array that nobody changes: a program that is recorded keeps it, where it is needed."""
    wanted = array.dtype if dtype is None else as_dtype(dtype)
    return made(transfer(array.astype(wanted, copy=False), current_device(device)))


def as_dtype(value: Any) -> np.dtype:
    """A dtype from a dtype, a NumPy type or a name (``bfloat16`` too).

    Raises:
        TypeError: it names no dtype of tensors.
    """
    if isinstance(value, str) and value == "bfloat16":
        return dtypes.bfloat16()
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise TypeError(f"dtype: {value!r} is not a dtype") from None
    if not (dtype.kind in "biu" or dtypes.is_bfloat16(dtype) or dtype.char in "efdFD"):
        raise TypeError(f"dtype: tensors hold bools, integers, floats and complex numbers, not {dtype}")
    # Of native byte order, and the one object of this dtype: backends compare by identity.
    return np.dtype(dtype.type)


def target_of(args: Sequence[Any], dtype: Any = None, device: Any = None) -> tuple[np.dtype | None, Any]:
    """The dtype and device that the arguments of :func:`to` ask for; None where they leave it."""
    for argument in args:
        if isinstance(argument, Tensor):
            dtype, device = argument.dtype, argument.device
        elif isinstance(argument, Device) or (
            isinstance(argument, str) and argument.partition(":")[0] in ("cpu", "cuda")
        ):
            device = argument
        elif isinstance(argument, bool):
            continue  # non_blocking, given by position
        elif argument is not None:
            dtype = _dtype_or_device(argument)
    return None if dtype is None else as_dtype(dtype), device


def _dtype_or_device(name: Any) -> np.dtype:
    try:
        return as_dtype(name)
    except TypeError:
        if not isinstance(name, str):
            raise
        raise RuntimeError(
            f"to: expected a device (cpu, cuda, cuda:0, ...) or a dtype, got {name!r}"
        ) from None


def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    copy: bool = False,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """``input`` with another dtype, on another device, or both; itself if nothing changes.

    Args:
        input: the tensor.
        args: a dtype, a device, a tensor whose dtype and device are taken, or a device and a dtype.
        dtype: the dtype.
        device: the device.
        copy: make a copy in any case.
        non_blocking: accepted; transfers are ordered by the stream.
        memory_format: the order of the elements in memory.

    Raises:
        RuntimeError: there is no such device, or a name is neither a device nor a dtype.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1, 2]).to(nbdl.float32)
        tensor([1., 2.])
    """
    wanted, device = target_of(args, dtype, device)
    result = input
    if device is not None:
        target, here = Device(device), device_of(input.array)
        if target.type != here.type or (target.index is not None and target != here):
            result = Transfer.of(target, here)(result)
    if wanted is not None and result.array.dtype != wanted:
        result = apply(Cast.of(wanted), result)
    if memory_format is not None:
        result = arranged("to", result, memory_format)
    return clone(result) if copy and result is input else result


def cpu(input: Tensor) -> Tensor:
    """``input`` in the memory of the host."""
    return to(input, device="cpu")


def cuda(input: Tensor, device: int | str | None = None) -> Tensor:
    """``input`` on a GPU.

    Raises:
        RuntimeError: there is no such device.
    """
    return to(input, device=Device("cuda", device) if isinstance(device, int) else device or "cuda")


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` in the dtype of ``other``."""
    return to(input, dtype=other.dtype)
