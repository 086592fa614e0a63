"""Losses over classes of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.class_losses`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import tasks_for
from nbdl.backend.numba.native import failure_address
from nbdl.backend.numba.softmax import plan_cross_entropy
from nbdl.backend.numba.stages import block_words, plans_in_a_row
from nbdl.kernels.cpu import class_losses as kernel

__all__ = ["plan_cross_entropy_loss", "plan_nll_loss", "plan_nll_loss_input"]

Array = NDArray[Any]


def plan_cross_entropy_loss(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, ignore_index: int, mean: bool
) -> Plan | None:
    """Plans losses, probabilities, their reduction and share of (logits, classes); None: NumPy's."""
    logits, classes = inputs
    rows = plan_cross_entropy(inputs, outputs, ignore_index=ignore_index)
    if rows is None or not classes.flags.c_contiguous:
        return None
    whole = _plan(kernel.make_total, logits, (), ignore_index, mean)
    return plans_in_a_row(((rows, (0, 1)), (whole, (2, 1))), inputs=2)


def plan_nll_loss(
    inputs: Sequence[Array], outputs: Sequence[Array] | None, *, ignore_index: int, mean: bool
) -> Plan | None:
    """Plans the loss and the share of a row of (scores, classes), or returns None: NumPy's."""
    scores, classes = inputs
    if outputs is not None or not _is_supported(scores) or not _is_supported(classes, np.int64):
        return None
    return _plan(kernel.make_nll_loss, scores, (), ignore_index, mean)


def plan_nll_loss_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    ignore_index: int,
    shape: tuple[int, ...],
) -> Plan | None:
    """Plans the gradient by scores of a shape of (g, classes, share), or returns None: NumPy's."""
    g, classes, share = inputs
    if outputs is not None or not _is_supported(g) or not _is_supported(classes, np.int64):
        return None
    if share.dtype != g.dtype:
        return None
    return _plan(kernel.make_nll_loss_input, g, shape, ignore_index, False)


def _is_supported(x: Array, *allowed: Any) -> bool:
    """Whether a kernel can read x as rows: floats, if nothing else is allowed, in row-major order."""
    fits = x.dtype in (allowed or (np.float32, np.float64)) and is_plain([x], x.dtype)
    return bool(fits and x.flags.c_contiguous)


def _plan(make: Callable[[Any], Any], x: Array, result: tuple[int, ...], ignored: int, mean: bool) -> Plan:
    """A plan over scores like x, whose results are two numbers, or over a gradient of shape ``result``."""
    samples, classes, *inner = result or x.shape
    words = {
        kernel.SAMPLES: samples,
        kernel.CLASSES: classes,
        kernel.INNER: math.prod(inner),
        kernel.IGNORED: ignored,
        kernel.MEAN: int(mean),
        kernel.FAILED: failure_address(),
    }
    return Plan(
        _kernel(make, x.dtype),
        inputs=3 if result else 2,
        outputs=[OutputSpec(result, x.dtype)] if result else [OutputSpec((), x.dtype)] * 2,
        arguments=block_words(words, kernel.MAX_OPERANDS),
        rows=samples if result else 1,
        tasks=tasks_for(math.prod(result), samples) if result else 1,
    )


@cache
def _kernel(make: Callable[[Any], Callable[..., Any]], dtype: np.dtype[Any]) -> int:
    name = make.__name__.removeprefix("make_")
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")
