"""A stand-in for the part of CuPy that nbdl uses, for machines without a GPU.

Arrays are a class of their own that refuses to become NumPy arrays unasked, in fenced memory that is filled
with NaN; kernels run in the emulator. Only names that CuPy has exist here: see `standin_names`.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu import emulator
from gpu import standin_device as device_module
from gpu.standin_arrays import (
    apply,
    check_devices,
    empty,
    from_dlpack,
    memories_of,
    ndarray,
    stored,
    unwrapped,
)
from gpu.standin_device import (
    CUDARuntimeError,
    Device,
    MemoryPointer,
    Stream,
    counters,
    is_capturing,
    issue,
    pool,
    wait,
)
from gpu.standin_names import CONSTANTS, FUNCTIONS, UFUNCS


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
            check_devices(arrays)
            operands = [value._host if isinstance(value, ndarray) else value for value in args]
            memories = memories_of(arrays)

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
        return apply(self._function, *args, **kwargs)

    def outer(self, *args: Any) -> Any:
        return apply(self._function.outer, *args)

    def at(self, array: ndarray, key: Any, value: Any) -> None:
        if self.__name__ not in ("add", "subtract", "maximum", "minimum"):
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        used = memories_of([array, key, value])
        key, value = unwrapped(key), unwrapped(value)
        issue(functools.partial(self._function.at, array._host, key, value), used)


def asarray(data: Any, dtype: Any = None) -> ndarray:
    """Copies from the host where the data are there."""
    if isinstance(data, ndarray):
        if data._memory.device != device_module.current_device():
            data = stored(data._host)  # CuPy copies between devices
        return data if dtype is None or data.dtype == dtype else data.astype(dtype)
    if is_capturing():
        wait("a copy from the host")
    return stored(np.asarray(data, dtype))


def array(data: Any, dtype: Any = None) -> ndarray:
    """A copy."""
    if is_capturing() and not isinstance(data, ndarray):
        wait("a copy from the host")
    return stored(np.asarray(unwrapped(data), dtype))


def asnumpy(data: Any) -> np.ndarray:
    return data.get() if isinstance(data, ndarray) else np.asarray(data)


def ascontiguousarray(data: ndarray, dtype: Any = None) -> ndarray:
    data = data if dtype is None else data.astype(dtype, copy=False)
    return data if data.flags.c_contiguous else data.copy()


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    shape, dtype = prototype.shape if shape is None else shape, prototype.dtype if dtype is None else dtype
    return empty(shape, dtype, prototype.strides if len(shape) == prototype.ndim else None)


def broadcast_to(data: ndarray, shape: tuple[int, ...]) -> ndarray:
    return data._view(np.broadcast_to(data._host, shape))


def put_along_axis(array: ndarray, indices: ndarray, values: Any, axis: int) -> None:
    used = memories_of([array, indices, values])
    indices, values = unwrapped(indices), unwrapped(values)
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


_FFT = ["fft", "ifft", "fftn", "ifftn", "rfft", "irfft"]
_LINALG = ["cholesky", "det", "eigh", "eigvalsh", "inv", "qr", "slogdet", "solve", "svd"]


def _linalg(name: str) -> Callable[..., Any]:
    """A function of `cupy.linalg`: a singular or indefinite matrix gives NaN instead of an error."""

    def function(a: ndarray, *args: Any, **kwargs: Any) -> Any:
        if a.dtype not in (np.float32, np.float64, np.complex64, np.complex128):
            raise TypeError(f"Unsupported dtype: {a.dtype}")
        if is_capturing():
            raise NotImplementedError("calling cuSOLVER API during stream capture is currently unsupported")
        try:
            return apply(getattr(np.linalg, name), a, *args, **kwargs)
        except np.linalg.LinAlgError:
            return stored(np.full_like(args[0]._host if args else a._host, np.nan))

    return function


def make_module() -> types.ModuleType:
    """A module that passes for `cupy`."""
    module: Any = types.ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None, origin=__file__)
    module.__version__ = "14.0"
    for name in UFUNCS:
        setattr(module, name, ufunc(getattr(np, name)))
    for name in FUNCTIONS:
        setattr(module, name, functools.partial(apply, getattr(np, name)))
    for name in CONSTANTS:
        setattr(module, name, getattr(np, name))
    module.ndarray, module.ufunc, module.RawModule = ndarray, ufunc, RawModule
    module.array, module.asarray, module.asnumpy = (
        array,
        asarray,
        asnumpy,
    )
    module.ascontiguousarray, module.broadcast_to = ascontiguousarray, broadcast_to
    module.empty = lambda shape, dtype=np.float64: empty(shape, dtype)
    module.empty_like = empty_like
    module.from_dlpack = from_dlpack
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
    module.fft = types.SimpleNamespace(
        **{name: functools.partial(apply, getattr(np.fft, name)) for name in _FFT}
    )
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
