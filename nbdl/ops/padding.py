"""Frames around tensors: of one value, mirrored, repeated, periodic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.backend.windows import Pairs
from nbdl.ops.connection import connected
from nbdl.ops.primitive import LinearMap
from nbdl.ops.shape import contiguous, narrow
from nbdl.ops.views import Slice

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node


class Pad(LinearMap):
    """A frame of one value around the operand.

    Args:
        widths: (before, after) for every axis, not negative.
        value: what the frame is filled with.
    """

    name = "pad"

    def __init__(self, widths: tuple[tuple[int, int], ...], value: bool | int | float):
        super().__init__(widths=widths, value=value)
        self.widths = widths

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """A frame around every example."""
        return Pad.of(((0, 0), *self.widths), self.params["value"])(*values)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient inside the frame."""
        window = tuple((before, before + n, None) for n, (before, _) in zip(node.shape(0), self.widths))
        return (Slice.of(window)(gradients[0]),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangent in a frame of zeros."""
        return (Pad.of(self.widths, 0)(tangents[0]),)


class Extend(LinearMap):
    """A frame that continues the operand.

    Args:
        widths: (before, after) for every axis, not negative.
        mode: of :func:`numpy.pad`: ``edge``, ``reflect``, ``symmetric`` or ``wrap``.
    """

    name = "extend"

    def __init__(self, widths: Pairs, mode: str):
        super().__init__(widths=widths, mode=mode)
        self.widths, self.mode = widths, mode

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """A frame around every example."""
        return type(self).of(((0, 0), *self.widths), self.mode)(*values)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Every element gets the gradients of all that repeat it."""
        gradient = ExtendInput.of(self.widths, self.mode)(contiguous(gradients[0]))  # type: ignore[arg-type]
        return (gradient if self.mode == "wrap" else connected(gradient, node),)


class ExtendInput(Extend):
    """The transpose of :class:`Extend`, with the same parameters."""

    name = "extend_input"

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient in its frame."""
        return (Extend.of(self.widths, self.mode)(contiguous(gradients[0])),)  # type: ignore[arg-type]


def pad_constant(x: Tensor, widths: Sequence[tuple[int, int]], value: bool | int | float = 0) -> Tensor:
    """``x`` in a frame of ``value``.

    Args:
        x: the tensor.
        widths: (before, after) for every axis; a negative width cuts off.
        value: what the frame is filled with.

    Raises:
        RuntimeError: there is not one pair an axis, or more is cut off than there is.
    """
    pairs = _widths(x, widths)
    for axis, (before, after) in enumerate(pairs):
        n = x.array.shape[axis]
        if before + n + after < 0 or min(before, 0) + n + min(after, 0) < 0:
            raise RuntimeError(f"pad: widths ({before}, {after}) cut more off dim {axis} than its size {n}")
        if before < 0 or after < 0:
            x = narrow(x, axis, max(0, -before), n + min(before, 0) + min(after, 0))
    positive = tuple([(max(before, 0), max(after, 0)) for before, after in pairs])
    return apply(Pad.of(positive, value), x)


def _widths(x: Tensor, widths: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    pairs = [(int(before), int(after)) for before, after in widths]
    if len(pairs) != x.array.ndim:
        raise RuntimeError(
            f"pad: expected one (before, after) pair for each of {x.array.ndim} axes, got {pairs}"
        )
    return pairs


# Mode: the same mode of numpy.pad, and how far beyond the axis of length n it may go.
_PAD_MODES = {
    "reflect": ("reflect", -1),
    "replicate": ("edge", None),
    "circular": ("wrap", 0),
    "symmetric": ("symmetric", 0),
}


def pad(
    x: Tensor, widths: Sequence[tuple[int, int]], mode: str = "constant", value: bool | int | float = 0
) -> Tensor:
    """``x`` in a frame that continues it.

    Args:
        x: the tensor.
        widths: (before, after) for every axis.
        mode: ``constant``; ``reflect`` (mirrored at the outermost element); ``symmetric`` (mirrored at the
            edge); ``replicate`` (the outermost element); ``circular`` (periodic).
        value: the value of mode ``constant``.

    Raises:
        ValueError: there is no such mode.
        RuntimeError: the frame is wider than the mode can fill.
    """
    if mode == "constant":
        return pad_constant(x, widths, value)
    if mode not in _PAD_MODES:
        raise ValueError(f"pad: mode must be constant, {', '.join(_PAD_MODES)}, got {mode!r}")
    numpy_mode, slack = _PAD_MODES[mode]
    pairs = _widths(x, widths)
    for n, axis, (before, after) in zip(x.array.shape, range(x.array.ndim), pairs, strict=True):
        if before == after == 0:
            continue
        if (
            n == 0
            or (slack is not None and max(before, after) > n + slack)
            or n + min(before, 0) + min(after, 0) < 0
        ):
            raise RuntimeError(
                f"pad: widths ({before}, {after}) of mode {mode!r} must stay within dim {axis} of size {n}"
            )
    frame = tuple([(max(before, 0), max(after, 0)) for before, after in pairs])
    y = apply(Extend.of(frame, numpy_mode), contiguous(x))
    for axis, (before, after) in enumerate(pairs):
        if before < 0 or after < 0:
            y = narrow(y, axis, max(0, -before), y.array.shape[axis] + min(before, 0) + min(after, 0))
    return y
