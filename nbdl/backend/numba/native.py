"""Builtin functions whose body is a Numba kernel, and the same functions in Python.

A call from Python to `launch` or to a plan table's `run_plan` must cost some tens of nanoseconds, less than
the argument handling of any wrapper. So the C functions of `nbdl.kernels.cpu.launcher` are made into builtins
through CPython's C API (`PyCFunction_NewEx`, `METH_FASTCALL`) and get the object pointers themselves. They
know where `numpy.ndarray`, lists and tuples keep their fields; `layout_is_known` compares that with real
objects, and where it does not hold (another interpreter, a free-threaded build) Python functions do the work.
What the builtins do not expect is left to these as well, so every error is raised here.
"""

from __future__ import annotations

import ctypes
import logging
import struct
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import KERNEL, Signature, compile_kernel
from nbdl.kernels.cpu import launcher

__all__ = [
    "Words",
    "builtin",
    "failure_address",
    "launch_in_python",
    "layout_is_known",
    "raise_failure",
    "run_block",
    "runtime",
    "state",
    "store_word",
]

Words = NDArray[np.int64]

_BUILTIN = Signature(arguments=3, returns=True)
_REGION = Signature(arguments=5, returns=True)
_METH_FASTCALL = 0x80
_NEW_FROM_DESCR = 94  # its number in NumPy's C API, fixed like those of all functions

_log = logging.getLogger("nbdl")


class Runtime(NamedTuple):
    """The entry points of the runtime, native or in Python.

    Attributes:
        launch: `launch(block, *arrays)`, see `launch_in_python`.
        makers: By name (`find`, `run_plan`, `run_rows`), what makes the function of a plan table out of the
            table's memory; empty if only Python can search.
    """

    launch: Callable[..., None]
    makers: dict[str, Callable[[Words], Callable[..., Any]]]


@cache
def state() -> Words:
    """The words that all entry points share: addresses of the C API, the fallbacks and the thread pool."""
    words = np.zeros(launcher.STATE_WORDS, np.int64)
    words[launcher.STATE_NDARRAY] = id(np.ndarray)
    words[launcher.STATE_NONE] = id(None)
    words[launcher.STATE_RUN_REGION] = compile_kernel(
        "run_region", lambda: launcher.run_region, "launcher.run_region", signature=_REGION
    )
    return words


def failure_address() -> int:
    """Address of the word that a kernel sets to 1 at an index out of range; `launch` then raises."""
    return state().ctypes.data + 8 * launcher.STATE_FAILED


@cache
def runtime() -> Runtime:
    """The entry points for this interpreter."""
    if not layout_is_known():
        _log.info("launching kernels from Python, since this interpreter's objects have another layout")
        return Runtime(launch_in_python, {})
    words = state()
    api = ctypes.pythonapi
    words[launcher.STATE_INCREF] = _address(api.Py_IncRef)
    words[launcher.STATE_DECREF] = _address(api.Py_DecRef)
    words[launcher.STATE_TUPLE_NEW] = _address(api.PyTuple_New)
    words[launcher.STATE_TUPLE_SET] = _address(api.PyTuple_SetItem)
    words[launcher.STATE_OBJECT_CALL] = _address(api.PyObject_Call)
    words[launcher.STATE_LAUNCH] = id(launch_in_python)
    words[launcher.STATE_CALL] = _address(api.PyObject_CallNoArgs)
    words[launcher.STATE_NEW_INT] = _address(api.PyLong_FromLongLong)
    words[launcher.STATE_NEW_ARRAY] = _new_array_address()
    words[launcher.STATE_LIST], words[launcher.STATE_TUPLE] = id(list), id(tuple)
    words[launcher.STATE_FAILURE] = id(raise_failure)
    entries = (launcher.find, launcher.run_plan, launcher.run_rows)
    return Runtime(builtin(launcher.launch)(words), {entry.__name__: builtin(entry) for entry in entries})


# ---- Builtins ----


class _MethodDef(ctypes.Structure):
    """`PyMethodDef` of CPython's C API."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_definitions: list[_MethodDef] = []  # builtins point into them


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _new_array_address() -> int:
    """Address of `PyArray_NewFromDescr`, found where NumPy keeps its C API for compiled extensions."""
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    core = import_module("numpy._core._multiarray_umath")
    table = get_pointer(core._ARRAY_API, None)
    return ctypes.c_int64.from_address(table + 8 * _NEW_FROM_DESCR).value


def builtin(function: Callable[..., int]) -> Callable[[Words], Callable[..., Any]]:
    """Compiles an entry of the launcher; the result makes builtins bound to an array (C argument `self`)."""
    name = function.__name__
    address = compile_kernel(name, lambda: function, f"launcher.{name}", signature=_BUILTIN)
    definition = _MethodDef(name.encode(), address, _METH_FASTCALL, (function.__doc__ or "").encode())
    _definitions.append(definition)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        _address(ctypes.pythonapi.PyCFunction_NewEx)
    )
    definition_address = ctypes.addressof(definition)
    return lambda words: make(definition_address, words, None)


def layout_is_known() -> bool:
    """Whether objects lie in memory as `nbdl.kernels.cpu.launcher` reads them."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sys.byteorder != "little":
        return False
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    arrays = (
        np.zeros((2, 3, 5))[:, ::-2, 1:],
        np.zeros((), np.float32),
        np.zeros(17, np.int8)[1:9].view(np.int64),
    )
    arrays[1].flags.writeable = False
    if type(arrays[0]).__basicsize__ < 8 * 9 or not all(_fields_agree(array) for array in arrays):
        return False
    return _items_agree((arrays[0], arrays[1])) and _items_agree([arrays[1], arrays[2]])


