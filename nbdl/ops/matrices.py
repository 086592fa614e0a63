"""What functions of matrices share: checks of their operands, and sums of what may be absent."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.primitive import broadcast_error


def check_dtype(label: str, x: Any) -> None:
    """Raise unless ``x`` is a tensor of single or double precision, real or complex."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{label}: expected a tensor, got {type(x).__name__}")
    if dtypes.arithmetic_dtype(x.dtype) != x.dtype:
        raise RuntimeError(f"{label}: Low precision dtypes not supported. Got {x.dtype}")
    if dtypes.category(x.dtype) < 2:
        raise RuntimeError(f"{label}: Expected a floating point or complex tensor as input. Got {x.dtype}")


def check_matrices(label: str, x: Any, *, name: str = "A", square: bool = False) -> None:
    """Raise unless ``x`` is a batch of (square) matrices of a dtype that LAPACK knows.

    Raises:
        TypeError: it is no tensor.
        RuntimeError: fewer than 2 axes, other dtypes, or matrices that are not square.
    """
    check_dtype(label, x)
    if x.array.ndim < 2:
        raise RuntimeError(
            f"{label}: The input tensor {name} must have at least 2 dimensions, got {x.array.ndim}"
        )
    m, n = x.array.shape[-2:]
    if square and m != n:
        raise RuntimeError(
            f"{label}: {name} must be batches of square matrices, but they are {m} by {n} matrices"
        )


def same_batch(label: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches of matrices, expanded to the batch shape that they broadcast to.

    Raises:
        RuntimeError: the dtypes differ, or the batches do not broadcast.
    """
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"{label}: expected both operands to have the same dtype, got {a.dtype} and {b.dtype}"
        )
    shapes = [tuple(x.array.shape[:-2]) for x in (a, b)]
    if shapes[0] == shapes[1]:
        return a, b
    try:
        batch = np.broadcast_shapes(*shapes)
    except ValueError:
        raise broadcast_error(label, shapes) from None
    return a.expand((*batch, *a.array.shape[-2:])), b.expand((*batch, *b.array.shape[-2:]))


def total(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are there; None if there are none."""
    result = None
    for term in terms:
        if term is not None:
            result = term if result is None else result + term
    return result
