"""Functions of the Numba backend in a loop that is compiled with fast-math on, and errors in ulps."""

from __future__ import annotations

import functools
import warnings

import numba
import numpy as np

from nbdl.kernels.cpu import math as scalar

FAST_MATH = {"nsz", "arcp", "contract", "reassoc"}
FLOATS = (np.float32, np.float64)
WIDE = np.longdouble  # 64 bits of fraction on x86; elsewhere at least a float64, which costs an ulp or so


@functools.cache
def loop(names: tuple[str, ...], arity: int):
    """A compiled ``loop(out, x0, x1, ...)`` that stores function k of every element in ``out[k]``."""
    operands = [f"x{k}" for k in range(arity)]
    lines = [f"def loop(out, {', '.join(operands)}):", " for i in range(x0.size):"]
    lines += [
        f"  out[{k}, i] = {name}({', '.join(f'{x}[i]' for x in operands)})" for k, name in enumerate(names)
    ]
    namespace = {name: getattr(scalar, name) for name in names}
    exec("\n".join(lines), namespace)
    return numba.njit(error_model="numpy", fastmath=FAST_MATH)(namespace["loop"])


def apply_all(names: tuple[str, ...], *operands: np.ndarray, dtype=None) -> np.ndarray:
    """One row a function; truth values become numbers of ``dtype``, which is that of the first operand."""
    operands = tuple(np.ascontiguousarray(x) for x in operands)
    out = np.empty((len(names), operands[0].size), dtype or operands[0].dtype)
    loop(names, len(operands))(out, *operands)
    return out


def apply(name: str, *operands: np.ndarray, dtype=None) -> np.ndarray:
    return apply_all((name,), *operands, dtype=dtype)[0]


def quiet(function, *operands):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*operands)


@np.errstate(all="ignore")
def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distances in units of the last place of ``got``'s dtype; infinite where only one is NaN."""
    rounded = want.astype(got.dtype)
    spacing = np.spacing(np.minimum(np.abs(rounded), np.finfo(got.dtype).max)).astype(WIDE)
    distance = np.abs(got.astype(WIDE) - want) / spacing
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    distance[same & ~np.isfinite(distance)] = 0
    distance[np.isnan(distance)] = np.inf
    return distance


def all_exponents(dtype, count: int = 40_000) -> np.ndarray:
    """Random bit patterns (every exponent, both signs, subnormals, NaN) and the special numbers."""
    bits = np.random.default_rng(0).integers(0, 256, count * np.dtype(dtype).itemsize, dtype=np.uint8)
    numbers = np.concatenate([bits.view(dtype), special_numbers(dtype)])
    numbers[np.isnan(numbers)] = np.nan  # quiet ones only
    return numbers


def special_numbers(dtype) -> np.ndarray:
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.0, info.max, np.inf]
    return np.array([np.nan, *positive, *(-np.array(positive))], dtype)