def _items_agree(sequence: list[Any] | tuple[Any, ...]) -> bool:
    start = id(sequence)
    words = (ctypes.c_int64 * (launcher.SEQUENCE_ITEMS + 1)).from_address(start)
    start = words[launcher.SEQUENCE_ITEMS] if type(sequence) is list else start + 8 * launcher.SEQUENCE_ITEMS
    items = (ctypes.c_int64 * len(sequence)).from_address(start)
    return words[launcher.SEQUENCE_LENGTH] == len(sequence) and list(items) == [id(x) for x in sequence]


def _fields_agree(array: NDArray[Any]) -> bool:
    words = (ctypes.c_int64 * 9).from_address(id(array))
    half_words = (ctypes.c_int32 * 18).from_address(id(array))
    if words[launcher.OBJECT_TYPE] != id(np.ndarray) or words[launcher.ARRAY_DATA] != array.ctypes.data:
        return False
    if half_words[launcher.ARRAY_NDIM_INT32] != array.ndim or words[launcher.ARRAY_DTYPE] != id(array.dtype):
        return False
    lengths = ctypes.c_int64 * array.ndim
    if array.ndim and (
        tuple(lengths.from_address(words[launcher.ARRAY_SHAPE])) != array.shape
        or tuple(lengths.from_address(words[launcher.ARRAY_STRIDES])) != array.strides
    ):
        return False
    flags = half_words[launcher.ARRAY_FLAGS_INT32]
    aligned, writeable = bool(flags & launcher.FLAG_ALIGNED), bool(flags & launcher.FLAG_WRITEABLE)
    return aligned == array.flags.aligned and writeable == array.flags.writeable


# ---- The same in Python ----


@cache
def _run() -> Callable[[int, int, int, int], None]:
    address = compile_kernel("run", lambda: launcher.run, "launcher.run")
    # PYFUNCTYPE keeps the interpreter lock, so that no other thread writes into the block meanwhile
    return ctypes.PYFUNCTYPE(None, *[ctypes.c_int64] * KERNEL.arguments)(address)


def launch_in_python(block: Words, *arrays: NDArray[Any]) -> None:
    """Runs a plan over these arrays.

    Args:
        block: `Plan.block`.
        *arrays: Inputs, then outputs, as the plan was made for; shapes, strides and dtypes are not looked at.

    Raises:
        TypeError: `block` is no plan's block, or the arrays are too few, too many or not all numpy.ndarray.
        ValueError: An output is read-only.
        IndexError: The kernel met an index out of range.
    """
    _check(block, arrays)
    _bind_and_run(block, arrays)
    if state()[launcher.STATE_FAILED]:
        raise_failure()


def _check(block: Any, arrays: tuple[Any, ...]) -> None:
    if (
        type(block) is not np.ndarray
        or block.dtype != np.int64
        or block.ndim != 1
        or block.size < launcher.HEADER_WORDS
        or block[launcher.HEADER_MAGIC] != launcher.MAGIC
    ):
        raise TypeError(f"launch: expected the block of a plan, got {type(block).__name__}")
    operands, outputs = int(block[launcher.HEADER_OPERANDS]), int(block[launcher.HEADER_OUTPUTS])
    if len(arrays) != operands:
        raise TypeError(f"launch: expected {operands} arrays after the block, got {len(arrays)}")
    for i, array in enumerate(arrays):
        if type(array) is not np.ndarray:
            raise TypeError(f"launch: operand {i} must be a numpy.ndarray, got {type(array).__name__}")
        if i >= operands - outputs and not array.flags.writeable:
            raise ValueError(f"launch: operand {i} is an output and must be writeable, got a read-only array")


def raise_failure() -> None:
    """Reports what a kernel could not, and clears the word."""
    state()[launcher.STATE_FAILED] = 0
    raise IndexError("launch: an index is out of range")


def _bind_and_run(block: Words, arrays: tuple[NDArray[Any], ...]) -> None:
    addresses = [array.ctypes.data for array in arrays]
    block[launcher.HEADER_WORDS : launcher.HEADER_WORDS + len(addresses)] = addresses
    run_block(block)


def run_block(block: Words) -> None:
    """Runs a plan whose operands' addresses are in its block."""
    _run()(state().ctypes.data, block.ctypes.data, 0, 0)


def store_word(address: int, value: int) -> None:
    """Writes an int64 to memory."""
    ctypes.c_int64.from_address(address).value = value
