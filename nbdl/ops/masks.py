"""Selecting and overwriting the elements where a mask holds."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.pointwise import Pointwise, operand
from nbdl.ops.primitive import check_broadcast
from nbdl.ops.selecting import Index, nonzero, take

__all__ = ["masked_fill", "masked_fill_", "masked_scatter", "masked_scatter_", "masked_select"]

_MASKED_FILL = Formula("masked_fill", lambda x, mask, value: f.where(mask, value, x), 3)


def _masked_fill_operands(x: Tensor, mask: Tensor, value: Any) -> tuple[Pointwise, Tensor]:
    if not isinstance(mask, Tensor) or mask.array.dtype.kind != "b":
        given = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise RuntimeError(f"masked_fill: only supports boolean masks, but got mask with dtype {given}")
    filler, is_number = operand("masked_fill", 3, value)
    if filler.array.ndim:
        raise RuntimeError(
            "masked_fill: only supports a 0-dimensional value tensor, but got tensor with "
            f"{filler.array.ndim} dimension(s)"
        )
    if filler.is_complex() and not x.is_complex():
        raise RuntimeError(f"masked_fill: the complex value {value} cannot be stored as {x.dtype}")
    return Pointwise.of(_MASKED_FILL, is_number << 2), filler


def masked_fill_(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Overwrite the elements where ``mask`` holds with a number."""
    primitive, filler = _masked_fill_operands(input, mask, value)
    return apply_in_place(primitive, input, mask, filler, any_cast=True)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with a number where ``mask`` (broadcast) holds.

    Raises:
        RuntimeError: the mask is not of bools, or the value no number.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, -2.0, 3.0])
        >>> x.masked_fill(x < 0, 0.0)
        tensor([1., 0., 3.])
    """
    primitive, filler = _masked_fill_operands(input, mask, value)
    return apply(primitive, input, mask, filler).to(input.array.dtype)


def _broadcast_mask(label: str, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if mask.array.dtype.kind != "b":
        raise RuntimeError(f"{label}: expected a bool mask, got {mask.dtype}")
    shape = check_broadcast(label, (x.array, mask.array))
    return x.expand(shape), mask.expand(shape)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where ``mask`` holds, both broadcast, in one vector.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, -2.0, 3.0])
        >>> x.masked_select(x > 0)
        tensor([1., 3.])
    """
    values, chosen = _broadcast_mask("masked_select", input, mask)
    size = values.array.size
    (places,) = nonzero(chosen.reshape(size), as_tuple=True)
    return apply(Index.of((0,)), values.reshape(size), places)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``input`` with the places where ``mask`` holds filled with the elements of ``source`` in turn.

    Raises:
        RuntimeError: ``source`` has fewer elements than places, or another dtype.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(3).masked_scatter(nbdl.tensor([True, False, True]), nbdl.tensor([5.0, 6.0]))
        tensor([5., 0., 6.])
    """
    values, chosen = _broadcast_mask("masked_scatter", input, mask)
    if source.dtype != input.dtype:
        raise RuntimeError(
            f"masked_scatter: input and source must have the same dtype, got {input.dtype} and {source.dtype}"
        )
    if source.array.size < chosen.array.size and source.array.size < int(chosen.sum()):
        raise RuntimeError(
            f"masked_scatter: number of elements of source ({source.array.size}) < number of ones in mask "
            f"({int(chosen.sum())})"
        )
    if not source.array.size:
        return values.clone()
    # The k-th place takes element k. The shape of no operation depends on the mask.
    place = (chosen.reshape(-1).cumsum(0) - 1).clamp(0, source.array.size - 1).reshape(chosen.array.shape)
    return where(chosen, take(source, place), values)


def masked_scatter_(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Fill the places where ``mask`` holds with the elements of ``source``, one after the other."""
    return input.copy_(masked_scatter(input, mask, source))
