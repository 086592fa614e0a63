"""Softmax and cross-entropy of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.softmax`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import Strides, memory_order, merge, row_major, tasks_for
from nbdl.backend.numba.stages import block_words, scratch_memory
from nbdl.kernels.cpu import softmax as kernel

__all__ = [
    "plan_cross_entropy",
    "plan_cross_entropy_input",
    "plan_cross_entropy_loss_input",
    "plan_log_softmax",
    "plan_log_softmax_input",
    "plan_softmax",
    "plan_softmax_input",
]

Array = NDArray[Any]

# Loops across the rows are faster than loops along them where a row is shorter than so many bytes, if there
# are enough rows: the block of rows must not be mostly empty.
_SHORT_ROW, _CLASSES_A_ROW = 1024, 3
_EXPONENTIAL_WORK = 10.0  # of an element, in additions


# ---- Planners ----


def plan_softmax(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans softmax(x), or returns None where NumPy has to do it."""
    return _plan_softmax(inputs, outputs, axis, logarithm=False)


def plan_log_softmax(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans log(softmax(x)), or returns None where NumPy has to do it."""
    return _plan_softmax(inputs, outputs, axis, logarithm=True)


def plan_softmax_input(inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int) -> Plan | None:
    """Plans the gradient of softmax from (y, g), or returns None where NumPy has to do it."""
    return _plan_softmax_input(inputs, outputs, axis, logarithm=False)


def plan_log_softmax_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, axis: int
) -> Plan | None:
    """Plans the gradient of log(softmax) from (y, g), or returns None where NumPy has to do it."""
    return _plan_softmax_input(inputs, outputs, axis, logarithm=True)


def plan_cross_entropy(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, ignore_index: int
) -> Plan | None:
    """Plans losses and probabilities of (logits, classes), or returns None where NumPy has to do it."""
    logits, classes = inputs
    if outputs is not None or not _is_supported([logits]) or not is_plain([classes], np.dtype(np.int64)):
        return None
    specs = [OutputSpec(classes.shape, logits.dtype), _spec_like(logits)]
    operands = [*_operands((logits, classes), 1, logits.shape), *_fresh_operands(specs, 1, logits.shape)]
    across_rows = _is_across_rows(logits, 1)
    address = _softmax_kernel("cross_entropy", logits.dtype, operands, across_rows, with_losses=True)
    return _plan(address, specs, logits, 1, operands, across_rows=across_rows, ignored=ignore_index)


def plan_cross_entropy_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, ignore_index: int
) -> Plan | None:
    """Plans the gradient of the losses from (probabilities, classes, g), or returns None: NumPy's."""
    return _plan_cross_entropy_input(inputs, outputs, ignore_index, shared=False)


def plan_cross_entropy_loss_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, ignore_index: int
) -> Plan | None:
    """Plans the gradient of the reduced losses from (probabilities, classes, g, share); None: NumPy's."""
    return _plan_cross_entropy_input(inputs, outputs, ignore_index, shared=True)


def _plan_cross_entropy_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, ignore_index: int, shared: bool
) -> Plan | None:
    p, classes, *slopes = inputs
    if outputs is not None or not _is_supported([p, *slopes]) or not is_plain([classes], np.dtype(np.int64)):
        return None
    specs = [_spec_like(p)]
    everywhere = _Operand(0, (0,) * classes.ndim)
    operands = _operands((p, classes), 1, p.shape)
    operands += [everywhere if shared else operand for operand in _operands(slopes, 1, p.shape)]
    operands += _fresh_operands(specs, 1, p.shape)
    name = "cross_entropy_loss_input" if shared else "cross_entropy_input"
    address = _kernel(name, p.dtype, partial(kernel.make_cross_entropy_input, shared=shared))
    return _plan(address, specs, p, 1, operands, across_rows=False, ignored=ignore_index)


def _plan_softmax(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, axis: int, logarithm: bool
) -> Plan | None:
    (x,) = inputs
    if outputs is not None or not _is_supported([x]):
        return None
    specs = [_spec_like(x)]
    operands = [*_operands((x,), axis, x.shape), *_fresh_operands(specs, axis, x.shape)]
    across_rows = _is_across_rows(x, axis)
    name = "log_softmax" if logarithm else "softmax"
    address = _softmax_kernel(name, x.dtype, operands, across_rows, logarithm=logarithm)
    return _plan(address, specs, x, axis, operands, across_rows=across_rows)


def _plan_softmax_input(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, axis: int, logarithm: bool
) -> Plan | None:
    y, g = inputs
    if outputs is not None or not _is_supported([y, g]) or y.shape != g.shape:
        return None
    specs = [_spec_like(y)]
    operands = [*_operands((y, g), axis, y.shape), *_fresh_operands(specs, axis, y.shape)]
    name = "log_softmax_input" if logarithm else "softmax_input"
    address = _kernel(name, y.dtype, partial(kernel.make_softmax_input, logarithm=logarithm))
    return _plan(address, specs, y, axis, operands, across_rows=False)


# ---- Rows of classes ----


class _Operand(NamedTuple):
    """Element strides along the classes (0: it has none) and along the other axes."""

    classes: int
    rows: Strides


