"""New tensors from memory and with strides, numbers as tensors, and questions about tensors."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.copying import as_dtype
from nbdl.ops.creation import arange, empty, tensor
from nbdl.ops.primitive import sizes_of

__all__ = [
    "empty_permuted", "empty_strided", "from_file", "frombuffer", "is_inference", "is_neg", "is_nonzero",
    "is_same_size", "is_signed", "new_empty", "new_empty_strided", "range", "resolve_neg", "scalar_tensor",
]  # fmt: skip


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a 0-d tensor of the default dtype."""
    wanted = dtypes.get_default_dtype() if dtype is None and not isinstance(s, complex) else dtype
    return tensor(s, dtype=wanted, device=device, requires_grad=requires_grad)


def range(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to ``end``, which is included, unlike in :func:`nbdl.arange`; floating.

    Raises:
        RuntimeError: the step is 0, or leads away from the end.
    """
    if end is None:
        start, end = 0, start
    if step == 0:
        raise RuntimeError("range: step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(
            f"range: upper bound and lower bound inconsistent with step sign: {start}, {end}, {step}"
        )
    count = int((end - start) / step) + 1
    values = arange(count, dtype="float64", device=device) * step + start
    result = values.to(dtypes.get_default_dtype() if dtype is None else dtype)
    return result.requires_grad_() if requires_grad else result


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A vector that shares the memory of an object with the buffer protocol.

    Args:
        buffer: bytes, bytearray, array.array, ...
        dtype: how the bytes are read.
        count: number of elements; -1: up to the end.
        offset: bytes that are skipped.
        requires_grad: whether gradients shall flow to it.

    Raises:
        ValueError: the buffer is too short, or no whole number of elements.
    """
    return Tensor(np.frombuffer(buffer, as_dtype(dtype), count, offset), requires_grad=requires_grad)


def from_file(
    filename: str,
    shared: bool | None = None,
    size: int | None = 0,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A vector on the bytes of a file, which are read when they are needed.

    Args:
        filename: the file.
        shared: write changes to the file, which is made, or made longer, if need be.
        size: number of elements.
        dtype: how the bytes are read; default: the default dtype.
        requires_grad: whether gradients shall flow to it.

    Raises:
        RuntimeError: the file cannot be opened, or is too short.
    """
    kind = dtypes.get_default_dtype() if dtype is None else as_dtype(dtype)
    count = int(size or 0)
    try:
        if shared:
            with open(filename, "ab") as file:
                file.truncate(max(file.tell(), count * kind.itemsize))
        array = np.memmap(filename, kind, "r+" if shared else "c", shape=(count,))
    except (OSError, ValueError) as error:
        raise RuntimeError(f"from_file: {filename}: {error}") from None
    return Tensor(array.view(np.ndarray), requires_grad=requires_grad)


def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uninitialised memory with the given sizes and strides (in elements).

    Raises:
        RuntimeError: sizes or strides are negative, or not equally many.
    """
    sizes, steps = sizes_of("empty_strided", (tuple(size),)), sizes_of("empty_strided", (tuple(stride),))
    if len(sizes) != len(steps) or min((*sizes, *steps), default=0) < 0:
        raise RuntimeError(f"empty_strided: mismatch in length, or negative: size {sizes}, stride {steps}")
    length = 0 if 0 in sizes else 1 + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    memory = empty(length, dtype=dtype, device=device)
    if 0 in sizes:
        return empty(sizes, dtype=dtype, device=device, requires_grad=requires_grad)
    from nbdl.ops.layout import AsStrided

    window = Tensor(AsStrided(sizes, steps, 0).view(memory.array))
    return window.requires_grad_() if requires_grad else window


def empty_permuted(
    size: Sequence[int],
    physical_layout: Sequence[int],
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uninitialised memory of shape ``size``, its axes lying in the order ``physical_layout``."""
    order = list(physical_layout)
    if sorted(order) != sorted(builtins.range(len(size))):
        raise RuntimeError(
            f"empty_permuted: physical_layout must order the axes of size {tuple(size)}, got {order}"
        )
    memory = empty([size[axis] for axis in order], dtype=dtype, device=device)
    window = Tensor(memory.array.transpose([order.index(axis) for axis in builtins.range(len(order))]))
    return window.requires_grad_() if requires_grad else window


def new_empty(
    input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uninitialised memory of shape ``size`` with the dtype and device of ``input``."""
    return empty(
        *size,
        dtype=input.dtype if dtype is None else dtype,
        device=input.device if device is None else device,
        requires_grad=requires_grad,
    )


def new_empty_strided(
    input: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """:func:`empty_strided` with the dtype and device of ``input``."""
    wanted = input.dtype if dtype is None else dtype
    where = input.device if device is None else device
    return empty_strided(size, stride, dtype=wanted, device=where, requires_grad=requires_grad)


# ------------------------------------------------------------------------------------------------ questions


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not 0.

    Raises:
        RuntimeError: there is not exactly one element.
    """
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both tensors have the same shape."""
    return tuple(input.array.shape) == tuple(other.array.shape)


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.kind not in "ub"


def is_inference(input: Tensor) -> bool:
    """Whether it was made in inference mode."""
    return input._inference


def is_neg(input: Tensor) -> bool:
    """False: negations are computed at once, not when they are read."""
    return False


def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negations are computed at once."""
    return input
