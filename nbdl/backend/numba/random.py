"""Random numbers of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.random`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.codegen import SUPPORTED_DTYPES
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import Strides, element_strides, memory_order, merge, row_major, tasks_for
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import random as kernel
from nbdl.kernels.cpu import rejection

__all__ = [
    "plan_dropout",
    "plan_random_bernoulli",
    "plan_random_integers",
    "plan_random_log_gamma",
    "plan_random_normal",
    "plan_random_poisson",
    "plan_random_uniform",
]

Array = NDArray[Any]

_FLOATS = (np.float32, np.float64)
# Work in additions: of a word, and of what is made of it.
_WORD_WORK, _NORMAL_WORK, _REMAINDER_WORK, _COMPARISON_WORK = 4.0, 20.0, 30.0, 2.0
_REJECTION_WORK = 200.0


def plan_random_uniform(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Plan | None:
    """Plans uniform numbers from (seed, draw), or returns None where NumPy has to do it."""
    if dtype not in _FLOATS or not _is_contiguous(outputs, dtype):
        return None
    words = dtype.itemsize // 4
    make, spec = partial(kernel.make_uniform, dtype), OutputSpec(shape, dtype)
    return _plan(f"uniform_{dtype}", make, inputs, [spec], words_each=words, work=words * _WORD_WORK)


def plan_random_normal(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Plan | None:
    """Plans normal numbers from (seed, draw), or returns None where NumPy has to do it."""
    if dtype not in _FLOATS or not _is_contiguous(outputs, dtype):
        return None
    words = dtype.itemsize // 4
    make, spec = partial(kernel.make_normal, dtype), OutputSpec(shape, dtype)
    work = words * (_WORD_WORK + _NORMAL_WORK)
    return _plan(f"normal_{dtype}", make, inputs, [spec], words_each=words, work=work)


def plan_random_integers(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Plan | None:
    """Plans integers from (seed, draw, low, span), or returns None where NumPy has to do it."""
    if dtype.char not in SUPPORTED_DTYPES or not _is_contiguous(outputs, dtype):
        return None
    make, spec = partial(kernel.make_integers, dtype), OutputSpec(shape, dtype)
    work = 2 * _WORD_WORK + _REMAINDER_WORK
    return _plan(f"integers_{dtype}", make, inputs, [spec], words_each=2, work=work)


def plan_random_bernoulli(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Plan | None:
    """Plans zeros and ones from (seed, draw, p), or returns None where NumPy has to do it."""
    p = inputs[2]
    if p.dtype not in _FLOATS or not is_plain([p], p.dtype) or dtype.char not in SUPPORTED_DTYPES:
        return None
    if not _is_contiguous(outputs, dtype):
        return None
    make, spec = partial(kernel.make_bernoulli, p.dtype, dtype), OutputSpec(shape, dtype)
    runs = _runs(shape, _broadcast_strides(p, shape), row_major(shape))
    name, work = f"bernoulli_{p.dtype}_{dtype}", _WORD_WORK + _COMPARISON_WORK
    return None if runs is None else _plan(name, make, inputs, [spec], work=work, words=runs)


def plan_random_log_gamma(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Plan | None:
    """Plans logarithms of gamma numbers from (seed, draw, a), or returns None where NumPy has to do it."""
    return _plan_rejection("log_gamma", rejection.log_gamma_number, inputs, outputs, shape, dtype)


def plan_random_poisson(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Plan | None:
    """Plans Poisson numbers from (seed, draw, mean), or returns None where NumPy has to do it."""
    return _plan_rejection("poisson", rejection.poisson_number, inputs, outputs, shape, dtype)


def _plan_rejection(
    label: str,
    number: Callable[..., Any],
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Plan | None:
    """A plan that draws a number for each element from its parameter, or None."""
    x = inputs[2]
    if x.dtype not in _FLOATS or dtype not in _FLOATS or not is_plain([x], x.dtype):
        return None
    runs = _runs(shape, _broadcast_strides(x, shape), row_major(shape))
    size = math.prod(shape)
    if runs is None or size == 0 or not _is_contiguous(outputs, dtype):
        return None
    name = f"{label}_{x.dtype}_{dtype}"
    rows = -(-size // rejection.ROWS)
    return Plan(
        compile_kernel(name, partial(rejection.make_draw, number, x.dtype, dtype), name),
        inputs=len(inputs),
        outputs=[OutputSpec(shape, dtype)],
        arguments=block_words({kernel.SIZE: size, **runs}, len(inputs) + 1),
        rows=rows,
        tasks=tasks_for(size * _REJECTION_WORK, rows),
    )


def plan_dropout(inputs: Sequence[Array], outputs: Sequence[Array] | None) -> Plan | None:
    """Plans dropout and its mask from (seed, draw, x, p), or returns None where NumPy has to do it.

    The result lies in memory like x, the mask is contiguous.
    """
    _, _, x, p = inputs
    if outputs is not None or x.dtype not in _FLOATS or p.dtype != np.float64 or not is_plain([x], x.dtype):
        return None
    strides = _broadcast_strides(x, x.shape)
    order = memory_order(x.shape, [strides])
    axes = tuple(int(axis) for axis in np.argsort(order))
    memory = row_major([x.shape[axis] for axis in order])
    specs = [OutputSpec(x.shape, x.dtype, axes), OutputSpec(x.shape, np.dtype(np.bool_))]
    runs = _runs(x.shape, strides, tuple(memory[axis] for axis in axes))
    work = _WORD_WORK + 2 * _COMPARISON_WORK
    name, make = f"dropout_{x.dtype}", partial(kernel.make_dropout, x.dtype)
    return None if runs is None else _plan(name, make, inputs, specs, work=work, words=runs)


def _is_contiguous(outputs: Sequence[Array] | None, dtype: np.dtype[Any]) -> bool:
    """Whether the given output, if there is one, is as a kernel writes it."""
    return outputs is None or (
        outputs[0].dtype == dtype and outputs[0].flags.c_contiguous and outputs[0].flags.aligned
    )


def _broadcast_strides(x: Array, shape: tuple[int, ...]) -> Strides:
    strides = element_strides(x, shape)
    assert strides is not None  # is_plain was asked
    return strides


def _runs(shape: tuple[int, ...], x: Strides, y: Strides) -> dict[int, int] | None:
    """Words that tell a kernel how to walk x and y in row-major order; None if there are too many loops."""
    nest, _ = merge(shape, [x, y])
    *lengths, columns = nest.dims
    if len(lengths) > kernel.MAX_LOOPS:
        return None
    (*x_strides, x_step), (*y_strides, y_step) = nest.strides
    return {
        kernel.COLUMNS: columns,
        kernel.LOOPS: len(lengths),
        kernel.X_STEP: x_step,
        kernel.Y_STEP: y_step,
        **dict(enumerate(lengths, kernel.LENGTHS)),
        **dict(enumerate(x_strides, kernel.X_STRIDES)),
        **dict(enumerate(y_strides, kernel.Y_STRIDES)),
    }


def _plan(
    name: str,
    make: Callable[[], Callable[..., Any]],
    inputs: Sequence[Array],
    specs: Sequence[OutputSpec],
    *,
    words_each: int = 1,
    work: float,
    words: dict[int, int] | None = None,
) -> Plan | None:
    """A plan over the chunks of a result; None if it has no elements.

    Args:
        name: of the kernel.
        make: makes it.
        inputs: the operands.
        specs: the outputs.
        words_each: random words an element takes.
        work: of an element, in additions.
        words: words of the argument block beside the size.
    """
    size = math.prod(specs[0].shape)
    if size == 0:
        return None
    chunks = -(-size * words_each // kernel.CHUNK)
    return Plan(
        compile_kernel(name, make, name),
        inputs=len(inputs),
        outputs=specs,
        arguments=block_words({kernel.SIZE: size, **(words or {})}, len(inputs) + len(specs)),
        rows=chunks,
        tasks=tasks_for(size * work, chunks),
    )
