"""Kernels that stand in files of kernels/cuda: templates over types that are defined in front of the text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.launch import MAX_BLOCKS, THREADS, Kernels, blocks, header, power_of_two
from nbdl.formula.dtypes import arithmetic_dtype


def kernel_of(
    kernels: Kernels,
    name: str,
    file: str,
    types: Mapping[str, str],
    kinds: tuple[np.dtype, ...],
    *,
    parts: tuple[str, ...] = (),
    flags: Mapping[str, int] | None = None,
) -> Any:
    """The kernel ``name`` of a file, for some types.

    Args:
        kernels: compiles it.
        name: of the kernel.
        file: of kernels/cuda.
        types: what the names of types in the file mean.
        kinds: dtypes of the elements.
        parts: files in front of it.
        flags: macros.
    """
    return kernels.get(name, source_of(file, types, parts, flags), codegen.headers(kinds))


def source_of(
    file: str, types: Mapping[str, str], parts: tuple[str, ...] = (), flags: Mapping[str, int] | None = None
) -> str:
    """The text of a file with what it needs in front of it."""
    lines = [f"#define {flag} {value}" for flag, value in (flags or {}).items()]
    lines += [f"typedef {meaning} {name};" for name, meaning in types.items()]
    return "\n".join([*lines, *map(header, parts), header(file)])


def types_of(dtype: np.dtype) -> dict[str, str]:
    """The type in memory and that of the arithmetic, as most files name them."""
    return {"element_t": codegen.c_type(dtype), "number": codegen.c_type(arithmetic_dtype(dtype))}


def launch_each(
    kernels: Kernels,
    name: str,
    file: str,
    dtype: np.dtype,
    operands: tuple[Any, ...],
    count: int,
    *arguments: Any,
    parts: tuple[str, ...] = (),
) -> None:
    """Launch a kernel on (operands, count, arguments) with a thread for each of ``count`` elements, if any.

    Args:
        kernels: compiles it.
        name: of the kernel, without ``nbdl_``.
        file: of kernels/cuda.
        dtype: of the elements.
        operands: arrays.
        count: of elements.
        arguments: what comes behind the count.
        parts: files in front of it, beside elements.cuh.
    """
    if count == 0:
        return
    parts = ("elements.cuh", *parts)
    kernel = kernel_of(kernels, f"nbdl_{name}", file, types_of(dtype), (dtype,), parts=parts)
    grid = (blocks(count, THREADS, MAX_BLOCKS),)
    kernel(grid, (THREADS,), (*operands, np.int64(count), *arguments))


def of_real_numbers(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose kernel knows no complex numbers; these are left to CuPy's functions."""

    @functools.wraps(method)
    def computed(self: Any, x: Any, *rest: Any, **params: Any) -> Any:
        if x.dtype.kind != "c":
            return method(self, x, *rest, **params)
        from nbdl.backend.numpy import NumpyBackend  # the specification, which knows the other backends

        return getattr(NumpyBackend, method.__name__)(self, x, *rest, **params)

    return computed


def shape_of_rows(rows: int, n: int, inner: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(numbers of threads, numbers of blocks) for rows of ``n`` elements that are ``inner`` apart."""
    neighbours = 1 if inner == 1 else min(32, power_of_two(inner))
    lanes = min(THREADS // neighbours, power_of_two(n))
    slots = min(THREADS // lanes, power_of_two(rows))
    return (lanes, slots) if inner == 1 else (slots, lanes), (-(-rows // slots),)