def _is_supported(arrays: Sequence[Array]) -> bool:
    dtype = arrays[0].dtype
    return dtype in (np.float32, np.float64) and is_plain(arrays, dtype)


def _is_across_rows(x: Array, axis: int) -> bool:
    """Whether loops across the rows suit x better than loops along its classes."""
    classes = x.shape[axis]
    is_short = classes * x.itemsize < _SHORT_ROW and classes * classes <= _CLASSES_A_ROW * x.size
    return is_short or _spec_strides(_spec_like(x))[axis] != 1 or x.strides[axis] != x.itemsize


def _split(strides: Strides, axis: int, rank: int) -> _Operand:
    if len(strides) < rank:
        return _Operand(0, strides)
    return _Operand(strides[axis], strides[:axis] + strides[axis + 1 :])


def _operands(arrays: Sequence[Array], axis: int, shape: tuple[int, ...]) -> list[_Operand]:
    """The inputs; those of lower rank have no axis of classes."""
    strides = [tuple(stride // array.itemsize for stride in array.strides) for array in arrays]
    return [_split(own, axis, len(shape)) for own in strides]


def _fresh_operands(specs: Sequence[OutputSpec], axis: int, shape: tuple[int, ...]) -> list[_Operand]:
    """The outputs as they will be allocated."""
    operands = []
    for spec in specs:
        operands.append(_split(_spec_strides(spec), axis, len(shape)))
    return operands


def _spec_strides(spec: OutputSpec) -> Strides:
    """Element strides of an output as it will be allocated."""
    axes = spec.axes or tuple(range(len(spec.shape)))
    memory = row_major([spec.shape[k] for k in np.argsort(axes)])
    return tuple(memory[k] for k in axes)


def _spec_like(x: Array) -> OutputSpec:
    """A result in the layout of x."""
    order = memory_order(x.shape, [tuple(stride // x.itemsize for stride in x.strides)])
    axes = None if order == tuple(range(x.ndim)) else tuple(int(axis) for axis in np.argsort(order))
    return OutputSpec(x.shape, x.dtype, axes)


# ---- Plans ----


def _plan(
    address: int,
    specs: Sequence[OutputSpec],
    x: Array,
    axis: int,
    operands: Sequence[_Operand],
    *,
    across_rows: bool,
    ignored: int = 0,
) -> Plan | None:
    """A plan over the rows of x.

    Args:
        address: the kernel.
        specs: the outputs, the last of the operands.
        x: the operand whose layout decides the order of the rows.
        axis: the axis of classes.
        operands: all operands.
        across_rows: whether the kernel runs its loops across the rows.
        ignored: the class without a loss.
    """
    classes = x.shape[axis]
    lengths = x.shape[:axis] + x.shape[axis + 1 :]
    order = memory_order(lengths, [operands[0].rows])
    steps = [[operand.rows[k] for k in order] for operand in operands]
    nest, _ = merge([lengths[k] for k in order], steps)
    if len(nest.dims) > kernel.MAX_LOOPS:
        return None
    rows = math.prod(nest.dims)
    unit, work = rows, _EXPONENTIAL_WORK * x.size
    if across_rows:
        unit = -(-rows // kernel.LANES)
    tasks = tasks_for(work, unit)
    words = {
        kernel.CLASSES: classes,
        kernel.ROWS: rows,
        kernel.IGNORED: ignored,
        kernel.LOOPS: len(nest.dims),
    }
    scratch = None
    if across_rows:
        task_bytes = 2 * classes * kernel.LANES * x.itemsize
        scratch = scratch_memory(tasks * task_bytes)
        words |= {kernel.SCRATCH: scratch.ctypes.data, kernel.SCRATCH_STRIDE: task_bytes}
    words |= dict(enumerate(nest.dims, kernel.LENGTHS))
    for k, (operand, strides) in enumerate(zip(operands, nest.strides, strict=True)):
        words |= dict(enumerate(strides, kernel.ROW_STRIDES + k * kernel.MAX_LOOPS))
        words[kernel.CLASS_STRIDES + k] = operand.classes
    return Plan(
        address,
        inputs=len(operands) - len(specs),
        outputs=specs,
        arguments=block_words(words, len(operands)),
        rows=unit,
        tasks=tasks,
        keep=scratch,
    )


def _softmax_kernel(
    name: str,
    dtype: np.dtype[Any],
    operands: Sequence[_Operand],
    across_rows: bool,
    *,
    logarithm: bool = False,
    with_losses: bool = False,
) -> int:
    """The kernel for the first and the last operand, loops and layouts in its name."""
    adjacent = tuple(operand.classes == 1 for operand in (operands[0], operands[-1]))
    if across_rows:
        layouts = ("classes" if own else "rows" for own in adjacent)
        name += "_across_rows_from_{}_to_{}".format(*layouts)
    else:
        name += "_of_rows"
    make = partial(
        kernel.make_softmax,
        logarithm=logarithm,
        with_losses=with_losses,
        across_rows=across_rows,
        adjacent=adjacent,
    )
    return _kernel(name, dtype, make)


def _kernel(name: str, dtype: np.dtype[Any], make: Callable[[Any], Callable[..., Any]]) -> int:
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
