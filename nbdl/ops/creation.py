"""New tensors: from data, filled, ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Size, Tensor, made
from nbdl.backend.device import Device, current_device, device_of, module_for, transfer, using
from nbdl.backend.dlpack import imported
from nbdl.formula import dtypes
from nbdl.ops.copying import as_dtype
from nbdl.ops.primitive import new_shape
from nbdl.ops.python_data import array_of
from nbdl.ops.type_rules import dtype_or_default, result_type

__all__ = [
    "arange", "as_tensor", "asarray", "empty", "eye", "from_dlpack", "from_numpy", "full", "is_tensor",
    "linspace", "logspace", "ones", "tensor", "zeros",
]  # fmt: skip

_NUMBERS = (bool, int, float, complex, np.generic)


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``.

    Args:
        data: number, nested sequence of numbers, array or tensor.
        dtype: default: of arrays their own; of Python floats the default dtype (float32); of ints int64.
        device: ``cpu``, ``cuda``, ``cuda:1``; default: the one of the backend in force.
        requires_grad: whether gradients shall flow to it.

    Raises:
        ValueError: a nested sequence is ragged, or an integer is too large for int64.
        TypeError: an element is no number.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([[1.0, 2.0], [3.0, 4.0]])
        tensor([[1., 2.],
                [3., 4.]])
    """
    if mode.recorder is not None and (copy := _recorded_copy(data, dtype, device)) is not None:
        return copy.requires_grad_(requires_grad)
    if isinstance(data, Tensor):
        data, device = data.array, device if device is not None else data.device
        if not isinstance(data, np.ndarray):
            data = transfer(data, current_device("cpu"))
    array = transfer(array_of(data, dtype, "tensor"), current_device(device))
    return made(array, requires_grad)


def _recorded_copy(data: Any, dtype: Any, device: Any) -> Tensor | None:
    """A copy that a program repeats, so that it sees later values; None of Python data, which are constant.

    Raises:
        RecordingError: values are read one by one, out of a list of arrays or tensors.
    """
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
    if isinstance(data, Tensor):
        return data.detach().to(dtype=dtype, device=device, copy=True)
    if mode.recorder is not None and _holds_arrays(data):
        mode.recorder.refuse("a list of arrays or tensors as data", "use nbdl.stack")
    return None


