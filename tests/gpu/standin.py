"""A stand-in for the part of CuPy that nbdl uses, for machines without a GPU.

Arrays are a class of their own that refuses to become NumPy arrays unasked, in fenced memory that is filled
with NaN; kernels run in the emulator. Only names that CuPy has exist here: see `NAMES`.
"""

from __future__ import annotations

import functools
import importlib.machinery
import operator
import sys
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gpu import emulator
from gpu import standin_device as device_module
from gpu.standin_device import (
    CUDARuntimeError,
    Device,
    Memory,
    MemoryPointer,
    Stream,
    counters,
    is_capturing,
    issue,
    pool,
    wait,
)


# ---------------------------------------------------------------------------------------------- arrays
class Flags:
    """`ndarray.flags`, which knows nothing of writeability."""

    def __init__(self, flags: Any):
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


def _binary(name: str) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        return _apply(getattr(operator, name), self, other)

    return method


def _reflected(name: str) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        return _apply(getattr(operator, name), other, self)

    return method


def _in_place(name: str) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> ndarray:
        self[...] = _apply(getattr(operator, name), self, other).astype(self.dtype)
        return self

    return method


def _method(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return _apply(getattr(np.ndarray, name), self, *args, **kwargs)

    return method


_OPERATORS = [
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift",
    "rshift",
]  # fmt: skip
_COMPARISONS = ["lt", "le", "gt", "ge", "eq", "ne"]
_IN_PLACE = ["add", "sub", "mul", "truediv"]
_METHODS = [
    "sum", "prod", "mean", "var", "max", "min", "any", "all", "argmax", "argmin", "take", "cumsum",
    "cumprod", "argsort", "argpartition", "conj",
]  # fmt: skip


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
            made = _empty(shape, dtype)
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
    T = property(lambda self: self.transpose())

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in NAMES:
            return NotImplemented
        return _apply(ufunc, *args, **kwargs)

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        if function.__name__ not in NAMES:
            return NotImplemented
        return _apply(function, *args, **kwargs)

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
        if any(isinstance(entry, (ndarray, np.ndarray, list)) for entry in entries):
            return _apply(operator.getitem, self, key)
        if not any(entry is Ellipsis for entry in entries):
            key = (*entries, Ellipsis)  # an array even where one element is left
        return self._view(self._host[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        used = _memories([self, key, value])
        host, key, value = self._host, _unwrapped(key), _unwrapped(value)

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
        return self if not copy and self.dtype == dtype else _apply(np.ndarray.astype, self, dtype)

    def copy(self, order: str = "C") -> ndarray:
        return _apply(lambda host: host.copy(order), self)

    def fill(self, value: Any) -> None:
        self[...] = value

    for _name in _OPERATORS:
        locals()[f"__{_name.rstrip('_')}__"] = _binary(_name)
        locals()[f"__r{_name.rstrip('_')}__"] = _reflected(_name)
    for _name in _COMPARISONS:
        locals()[f"__{_name}__"] = _binary(_name)
    for _name in _IN_PLACE:
        locals()[f"__i{_name}__"] = _in_place(_name)
    for _name in _METHODS:
        locals()[_name] = _method(_name)
    __neg__ = lambda self: _apply(operator.neg, self)  # noqa: E731
    __invert__ = lambda self: _apply(operator.invert, self)  # noqa: E731
    __abs__ = lambda self: _apply(operator.abs, self)  # noqa: E731


def _unwrapped(value: Any) -> Any:
    """Host arrays in place of device arrays; an unasked-for NumPy array is an error, as in CuPy."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_unwrapped, value))
    return value


def _stored(host: Any) -> ndarray:
    """A device array with these elements in memory of its own, its axes in memory as they are in `host`."""
    host = np.asarray(host)
    result = _empty(host.shape, host.dtype, host.strides)
    result._host[...] = host
    return result


def _empty(shape: Any, dtype: Any, strides: Sequence[int] | None = None) -> ndarray:
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


def _check_devices(values: Sequence[Any]) -> None:
    """Operands must be on the current device: the device itself would report an illegal access, or worse."""
    here = device_module.current_device()
    for value in values:
        if isinstance(value, ndarray) and value._memory.device != here:
            raise CUDARuntimeError(f"an array of device {value._memory.device} is used on device {here}")


def _apply(function: Callable[..., Any], *args: Any, out: ndarray | None = None, **kwargs: Any) -> Any:
    """NumPy's function on the host arrays, its result stored in device memory."""
    _check_devices([*args, out])
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"out must be a cupy.ndarray, got {type(out).__name__}")
    values, named = _unwrapped(list(args)), {key: _unwrapped(value) for key, value in kwargs.items()}

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
    result = _delivered(compute(), out, is_shape_only=True)
    arrays = result if isinstance(result, (tuple, list)) else [result]
    targets = [array._host for array in arrays]  # not the arrays: a graph keeps no memory

    def run() -> None:
        found = compute()
        for target, host in zip(targets, found if isinstance(found, (tuple, list)) else [found], strict=True):
            target[...] = host

    issue(run, _memories([list(args), list(kwargs.values()), *arrays]))
    return result


# What is a matrix product, and what the host has to wait for.
_BLAS = frozenset(("dot", "einsum", "matmul", "tensordot", "vdot"))
_WAITING = frozenset(("argwhere", "nonzero", "unique"))


def _delivered(result: Any, out: ndarray | None, is_shape_only: bool = False) -> Any:
    """A result in device memory: in that of ``out``, if it is given."""
    if isinstance(result, (tuple, list)):
        entries = [_stored(entry) for entry in result]
        return entries if isinstance(result, list) else tuple(entries)
    if out is None:
        return _stored(result)
    if not is_shape_only:
        out._host[...] = result
    return out


def _memories(values: Sequence[Any]) -> list[Memory]:
    """The memory of the arrays in a nest of values."""
    found = []
    for value in values:
        if isinstance(value, ndarray):
            found.append(value._memory)
        elif isinstance(value, (list, tuple)):
            found += _memories(value)
    return found


# ---------------------------------------------------------------------------------------------- kernels
class RawModule:
    """`cupy.RawModule`."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc"):
        if is_capturing():
            raise CUDARuntimeError("a module is loaded while the stream is captured", 900)
        self._module = emulator.Module(code)

    def get_function(self, name: str) -> Callable[..., None]:
        kernel = self._module.get_function(name)

        def launch(
            grid: tuple[int, ...],
            block: tuple[int, ...],
            args: tuple,
            *,
            shared_mem: int = 0,
            stream: Any = None,
        ) -> None:
            for k, value in enumerate(args):
                if isinstance(value, np.ndarray):
                    raise TypeError(f"Unsupported type {type(value)} (argument {k})")
            arrays = [value for value in args if isinstance(value, ndarray)]
            _check_devices(arrays)
            operands = [value._host if isinstance(value, ndarray) else value for value in args]
            memories = _memories(arrays)

            def run() -> None:
                counters.launches += 1
                kernel(grid, block, operands, shared_mem)
                for reference in references:
                    memory = reference()
                    if memory is not None:  # a graph's, which is still the pool's
                        memory.check()

            references = [weakref.ref(memory) for memory in memories]
            issue(run, memories)

        return launch


# ---------------------------------------------------------------------------------------------- functions
class ufunc:
    """`cupy.ufunc`: no accumulate, and `at` for those that CuPy has atomics for."""

    def __init__(self, function: np.ufunc):
        self._function, self.__name__ = function, function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _apply(self._function, *args, **kwargs)

    def outer(self, *args: Any) -> Any:
        return _apply(self._function.outer, *args)

    def at(self, array: ndarray, key: Any, value: Any) -> None:
        if self.__name__ not in ("add", "subtract", "maximum", "minimum"):
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        used = _memories([array, key, value])
        key, value = _unwrapped(key), _unwrapped(value)
        issue(functools.partial(self._function.at, array._host, key, value), used)


_UFUNCS = [
    "abs", "absolute", "add", "arcsin", "arctan2", "bitwise_and", "bitwise_or", "bitwise_xor", "ceil",
    "cos", "cosh", "divide", "equal", "exp", "expm1", "floor", "frexp", "gcd", "greater", "greater_equal",
    "isfinite", "isinf", "isnan", "lcm", "less", "less_equal", "log", "log1p", "log2", "logaddexp",
    "logical_and", "logical_not", "logical_or", "maximum", "minimum", "multiply", "negative", "not_equal",
    "power", "reciprocal", "rint", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan",
    "tanh", "trunc",
]  # fmt: skip
_FUNCTIONS = [
    "all", "any", "arange", "argmax", "argmin", "argsort", "argwhere", "clip", "concatenate", "cumprod",
    "cumsum", "einsum", "eye", "flip", "full", "linspace", "matmul", "max", "mean", "median", "min",
    "moveaxis", "nonzero", "ones", "pad", "prod", "repeat", "roll", "searchsorted", "sort", "split",
    "stack", "std", "sum", "swapaxes", "take", "take_along_axis", "tensordot", "tile", "transpose", "tri",
    "tril", "triu", "unique", "var", "vdot", "where", "zeros", "zeros_like",
]  # fmt: skip
_CONSTANTS = [
    "bool_", "dtype", "e", "finfo", "float16", "float32", "float64", "iinfo", "inf", "int16", "int32",
    "int64", "int8", "nan", "newaxis", "pi", "promote_types", "result_type", "uint8", "uint16", "uint32",
    "uint64",
]  # fmt: skip
_OWN = [
    "RawModule", "array", "asarray", "ascontiguousarray", "asnumpy", "broadcast_to", "copyto", "cuda",
    "empty", "empty_like", "get_default_memory_pool", "ndarray", "put_along_axis", "reshape", "ufunc",
]  # fmt: skip
NAMES = frozenset((*_UFUNCS, *_FUNCTIONS, *_CONSTANTS, *_OWN))


def asarray(data: Any, dtype: Any = None) -> ndarray:
    """Copies from the host where the data are there."""
    if isinstance(data, ndarray):
        if data._memory.device != device_module.current_device():
            data = _stored(data._host)  # CuPy copies between devices
        return data if dtype is None or data.dtype == dtype else data.astype(dtype)
    if is_capturing():
        wait("a copy from the host")
    return _stored(np.asarray(data, dtype))


def asnumpy(data: Any) -> np.ndarray:
    return data.get() if isinstance(data, ndarray) else np.asarray(data)


def ascontiguousarray(data: ndarray, dtype: Any = None) -> ndarray:
    data = data if dtype is None else data.astype(dtype, copy=False)
    return data if data.flags.c_contiguous else data.copy()


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    shape, dtype = prototype.shape if shape is None else shape, prototype.dtype if dtype is None else dtype
    return _empty(shape, dtype, prototype.strides if len(shape) == prototype.ndim else None)


def broadcast_to(data: ndarray, shape: tuple[int, ...]) -> ndarray:
    return data._view(np.broadcast_to(data._host, shape))


def put_along_axis(array: ndarray, indices: ndarray, values: Any, axis: int) -> None:
    used = _memories([array, indices, values])
    indices, values = _unwrapped(indices), _unwrapped(values)
    issue(functools.partial(np.put_along_axis, array._host, indices, values, axis), used)


def copyto(target: ndarray, source: Any) -> None:
    target[...] = source


def _moveaxis(data: ndarray, source: Any, destination: Any) -> ndarray:
    return data._view(np.moveaxis(data._host, source, destination))


def _flip(data: ndarray, axis: Any = None) -> ndarray:
    return data._view(np.flip(data._host, axis))


def _properties(device: int) -> dict[str, Any]:
    return {
        "name": b"stand-in (kernels run on the CPU)",
        "totalGlobalMem": device_module.MEMORY_OF_A_DEVICE,
        "multiProcessorCount": 132,
        "major": 9,
        "minor": 0,
    }


_LINALG = ["cholesky", "det", "eigh", "eigvalsh", "inv", "qr", "slogdet", "solve", "svd"]


def _linalg(name: str) -> Callable[..., Any]:
    """A function of `cupy.linalg`: a singular or indefinite matrix gives NaN instead of an error."""

    def function(a: ndarray, *args: Any, **kwargs: Any) -> Any:
        if a.dtype not in (np.float32, np.float64, np.complex64, np.complex128):
            raise TypeError(f"Unsupported dtype: {a.dtype}")
        if is_capturing():
            raise NotImplementedError("calling cuSOLVER API during stream capture is currently unsupported")
        try:
            return _apply(getattr(np.linalg, name), a, *args, **kwargs)
        except np.linalg.LinAlgError:
            return _stored(np.full_like(args[0]._host if args else a._host, np.nan))

    return function


def make_module() -> types.ModuleType:
    """A module that passes for `cupy`."""
    module: Any = types.ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None, origin=__file__)
    module.__version__ = "14.0"
    for name in _UFUNCS:
        setattr(module, name, ufunc(getattr(np, name)))
    for name in _FUNCTIONS:
        setattr(module, name, functools.partial(_apply, getattr(np, name)))
    for name in _CONSTANTS:
        setattr(module, name, getattr(np, name))
    module.ndarray, module.ufunc, module.RawModule = ndarray, ufunc, RawModule
    module.array, module.asarray, module.asnumpy = (
        (lambda data, dtype=None: _stored(np.asarray(_unwrapped(data), dtype))),
        asarray,
        asnumpy,
    )
    module.ascontiguousarray, module.broadcast_to = ascontiguousarray, broadcast_to
    module.empty = lambda shape, dtype=np.float64: _empty(shape, dtype)
    module.empty_like = empty_like
    module.copyto, module.put_along_axis = copyto, put_along_axis
    module.moveaxis, module.flip = _moveaxis, _flip
    module.transpose = lambda data, axes=None: data.transpose(axes)
    module.swapaxes = lambda data, a, b: data.swapaxes(a, b)
    module.reshape = lambda data, shape: data.reshape(shape)
    strided = lambda data, shape, strides: data._view(  # noqa: E731
        np.lib.stride_tricks.as_strided(data._host, shape, strides)
    )
    module.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=strided))
    module.linalg = types.SimpleNamespace(**{name: _linalg(name) for name in _LINALG})
    cuda: Any = types.ModuleType("cupy.cuda")
    runtime: Any = types.ModuleType("cupy.cuda.runtime")
    cuda.Device, cuda.Stream, cuda.runtime = Device, Stream, runtime
    cuda.Event, cuda.get_elapsed_time = device_module.Event, device_module.get_elapsed_time
    cuda.get_current_stream = device_module.get_current_stream
    cuda.Graph, cuda.MemoryPool = device_module.Graph, device_module.MemoryPool
    cuda.MemoryPointer, cuda.using_allocator = MemoryPointer, device_module.using_allocator
    cuda.is_available = lambda: True
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=device_module.OutOfMemoryError)
    module.get_default_memory_pool = lambda: pool
    runtime.CUDARuntimeError, runtime.getDeviceProperties = CUDARuntimeError, _properties
    runtime.getDeviceCount, runtime.getDevice = (
        (lambda: device_module.DEVICES),
        device_module.current_device,
    )
    runtime.driverGetVersion, runtime.runtimeGetVersion = (lambda: 12080), (lambda: 12090)
    module.cuda = cuda
    return module


def modules() -> dict[str, types.ModuleType]:
    """What `sys.modules` needs for `import cupy` to find the stand-in."""
    module = make_module()
    return {"cupy": module, "cupy.cuda": module.cuda, "cupy.cuda.runtime": module.cuda.runtime}


def is_installed() -> bool:
    """Whether `import cupy` gives the stand-in."""
    return getattr(sys.modules.get("cupy"), "ndarray", None) is ndarray
