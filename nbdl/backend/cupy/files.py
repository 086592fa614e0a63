"""Kernels that stand in files of kernels/cuda: templates over types that are defined in front of the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.launch import THREADS, Kernels, header, power_of_two


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


def shape_of_rows(rows: int, n: int, inner: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(numbers of threads, numbers of blocks) for rows of ``n`` elements that are ``inner`` apart."""
    neighbours = 1 if inner == 1 else min(32, power_of_two(inner))
    lanes = min(THREADS // neighbours, power_of_two(n))
    slots = min(THREADS // lanes, power_of_two(rows))
    return (lanes, slots) if inner == 1 else (slots, lanes), (-(-rows // slots),)
