"""Distances, similarities and norms of vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.copying import constant
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.pointwise import call, scalar
from nbdl.ops.primitive import check_broadcast, normalize_axis
from nbdl.ops.reduction import Reduce
from nbdl.ops.selecting import index_select
from nbdl.ops.statistics import norm

_PRODUCT = formula_of("multiply")
_SQUARE = formula_of("square")
_SQUARED_DISTANCE = Formula("squared_distance", lambda x, y, eps: f.square(x - y + eps), 3)
_POWER = Formula("absolute_power", lambda x, p: f.pow(f.abs(x), p), 2)


def norm_root(x: Any) -> Any:
    """The root of a scalar of a formula; a norm of 0 has slope 0, not the infinite one of the root."""
    return f.where(x > 0, f.sqrt(f.where(x > 0, x, 1)), 0 * x)


_ROOT = Formula("norm_root", norm_root, 1)
_POWER_ROOT = Formula("norm_root", lambda x, p: f.where(x > 0, f.pow(f.where(x > 0, x, 1), 1 / p), 0 * x), 2)
_QUOTIENT = Formula("cosine", lambda product, a, b, eps: product / (f.maximum(a, eps) * f.maximum(b, eps)), 4)
_COSINE = Formula(
    "cosine",
    lambda product, a, b, eps: product / (f.maximum(norm_root(a), eps) * f.maximum(norm_root(b), eps)),
    4,
)
_AT_LEAST = Formula("at_least", lambda x, low: f.where(x > low, x, low), 2)


def vector_norm(x: Tensor, p: float, dim: int, keepdim: bool) -> Tensor:
    """(sum of abs(x)^p)^(1/p) along an axis; p may be infinite or 0; slope 0 at 0."""
    if x.is_complex():
        x = x.abs()
    if math.isinf(p):
        magnitudes = x.abs()
        return magnitudes.amax(dim, keepdim=keepdim) if p > 0 else magnitudes.amin(dim, keepdim=keepdim)
    if p == 0:
        return norm(x, 0, dim, keepdim)
    if p == 1:
        return x.abs().sum(dim, keepdim=keepdim)
    axis = normalize_axis("vector_norm", dim, x.array.ndim)
    if p == 2:
        return call(_ROOT, apply(Reduce.of(_SQUARE, "sum", (axis,), keepdim), x))
    return call(_POWER_ROOT, call(_POWER, x, float(p)).sum(axis, keepdim=keepdim), float(p))


@numpy_keywords
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(norm(x), eps), the p-norm being taken along ``dim``.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.normalize(nbdl.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    axis = normalize_axis("normalize", dim, input.array.ndim)
    return input / call(_AT_LEAST, vector_norm(input, p, axis, True), eps)


def cosine(x1: Tensor, x2: Tensor, dim: int, eps: float) -> Tensor:
    """x1 . x2 / (norm(x1) norm(x2)) along an axis, each norm being at least the root of ``eps``."""
    axis = normalize_axis("cosine_similarity", dim, max(x1.array.ndim, x2.array.ndim))
    product = apply(Reduce.of(_PRODUCT, "sum", (axis,), False), x1, x2)
    if not product.is_complex():
        squares = Reduce.of(_SQUARE, "sum", (axis,), False)
        return call(_COSINE, product, apply(squares, x1), apply(squares, x2), eps**0.5)
    return call(
        _QUOTIENT, product, vector_norm(x1, 2, axis, False), vector_norm(x2, 2, axis, False), eps**0.5
    )


@numpy_keywords
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(norm(x1), eps) * max(norm(x2), eps)) along ``dim``, of broadcast operands.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.cosine_similarity(nbdl.tensor([[1.0, 0.0]]), nbdl.tensor([[1.0, 1.0]]))
        tensor([0.7071])
    """
    shape = check_broadcast("cosine_similarity", (x1.array, x2.array))
    if not shape:
        return cosine(x1.reshape(1), x2.reshape(1), dim, eps * eps)
    return cosine(x1.expand(shape), x2.expand(shape), dim, eps * eps)


@numpy_keywords
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis."""
    check_broadcast("pairwise_distance", (x1.array, x2.array))
    if p == 2 and has_squared_distance(x1, x2):
        return call(_ROOT, squared_distance(x1, x2, eps, keepdim))
    return vector_norm(x1 - x2 + eps, p, -1, keepdim)


def has_squared_distance(x1: Tensor, x2: Tensor) -> bool:
    """Whether :func:`squared_distance` takes them: real, and not numbers alone."""
    return max(x1.array.ndim, x2.array.ndim) > 0 and not (x1.is_complex() or x2.is_complex())


def squared_distance(x1: Tensor, x2: Tensor, eps: float, keepdim: bool = False) -> Tensor:
    """The sum of (x1 - x2 + eps)^2 along the last axis."""
    last = max(x1.array.ndim, x2.array.ndim) - 1
    reduce = Reduce.of(_SQUARED_DISTANCE, "sum", (last,), keepdim, 0b100)
    return apply(reduce, x1, x2, scalar(float(eps)))


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows i < j of (N, D), in one vector of length N (N - 1) / 2."""
    if input.array.ndim != 2:
        raise RuntimeError(f"pdist: only supports 2D tensors, got: {input.array.ndim}D")
    first, second = (constant(index, input.device) for index in np.triu_indices(input.array.shape[0], 1))
    return vector_norm(index_select(input, 0, first) - index_select(input, 0, second), p, -1, False)