def _holds_arrays(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and any(
        isinstance(entry, (Tensor, np.ndarray)) or _holds_arrays(entry) for entry in data
    )


def constructed(label: str, data: tuple[Any, ...], dtype: Any = None) -> Any:
    """The array of ``Tensor(2, 3)``, ``Tensor([1.0, 2.0])`` or ``Tensor()``: sizes, data, or nothing.

    Raises:
        TypeError: the data are no numbers.
    """
    kind = dtype_or_default(dtype)
    if len(data) == 1 and not isinstance(data[0], (int, Size)):
        return tensor(data[0], dtype=kind).array
    return empty(*(data or (0,)), dtype=kind).array


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, sharing memory with arrays and tensors where dtype and device allow it.

    Raises:
        ValueError: a nested sequence is ragged.
        TypeError: an element is no number.

    Example:
        >>> import nbdl
        >>> nbdl.as_tensor([1, 2, 3])
        tensor([1, 2, 3])
    """
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == as_dtype(dtype)):
        return from_numpy(data) if device is None else from_numpy(data).to(device=device)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_numpy(array: np.ndarray) -> Tensor:
    """A CPU tensor that shares memory with ``array``.

    Raises:
        TypeError: it is no NumPy array, or of a dtype that tensors do not have.

    Example:
        >>> import nbdl
        >>> import numpy as np
        >>> array = np.zeros(2)
        >>> x = nbdl.from_numpy(array)
        >>> array[0] = 5
        >>> x
        tensor([5., 0.], dtype=float64)
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected np.ndarray (got {type(array).__name__})")
    as_dtype(array.dtype)
    if not array.dtype.isnative:
        raise TypeError(
            f"from_numpy: the byte order of {array.dtype} is not native; use "
            "array.astype(array.dtype.newbyteorder('='))"
        )
    return _borrowed(array.view(np.ndarray))


def _borrowed(array: Any) -> Tensor:
    result = Tensor(array)
    result.borrowed = True
    return result


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor that shares memory with an object that speaks DLPack (PyTorch, JAX, CuPy, NumPy).

    Args:
        ext_tensor: the object, or a capsule of DLPack's.
        device: where the tensor shall be; default: where the memory is.
        copy: True: always copy; False: never; None: only to another device.

    Raises:
        TypeError: it does not speak DLPack.
        RuntimeError: a capsule was taken before, or the memory or the elements are of an unknown kind.
        BufferError: the object does not share its memory, or another device is wanted without a copy.

    Example:
        >>> import nbdl, numpy as np
        >>> array = np.zeros(2)
        >>> nbdl.from_dlpack(array).add_(1)
        tensor([1., 1.], dtype=float64)
        >>> array
        array([1., 1.])
    """
    array = imported(ext_tensor)
    there = array if device is None else transfer(array, Device(device))
    if there is array:
        return _borrowed(array).clone() if copy else _borrowed(array)
    if copy is False:
        raise BufferError(
            f"from_dlpack: memory of {device_of(array)} is not on {device}; copy=None allows for a copy"
        )
    return Tensor(there)


def filled(caller: str, size: tuple, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """``value`` in shape ``size``; ``caller`` is named by errors."""
    wanted = dtype_or_default(dtype)
    xp = module_for(current_device(device))
    shape = new_shape(caller, size)
    return made(xp.zeros(shape, wanted) if value == 0 else xp.full(shape, value, wanted), requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of shape ``size``.

    Raises:
        RuntimeError: a size is negative.
        TypeError: a size is no integer.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(2, 3)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    return filled("zeros", size, 0, dtype, device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of shape ``size``.

    Raises:
        RuntimeError: a size is negative.
        TypeError: a size is no integer.

    Example:
        >>> import nbdl
        >>> nbdl.ones(2, dtype=nbdl.int64)
        tensor([1, 1])
    """
    return filled("ones", size, 1, dtype, device, requires_grad)


def _is_within(value: Any, limits: np.iinfo) -> bool:
    is_complex = isinstance(value, (complex, np.complexfloating))
    return not is_complex and bool(limits.min <= value <= limits.max)


def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``fill_value`` in shape ``size``; the dtype follows the value unless given.

    Raises:
        RuntimeError: a size is negative, or the value does not fit the dtype.
        TypeError: a size is no integer, or the value no number.

    Example:
        >>> import nbdl
        >>> nbdl.full((2, 2), 7)
        tensor([[7, 7],
                [7, 7]])
    """
    is_scalar = isinstance(fill_value, Tensor) or (isinstance(fill_value, np.ndarray) and not fill_value.ndim)
    value: Any = fill_value.item() if is_scalar else fill_value
    if not isinstance(value, _NUMBERS):
        raise TypeError(f"full: fill_value must be a number, got {type(fill_value).__name__}")
    if dtype is None and isinstance(fill_value, (bool, int, complex)):
        dtype = result_type(0 if type(value) is int else fill_value)
    wanted = dtype_or_default(dtype)
    if wanted.kind in "iu" and not _is_within(value, np.iinfo(wanted)):
        raise RuntimeError(f"full: value {value} cannot be converted to type {wanted} without overflow")
    return filled(
        "full",
        (tuple(size),) if isinstance(size, (tuple, list)) else (size,),
        value,
        wanted,
        device,
        requires_grad,
    )


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory of shape ``size``.

    Raises:
        RuntimeError: a size is negative.
        TypeError: a size is no integer.
    """
    wanted = dtype_or_default(dtype)
    return made(module_for(current_device(device)).empty(new_shape("empty", size), wanted), requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The n x m identity matrix (n x n if ``m`` is None).

    Raises:
        RuntimeError: a size is negative.

    Example:
        >>> import nbdl
        >>> nbdl.eye(2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    wanted = dtype_or_default(dtype)
    rows, columns = new_shape("eye", (n, n if m is None else m))
    return made(module_for(current_device(device)).eye(rows, columns, dtype=wanted), requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below end; int64 for integers, else the default dtype.

    Of integers, ``start``, ``end`` and ``step`` are made whole first, towards 0.

    Raises:
        RuntimeError: the step is 0, leads away from the end, or the range is not finite.

    Example:
        >>> import nbdl
        >>> nbdl.arange(1, 8, 2)
        tensor([1, 3, 5, 7])
    """
    if end is None:
        start, end = 0, start
    start, end, step = (_number(value) for value in (start, end, step))
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"arange: unsupported range: {start} -> {end}")
    if dtype is None:
        dtype = (
            np.int64
            if all(isinstance(v, (int, np.integer)) for v in (start, end, step))
            else dtypes.get_default_dtype()
        )
    wanted = as_dtype(dtype)
    if wanted.kind in "iu":
        start, end, step = (int(v) for v in (start, end, step))
    if step == 0:
        raise RuntimeError("arange: step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(
            f"arange: upper bound and larger bound inconsistent with step sign: {start}, {end}, {step}"
        )
    count = max(0, math.ceil((end - start) / step))
    place = current_device(device)
    xp = module_for(place)
    with using(place):
        if wanted.kind in "iub":
            return made(xp.arange(start, end, step).astype(wanted, copy=False), requires_grad)
        places = xp.arange(count, dtype=np.float64)
        places *= step
        places += start
        return made(places.astype(wanted, copy=False), requires_grad)


def _number(value: Any) -> Any:
    """A number, which may be given as a tensor of one element."""
    return value.item() if isinstance(value, Tensor) else value


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included.

    Of integers, the ends are made whole first, towards 0, and then the values between them.

    Raises:
        RuntimeError: ``steps`` is negative.

    Example:
        >>> import nbdl
        >>> nbdl.linspace(0, 1, 5)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    wanted = dtype_or_default(dtype)
    place = current_device(device)
    with using(place):
        return made(_spaced("linspace", place, start, end, steps, wanted).astype(wanted), requires_grad)


def _spaced(label: str, place: Any, start: Any, end: Any, steps: int, dtype: np.dtype) -> Any:
    """Evenly spaced numbers between two that the dtype can hold."""
    (count,) = new_shape(label, (steps,))
    ends = [_number(start), _number(end)]
    if dtype.kind in "iu":
        ends = [int(bound) for bound in ends]
    return module_for(place).linspace(*ends, count)


def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``base`` to the powers :func:`linspace` (start, end, steps).

    Raises:
        RuntimeError: ``steps`` is negative.

    Example:
        >>> import nbdl
        >>> nbdl.logspace(0, 3, 4)
        tensor([   1.,   10.,  100., 1000.])
    """
    wanted = dtype_or_default(dtype)
    place = current_device(device)
    with using(place):
        powers = float(base) ** _spaced("logspace", place, start, end, steps, wanted)
        return made(powers.astype(wanted), requires_grad)


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)
