"""The arrays of the stand-in for CuPy: NumPy's over fenced memory, which refuse to become such unasked."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gpu import standin_device as device_module
from gpu.standin_device import (
    CUDARuntimeError,
    Device,
    ForeignMemory,
    Memory,
    MemoryPointer,
    counters,
    get_current_stream,
    is_capturing,
    issue,
    wait,
)
from gpu.standin_names import NAMES

from nbdl.backend import dlpack

KDL_CPU, KDL_CUDA = 1, 2


class _Lent:
    """What NumPy shares: an array that keeps the memory of the stand-in counted."""

    def __init__(self, host: np.ndarray, memory: Memory):
        self.__array_interface__, self._kept = host.__array_interface__, (host, memory)


class _Taken:
    """A capsule of device memory, as NumPy may read it."""

    def __init__(self, capsule: Any):
        self._capsule = capsule
        tensor = dlpack._tensor_in(capsule)
        self.device = tensor.device_type, tensor.device_id
        tensor.device_type, tensor.device_id = KDL_CPU, 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return KDL_CPU, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._capsule


class Flags:
    """`ndarray.flags`, which knows nothing of writeability."""

    def __init__(self, flags: Any):
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


def _binary(name: str) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        return apply(getattr(operator, name), self, other)

    return method


def _reflected(name: str) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        return apply(getattr(operator, name), other, self)

    return method


def _in_place(name: str) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> ndarray:
        self[...] = apply(getattr(operator, name), self, other).astype(self.dtype)
        return self

    return method


def _method(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        unknown = kwargs.keys() - _KEYWORDS[name]
        if unknown:
            raise TypeError(f"{name}() got an unexpected keyword argument {min(unknown)!r}")
        return apply(getattr(np.ndarray, name), self, *args, **kwargs)

    return method


_OPERATORS = [
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift",
    "rshift",
]  # fmt: skip
_COMPARISONS = ["lt", "le", "gt", "ge", "eq", "ne"]
_IN_PLACE = ["add", "sub", "mul", "truediv"]
# What CuPy's methods take, which is less than NumPy's do.
_REDUCING, _CHOOSING = {"axis", "dtype", "out", "keepdims"}, {"axis", "out", "keepdims"}
_SCANNING = {"axis", "dtype", "out"}
_KEYWORDS = {
    **dict.fromkeys(("sum", "prod", "mean", "argmax", "argmin"), _REDUCING),
    "var": {*_REDUCING, "ddof"},
    **dict.fromkeys(("max", "min", "any", "all"), _CHOOSING),
    **dict.fromkeys(("cumsum", "cumprod"), _SCANNING),
    "take": {"indices", "axis", "out"},
    "argsort": {"axis", "kind"},
    "argpartition": {"kth", "axis"},
    "conj": set(),
}


class ndarray:
    """`cupy.ndarray`: `_host` is a NumPy array over the memory."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any = float,
        memptr: MemoryPointer | None = None,
        strides: Any = None,
    ):
        if memptr is None:
            made = empty(shape, dtype)
            self._host, self._memory = made._host, made._memory
        else:
            offset = memptr.ptr - memptr.mem.bytes.ctypes.data
            self._host = np.ndarray(shape, dtype, memptr.mem.bytes, offset, strides)
            self._memory = memptr.mem
        self.base = None

    @classmethod
    def _of(cls, host: np.ndarray, memory: Memory, base: ndarray | None = None) -> ndarray:
        self = cls.__new__(cls)
        self._host, self._memory, self.base = host, memory, base
        return self

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host.flags))
    device = property(lambda self: Device(self._memory.device))
    data = property(lambda self: MemoryPointer(self._memory, self._host.ctypes.data - self._memory.ptr))
    real = property(lambda self: self._view(self._host.real))
    imag = property(lambda self: self._view(self._host.imag))
    T = property(lambda self: self.transpose())

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in NAMES:
            return NotImplemented
        return apply(ufunc, *args, **kwargs)

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        if function.__name__ not in NAMES:
            return NotImplemented
        return apply(function, *args, **kwargs)

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return repr(self._host)

    # -- the host waits
    def get(self) -> np.ndarray:
        wait("a copy to the host")
        return self._host.copy()

    def item(self, *args: int) -> Any:
        return self.get().item(*args)

    def tolist(self) -> Any:
        return self.get().tolist()

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    # -- views and elements
    def _view(self, host: np.ndarray) -> ndarray:
        return ndarray._of(host, self._memory, self if self.base is None else self.base)

    def __getitem__(self, key: Any) -> ndarray:
        entries = key if isinstance(key, tuple) else (key,)
        _check_key(entries)
        if any(isinstance(entry, (ndarray, np.ndarray, list)) for entry in entries):
            if any(isinstance(entry, ndarray) and entry.dtype == bool for entry in entries):
                wait("indexing by a mask")
            return apply(operator.getitem, self, key)
        if not any(entry is Ellipsis for entry in entries):
            key = (*entries, Ellipsis)  # an array even where one element is left
        return self._view(self._host[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        _check_key(key if isinstance(key, tuple) else (key,))
        used = memories_of([self, key, value])
        host, key, value = self._host, unwrapped(key), unwrapped(value)

        def run() -> None:
            with np.errstate(all="ignore"):
                host[key] = value

        issue(run, used)

    def reshape(self, *shape: Any) -> ndarray:
        shape = shape[0] if len(shape) == 1 else shape
        result = self._host.reshape(shape)
        return self._view(result) if np.may_share_memory(result, self._host) else self.copy().reshape(shape)

    def ravel(self) -> ndarray:
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> ndarray:
        return self._view(self._host.swapaxes(a, b))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        window = self._host.diagonal(offset, axis1, axis2)
        window.flags.writeable = True
        return self._view(window)

    def squeeze(self, axis: Any = None) -> ndarray:
        return self._view(self._host.squeeze(axis))

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._host.view(dtype) if dtype is not None else self._host.view())

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        return self if not copy and self.dtype == dtype else apply(np.ndarray.astype, self, dtype)

    def copy(self, order: str = "C") -> ndarray:
        return apply(lambda host: host.copy(order), self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return KDL_CUDA, self._memory.device

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        if dl_device is not None and tuple(dl_device) == (KDL_CPU, 0):
            if copy is False:
                raise ValueError("GPU memory cannot be exported to CPU without copy")
            return self.get().__dlpack__(max_version=max_version)
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError("DLPack export only supports the device of the array, or the CPU")
        if stream is not None and (not isinstance(stream, int) or stream == 0 or stream < -1):
            raise ValueError(f"On CUDA, the valid stream for the DLPack protocol is not {stream}")
        counters.shared_with.append(stream)
        host = (self.copy() if copy else self)._host
        capsule = np.asarray(_Lent(host, self._memory)).__dlpack__(max_version=max_version)
        tensor = dlpack._tensor_in(capsule)
        tensor.device_type, tensor.device_id = self.__dlpack_device__()
        return capsule

    def fill(self, value: Any) -> None:
        self[...] = value

    for _name in _OPERATORS:
        locals()[f"__{_name.rstrip('_')}__"] = _binary(_name)
        locals()[f"__r{_name.rstrip('_')}__"] = _reflected(_name)
    for _name in _COMPARISONS:
        locals()[f"__{_name}__"] = _binary(_name)
    for _name in _IN_PLACE:
        locals()[f"__i{_name}__"] = _in_place(_name)
    for _name in _KEYWORDS:
        locals()[_name] = _method(_name)
    __neg__ = lambda self: apply(operator.neg, self)  # noqa: E731
    __invert__ = lambda self: apply(operator.invert, self)  # noqa: E731
    __abs__ = lambda self: apply(operator.abs, self)  # noqa: E731


def _check_key(entries: Sequence[Any]) -> None:
    """An index on the host is sent to the device, from memory that a replay would read again."""
    if is_capturing() and any(isinstance(entry, (np.ndarray, list)) for entry in entries):
        wait("a copy of an index from the host")


def unwrapped(value: Any) -> Any:
    """Host arrays in place of device arrays; an unasked-for NumPy array is an error, as in CuPy."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (list, tuple)):
        return type(value)(map(unwrapped, value))
    return value


def stored(host: Any) -> ndarray:
    """A device array with these elements in memory of its own, its axes in memory as they are in `host`."""
    host = np.asarray(host)
    result = empty(host.shape, host.dtype, host.strides)
    result._host[...] = host
    return result


def empty(shape: Any, dtype: Any, strides: Sequence[int] | None = None) -> ndarray:
    dtype = np.dtype(dtype)
    shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)
    memory = device_module.allocate(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    order = (
        sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))
        if strides
        else list(range(len(shape)))
    )
    host = np.ndarray([shape[axis] for axis in order], dtype, memory.bytes)
    return ndarray._of(host.transpose(np.argsort(order)) if order else host, memory)


def check_devices(values: Sequence[Any]) -> None:
    """Operands must be on the current device: the device itself would report an illegal access, or worse."""
    here = device_module.current_device()
    for value in values:
        if isinstance(value, ndarray) and value._memory.device != here:
            raise CUDARuntimeError(f"an array of device {value._memory.device} is used on device {here}")


def apply(function: Callable[..., Any], *args: Any, out: ndarray | None = None, **kwargs: Any) -> Any:
    """NumPy's function on the host arrays, its result stored in device memory."""
    check_devices([*args, out])
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"out must be a cupy.ndarray, got {type(out).__name__}")
    values, named = unwrapped(list(args)), {key: unwrapped(value) for key, value in kwargs.items()}

    def compute() -> Any:
        with np.errstate(all="ignore"):
            return function(*values, **named)

    if not is_capturing():
        return _delivered(compute(), out)
    name = getattr(function, "__name__", "")
    if name in _BLAS:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    if name in _WAITING:
        wait(name)
    if name == "concatenate" and len(args[0]) > 8:
        wait("a copy of many addresses from the host")
    result = _delivered(compute(), out, is_shape_only=True)
    arrays = result if isinstance(result, (tuple, list)) else [result]
    targets = [array._host for array in arrays]  # not the arrays: a graph keeps no memory

    def run() -> None:
        found = compute()
        for target, host in zip(targets, found if isinstance(found, (tuple, list)) else [found], strict=True):
            target[...] = host

    issue(run, memories_of([list(args), list(kwargs.values()), *arrays]))
    return result


# What is a matrix product, and what the host has to wait for.
_BLAS = frozenset(("dot", "einsum", "matmul", "tensordot", "vdot"))
_WAITING = frozenset(("argwhere", "nonzero", "unique"))


def _delivered(result: Any, out: ndarray | None, is_shape_only: bool = False) -> Any:
    """A result in device memory: in that of ``out``, if it is given."""
    if isinstance(result, (tuple, list)):
        entries = [stored(entry) for entry in result]
        return entries if isinstance(result, list) else tuple(entries)
    if out is None:
        return stored(result)
    if not is_shape_only:
        out._host[...] = result
    return out


def from_dlpack(source: Any, *, device: Any = None, copy: bool | None = None) -> ndarray:
    """`cupy.from_dlpack`: what the current stream sees of the memory of another library."""
    stream = get_current_stream().ptr or 1  # 1 says the default stream
    taken = _Taken(source.__dlpack__(stream=stream, max_version=(1, 0), dl_device=device, copy=copy))
    if taken.device[0] != KDL_CUDA:
        raise RuntimeError("CuPy is built against CUDA, different from the backend that backs the tensor")
    host = np.from_dlpack(taken)
    return ndarray._of(host, ForeignMemory(host, taken.device[1]))


def memories_of(values: Sequence[Any]) -> list[Memory]:
    """The memory of the arrays in a nest of values."""
    found = []
    for value in values:
        if isinstance(value, ndarray):
            found.append(value._memory)
        elif isinstance(value, (list, tuple)):
            found += memories_of(value)
    return found
