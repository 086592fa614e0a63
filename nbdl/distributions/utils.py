"""What distributions share: broadcast parameters, logits and probabilities, properties computed once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.creation import tensor
from nbdl.ops.indexing import get_item
from nbdl.ops.random import rand
from nbdl.ops.rearranging import broadcast_tensors
from nbdl.ops.softmax import log_softmax, softmax
from nbdl.ops.triangular import tril_indices
from nbdl.ops.type_rules import finfo

__all__ = [
    "broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits",
    "tril_matrix_to_vec", "vec_to_tril_matrix",
]  # fmt: skip

euler_constant = 0.57721566490153286060


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors and numbers as tensors of one shape.

    Numbers get the dtype and the device of the first tensor, or the default dtype.

    Raises:
        ValueError: a value is neither tensor nor number.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.utils.broadcast_all(1.0, nbdl.zeros(2))
        (tensor([1., 1.]), tensor([0., 0.]))
    """
    for value in values:
        if not isinstance(value, (Tensor, int, float, np.number)):
            raise ValueError(f"Input arguments must all be numbers or tensors, got {type(value).__name__}")
    like = next((value for value in values if isinstance(value, Tensor)), None)
    dtype = dtypes.get_default_dtype() if like is None else like.dtype
    device = None if like is None else like.device
    tensors = [x if isinstance(x, Tensor) else tensor(x, dtype=dtype, device=device) for x in values]
    return tuple(broadcast_tensors(*tensors))


def epsilon(x: Tensor) -> float:
    """The spacing of floats of the dtype of ``x`` at 1."""
    return float(finfo(x.dtype).eps)


def tiny(x: Tensor) -> float:
    """The smallest normal float of the dtype of ``x``."""
    return float(finfo(x.dtype).tiny)


def uniform_like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in (0, 1) of the dtype and device of ``x``."""
    return rand(shape, dtype=x.dtype, device=x.device).clamp(min=epsilon(x) / 4)


def sum_rightmost(value: Any, count: int) -> Any:
    """The sum over the last ``count`` axes."""
    return value.sum(tuple(range(-count, 0))) if count else value


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities of logits: of log odds if ``is_binary``, else of logarithms up to a constant."""
    return logits.sigmoid() if is_binary else softmax(logits, -1)


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities moved away from 0 and 1 by an epsilon of their dtype."""
    eps = epsilon(probs)
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Logits of probabilities: log odds if ``is_binary``, else logarithms; finite also for 0 and 1."""
    clamped = clamp_probs(probs)
    return clamped.log() - (-clamped).log1p() if is_binary else clamped.log()


def normalized_logits(logits: Tensor) -> Tensor:
    """Logarithms of probabilities."""
    return log_softmax(logits, -1)


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The elements of square matrices on and below a diagonal, row by row.

    Raises:
        ValueError: there is no such diagonal.

    Example:
        >>> import nbdl
        >>> nbdl.distributions.utils.tril_matrix_to_vec(nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([1., 3., 4.])
    """
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    rows, columns = tril_indices(n, n, diag, device=mat.device)
    return get_item(mat, (..., rows, columns))


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """Square matrices whose elements on and below a diagonal are those of ``vec``, row by row; else 0.

    Raises:
        ValueError: no matrix has so many elements there.
    """
    # n rows have n (n + 1) / 2 elements on and below the main diagonal; for others n solves a quadratic.
    length, slope = vec.shape[-1], 2 * diag + 1
    root = math.isqrt(max(slope**2 + 8 * length + 4 * abs(diag) * (diag + 1), 0))
    size = (root - slope) // 2
    if size < 0 or len(tril_indices(size, size, diag)[0]) != length:
        raise ValueError(
            f"The size of last dimension is {length} which cannot be expressed as the lower triangular part "
            "of a square D x D matrix."
        )
    rows, columns = tril_indices(size, size, diag, device=vec.device)
    matrix = vec.new_zeros((*vec.shape[:-1], size * size))
    return matrix.index_copy(-1, rows * size + columns, vec).reshape((*vec.shape[:-1], size, size))


class lazy_property:
    """A property that is computed when it is first asked for, and kept."""

    def __init__(self, wrapped: Callable[..., Any]):
        self.wrapped = wrapped
        functools.update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:  # so that documentation and introspection see what it is
            return property(self.wrapped)
        with enable_grad():
            value = self.wrapped(instance)
        vars(instance)[self.wrapped.__name__] = value
        return value
