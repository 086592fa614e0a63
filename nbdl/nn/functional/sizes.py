"""Arguments that are one number for all spatial axes, or one a number an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.tensor import Tensor


def sizes(label: str, name: str, value: Any, rank: int, *, least: int = 0) -> tuple[int, ...]:
    """``value`` as ``rank`` integers.

    Args:
        label: the function, for error messages.
        name: the argument, for error messages.
        value: one integer, or a sequence of one or ``rank``.
        rank: how many there shall be.
        least: the smallest that is allowed.

    Raises:
        TypeError: it is no integer or sequence of integers.
        RuntimeError: there are too many or too few, or one is too small.
    """
    if type(value) is int and value >= least:  # the usual cases, first a caller's, then a module's
        return (value,) * rank
    if type(value) is tuple and len(value) == rank and {*map(type, value)} == {int} and min(value) >= least:
        return value
    entries = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not all(hasattr(entry, "__index__") and not isinstance(entry, bool) for entry in entries):
        raise TypeError(f"{label}: {name} must be an integer or a tuple of {rank} integers, got {value!r}")
    numbers = tuple(entry.__index__() for entry in entries)
    if len(numbers) == 1:
        numbers *= rank
    if len(numbers) != rank:
        raise RuntimeError(
            f"{label}: {name} must be a single integer or a tuple of {rank} integers, got {value!r}"
        )
    if min(numbers) < least:
        raise RuntimeError(f"{label}: {name} must be at least {least}, got {value!r}")
    return numbers


def batched(label: str, input: Tensor, rank: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The input with a batch axis, and what takes that axis off the result again if it was added.

    Raises:
        RuntimeError: the input is neither (N, C, *size) nor (C, *size) with ``rank`` spatial axes.
    """
    if input.array.ndim == rank + 2:
        return input, lambda result: result
    if input.array.ndim == rank + 1:
        return input.unsqueeze(0), lambda result: result.squeeze(0)
    raise RuntimeError(
        f"{label}: Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {label}, but got input "
        f"of size: {list(input.shape)}"
    )
