"""Products of tensors beside matmul: with an addend, outer, inner, tensor, Kronecker, cross; distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.autocast import in_float32, in_lower, in_widest, lowered
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import IDENTITY, Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops import matrix_functions
from nbdl.ops.complex_numbers import conj
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.matmul import bmm, dot, matmul, mm, mv
from nbdl.ops.pointwise import call, scalar
from nbdl.ops.primitive import normalize_axis
from nbdl.ops.reduction import SQUARED_DIFFERENCE, Reduce, amax, amin
from nbdl.ops.statistics import norm
from nbdl.ops.type_rules import result_type
from nbdl.ops.views import Diagonal

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "cdist", "cross", "dist", "ger", "inner", "kron", "outer",
    "tensordot", "trace", "vander", "vdot",
]  # fmt: skip

_SCALED_SUM = Formula("addmm", lambda x, y, beta, alpha: beta * x + alpha * y, 4)


# ------------------------------------------------------------------------------------------- with an addend
def _added(label: str, input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta * input + alpha * product; NaN in ``input`` does not matter if beta is 0."""
    shapes = tuple(input.array.shape), tuple(product.array.shape)
    try:
        fits = np.broadcast_shapes(*shapes) == shapes[1]
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(
            f"{label}: the input of shape {shapes[0]} cannot be broadcast to the product's shape {shapes[1]}"
        )
    (input,) = lowered(input)
    if input.dtype != product.dtype:
        raise RuntimeError(
            f"{label}: expected operands of the same dtype, but got {input.dtype} and {product.dtype}"
        )
    if product.dtype.kind in "iu":  # numbers take the dtype of the operands
        beta, alpha = int(beta), int(alpha)
    if beta == 0:
        return product if alpha == 1 else product * alpha
    return input + product if beta == 1 and alpha == 1 else call(_SCALED_SUM, input, product, beta, alpha)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)`` of matrices, the input being broadcast.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    return _added("addmm", input, mm(mat1, mat2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (mat @ vec)``.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    return _added("addmv", input, mv(mat, vec), beta, alpha)


@in_widest("cpu")
@in_lower("cuda")
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``; of bools, sums are ``or`` and products ``and``.

    The dtypes promote.

    Raises:
        RuntimeError: shapes do not fit, or numbers that are not integers among tensors of integers.
    """
    product = outer(vec1, vec2)
    common = result_type(input, product)
    if common.kind in "biu" and (isinstance(beta, float) or isinstance(alpha, float)):
        raise RuntimeError(
            f"addr: for integral tensors beta and alpha must be integers, got beta={beta} and alpha={alpha}"
        )
    if common.kind == "b":
        beta, alpha = bool(beta), bool(alpha)
    return _added("addr", input.to(common), product.to(common), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (batch1 @ batch2)`` of batches of matrices.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    return _added("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha`` times the sum over the batch of ``batch1 @ batch2``.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    if batch1.array.ndim != 3 or batch2.array.ndim != 3:
        raise RuntimeError(
            f"addbmm: expected two batches of matrices, got {batch1.array.ndim}-D and {batch2.array.ndim}-D "
            "tensors"
        )
    # One product of the batch laid out as a long row of blocks.
    left = batch1.permute(1, 0, 2).flatten(1)
    return _added("addbmm", input, mm(left, batch2.flatten(0, 1)), beta, alpha)


# -------------------------------------------------------------------------------------------- of vectors
def _check_vectors(label: str, *vectors: Tensor) -> None:
    for position, x in enumerate(vectors, 1):
        if x.array.ndim != 1:
            raise RuntimeError(
                f"{label}: Expected argument {position} to be a 1D tensor, got {x.array.ndim}D"
            )


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The products of all elements of one vector with all of another.

    Raises:
        RuntimeError: an operand is no vector.

    Example:
        >>> import nbdl
        >>> nbdl.outer(nbdl.tensor([1, 2]), nbdl.tensor([3, 4]))
        tensor([[3, 4],
                [6, 8]])
    """
    _check_vectors("outer", input, vec2)
    return input.unsqueeze(1) * vec2


def ger(input: Tensor, vec2: Tensor) -> Tensor:
    """Another name of :func:`outer`."""
    return outer(input, vec2)


@in_widest("cpu", "cuda")
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors, the first one conjugated.

    Raises:
        RuntimeError: an operand is no vector, or sizes or dtypes differ.
    """
    return dot(conj(input), other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Inner products along the last axes: (..., n) and (***, n) give (..., ***); a number multiplies.

    Raises:
        RuntimeError: the last axes differ, or the dtypes.
    """
    if input.array.ndim == 0 or other.array.ndim == 0:
        return input * other
    if input.array.shape[-1] != other.array.shape[-1]:
        raise RuntimeError(
            "inner: the last dimension must match on both input tensors but got shapes "
            f"{list(input.array.shape)} and {list(other.array.shape)}"
        )
    return tensordot(input, other, ((-1,), (-1,)))


@numpy_keywords
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product along ``dim``, by default the first axis with 3 elements.

    Raises:
        RuntimeError: there is no such axis, or ``dim`` has not 3 elements.

    Example:
        >>> import nbdl
        >>> nbdl.cross(nbdl.tensor([1.0, 0.0, 0.0]), nbdl.tensor([0.0, 1.0, 0.0]), dim=0)
        tensor([0., 0., 1.])
    """
    if dim is None:
        axes = [axis for axis, n in enumerate(input.array.shape) if n == 3]
        if not axes:
            raise RuntimeError(f"cross: no dimension of size 3 in input of shape {tuple(input.array.shape)}")
        dim = axes[0]
    return matrix_functions.cross(input, other, dim=dim)


def vander(input: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The matrix of powers of a vector, from the highest to 1 unless ``increasing``.

    Raises:
        RuntimeError: ``input`` is no vector, or ``N`` is negative.
    """
    _check_vectors("vander", input)
    count = input.array.shape[0] if N is None else N
    if count < 0:
        raise RuntimeError(f"vander: N must be non-negative, got {count}")
    rows = matrix_functions.powers(input, count)
    return rows if increasing else rows.flip(-1)


# -------------------------------------------------------------------------------------------- of tensors
@in_widest("cuda")
@numpy_keywords
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over pairs of axes.

    Args:
        a: the left operand.
        b: the right operand.
        dims: how many of the last axes of ``a`` meet the first of ``b``; or two sequences of axes that meet.

    Returns:
        The other axes of ``a``, then those of ``b``.

    Raises:
        RuntimeError: axes that meet have different sizes, neither of them 1, or the dtypes differ.

    Example:
        >>> import nbdl
        >>> nbdl.tensordot(nbdl.ones(2, 3, 4), nbdl.ones(4, 3, 5), dims=([1, 2], [1, 0])).shape
        nbdl.Size([2, 5])
    """
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot: expects dims >= 0, but got dims={dims}")
        first: Sequence[int] = range(a.array.ndim - dims, a.array.ndim)
        second: Sequence[int] = range(dims)
        if dims > min(a.array.ndim, b.array.ndim):
            raise RuntimeError(
                f"tensordot: dims={dims} exceeds the number of axes, {a.array.ndim} and {b.array.ndim}"
            )
    else:
        first, second = ((axes,) if isinstance(axes, int) else tuple(axes) for axes in dims)
    left = [normalize_axis("tensordot", axis, a.array.ndim) for axis in first]
    right = [normalize_axis("tensordot", axis, b.array.ndim) for axis in second]
    if len(left) != len(right):
        raise RuntimeError(f"tensordot: both dimension lists should have same length, got {left} and {right}")
    for i, j in zip(left, right, strict=True):
        if a.array.shape[i] == 1 != b.array.shape[j]:
            b = b.sum(j, keepdim=True)
        elif b.array.shape[j] == 1 != a.array.shape[i]:
            a = a.sum(i, keepdim=True)
        elif a.array.shape[i] != b.array.shape[j]:
            raise RuntimeError(
                f"tensordot: contracted dimensions need to match, but first has size {a.array.shape[i]} in "
                f"dim {i} and second has size {b.array.shape[j]} in dim {j}"
            )
    kept_a = [axis for axis in range(a.array.ndim) if axis not in left]
    kept_b = [axis for axis in range(b.array.ndim) if axis not in right]
    shape_a = tuple([a.array.shape[axis] for axis in kept_a])
    shape_b = tuple([b.array.shape[axis] for axis in kept_b])
    size = math.prod([a.array.shape[axis] for axis in left])
    rows = a.permute((*kept_a, *left)).reshape(math.prod(shape_a), size)
    columns = b.permute((*right, *kept_b)).reshape(size, math.prod(shape_b))
    return matmul(rows, columns).reshape((*shape_a, *shape_b))


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of ``input`` times all of ``other``, as blocks.

    Example:
        >>> import nbdl
        >>> nbdl.kron(nbdl.eye(2), nbdl.ones(1, 2))
        tensor([[1., 1., 0., 0.],
                [0., 0., 1., 1.]])
    """
    rank = max(input.array.ndim, other.array.ndim)
    sizes = [(1,) * (rank - x.array.ndim) + tuple(x.array.shape) for x in (input, other)]
    a = input.reshape([n for size in sizes[0] for n in (size, 1)])
    b = other.reshape([n for size in sizes[1] for n in (1, size)])
    return (a * b).reshape([m * n for m, n in zip(*sizes, strict=True)])


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.

    Raises:
        RuntimeError: it is no matrix.

    Example:
        >>> import nbdl
        >>> nbdl.trace(nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor(5.)
    """
    if input.array.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.array.ndim}")
    return apply(Reduce.of(IDENTITY, "sum", (0,), False), Diagonal.of(0, 0, 1)(input))


# --------------------------------------------------------------------------------------------- distances
_ABSOLUTE_DIFFERENCE = Formula("absolute_difference", lambda x, y: f.abs(x - y), 2)
_DIFFERENT = Formula("different", lambda x, y: f.where(f.equal(x, y), 0, 1), 2)
_POWER_OF_DIFFERENCE = Formula(
    "power_of_difference", lambda x, y, p: f.where(f.equal(x, y), 0, f.pow(f.abs(x - y), p)), 3
)
# Roots with a derivative of 0 at 0, where distances have a minimum.
_ROOT = Formula("root", lambda x: f.where(x > 0, f.sqrt(x), 0), 1)
_POWER_ROOT = Formula("power_root", lambda x, p: f.where(f.equal(x, 0), 0, f.pow(x, p)), 2)
# From so many rows on one matrix product is faster than the differences, as in PyTorch.
_ROWS_FOR_PRODUCT = 25


@in_float32
def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """The p-norm distances between all rows of two batches of matrices.

    Args:
        x1: (..., m, k).
        x2: (..., n, k); batches broadcast.
        p: order, not negative; 0 counts differing elements.
        compute_mode: whether Euclidean distances are taken from |a|^2 + |b|^2 - 2 a b, which is fast and
            inexact for near rows: ``use_mm_for_euclid_dist``, ``donot_use_mm_for_euclid_dist``, or, by
            default, if there are more than 25 rows.

    Returns:
        (..., m, n)

    Raises:
        RuntimeError: ``p`` is negative, fewer than 2 axes, or rows of different lengths.
        ValueError: another ``compute_mode``.

    Example:
        >>> import nbdl
        >>> nbdl.cdist(nbdl.zeros(1, 2), nbdl.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[5., 1.]])
    """
    if p < 0:
        raise RuntimeError(f"cdist: only supports non-negative p values, got {p}")
    if x1.array.ndim < 2 or x2.array.ndim < 2:
        raise RuntimeError(f"cdist: expected at least 2D tensors, got {x1.array.ndim}D and {x2.array.ndim}D")
    if x1.array.shape[-1] != x2.array.shape[-1]:
        raise RuntimeError(
            f"cdist: X1 and X2 must have the same number of columns. X1: {x1.array.shape[-1]} "
            f"X2: {x2.array.shape[-1]}"
        )
    modes = {
        None: None,
        "use_mm_for_euclid_dist_if_necessary": None,
        "use_mm_for_euclid_dist": True,
        "donot_use_mm_for_euclid_dist": False,
    }
    if compute_mode not in modes:
        raise ValueError(f"cdist: {compute_mode} is not a valid value for compute_mode")
    by_product = modes[compute_mode]
    if by_product is None:
        by_product = max(x1.array.shape[-2], x2.array.shape[-2]) > _ROWS_FOR_PRODUCT
    if p == 2 and by_product:
        squares = x1.square().sum(-1, keepdim=True) + x2.square().sum(-1).unsqueeze(-2)
        return call(_ROOT, squares - 2 * (x1 @ x2.transpose(-2, -1)))
    a, b = x1.unsqueeze(-2), x2.unsqueeze(-3)
    last = max(a.array.ndim, b.array.ndim) - 1
    if math.isinf(p):
        return amax((a - b).abs(), -1) if a.array.shape[-1] else _summed(_ABSOLUTE_DIFFERENCE, last, a, b)
    if p == 0:
        return _summed(_DIFFERENT, last, a, b)
    if p == 1:
        return _summed(_ABSOLUTE_DIFFERENCE, last, a, b)
    if p == 2:
        return call(_ROOT, _summed(SQUARED_DIFFERENCE, last, a, b))
    order = scalar(float(p))
    return call(_POWER_ROOT, _summed(_POWER_OF_DIFFERENCE, last, a, b, order), 1 / p)


def _summed(formula: Formula, axis: int, *operands: Tensor) -> Tensor:
    """A formula summed over an axis in one loop; a third operand is a Python number."""
    return Reduce.of(formula, "sum", (axis,), False, 4 if len(operands) == 3 else 0)(*operands)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of ``input - other``, which broadcast."""
    difference = input - other
    if difference.is_complex():
        difference = difference.abs()
    if not difference.is_floating_point():
        difference = difference.to(dtypes.get_default_dtype())
    if difference.array.size and math.isinf(p):
        return (amax if p > 0 else amin)(difference.abs())
    return norm(difference, p)
