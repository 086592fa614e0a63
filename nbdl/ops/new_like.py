"""New tensors with the dtype and device of another one, and with its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor, made
from nbdl.backend.device import current_device, device_of, module_for
from nbdl.ops.copying import as_dtype
from nbdl.ops.creation import filled, tensor
from nbdl.ops.primitive import new_shape

__all__ = [
    "empty_like", "full_like", "new_full", "new_ones", "new_tensor", "new_zeros", "ones_like", "zeros_like",
]  # fmt: skip


def _like(x: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    if x.batch is not None:
        return x.batch.with_value(_like(x.batch.value, value, dtype, device, False)).tensor()
    place = device_of(x.array) if device is None else current_device(device)
    wanted = x.array.dtype if dtype is None else as_dtype(dtype)
    xp = module_for(place)
    array = xp.zeros(x.array.shape, wanted) if value == 0 else xp.full(x.array.shape, value, wanted)
    return made(array, requires_grad)


def zeros_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros with the shape, dtype and device of ``input``.

    Example:
        >>> import nbdl
        >>> nbdl.zeros_like(nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[0., 0.],
                [0., 0.]])
    """
    return _like(input, 0, dtype, device, requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones with the shape, dtype and device of ``input``."""
    return _like(input, 1, dtype, device, requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``fill_value`` with the shape, dtype and device of ``input``."""
    return _like(input, fill_value, dtype, device, requires_grad)


def empty_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uninitialised memory with the shape, dtype and device of ``input``."""
    if input.batch is not None:
        return input.batch.with_value(empty_like(input.batch.value, dtype=dtype, device=device)).tensor()
    place = device_of(input.array) if device is None else current_device(device)
    return made(
        module_for(place).empty(input.array.shape, input.array.dtype if dtype is None else as_dtype(dtype)),
        requires_grad,
    )


def _new(x: Tensor, size: tuple, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    if x.batch is not None:
        rows = (x.batch.level.size,) if x.batch.is_batched else ()
        sizes = (*rows, *new_shape("new", size))
        return x.batch.with_value(_new(x.batch.value, sizes, value, dtype, device, False)).tensor()
    wanted = x.array.dtype if dtype is None else as_dtype(dtype)
    return filled("new", size, value, wanted, device_of(x.array) if device is None else device, requires_grad)


def new_zeros(
    input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of shape ``size`` with the dtype and device of ``input``.

    Raises:
        RuntimeError: a size is negative.
        TypeError: a size is no integer.
    """
    return _new(input, size, 0, dtype, device, requires_grad)


def new_ones(
    input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Ones of shape ``size`` with the dtype and device of ``input``.

    Raises:
        RuntimeError: a size is negative.
        TypeError: a size is no integer.
    """
    return _new(input, size, 1, dtype, device, requires_grad)


def new_full(
    input: Tensor,
    size: Sequence[int],
    fill_value: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``fill_value`` in shape ``size`` with the dtype and device of ``input``.

    Raises:
        RuntimeError: a size is negative.
        TypeError: a size is no integer.
    """
    return _new(input, (tuple(size),), fill_value, dtype, device, requires_grad)


def new_tensor(
    input: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A copy of ``data`` with the dtype and device of ``input``.

    Raises:
        ValueError: a nested sequence is ragged.
        TypeError: an element is no number.
    """
    return tensor(
        data,
        dtype=input.dtype if dtype is None else dtype,
        device=input.device if device is None else device,
        requires_grad=requires_grad,
    )
