"""Functions of matrices: norms and conditions, powers, exponential, chained and structured products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.arithmetic import maximum
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint, conj
from nbdl.ops.creation import arange, eye
from nbdl.ops.joining import Concatenate, cat, stack
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.matrices import check_matrices
from nbdl.ops.primitive import Primitive, normalize_axis
from nbdl.ops.reduction import amax, amin
from nbdl.ops.shape import diagonal as diagonal_of
from nbdl.ops.solving import inv
from nbdl.ops.spectra import eigvalsh, svdvals
from nbdl.ops.statistics import norm as elementwise_norm
from nbdl.ops.type_rules import finfo
from nbdl.ops.views import Slice

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node


# -------------------------------------------------------------------------------------------------- norms
def _in_dtype(label: str, x: Tensor, dtype: Any) -> Tensor:
    if dtype is not None:
        x = x.to(dtype)
    if not isinstance(x, Tensor) or dtypes.category(x.dtype) < 2:
        raise RuntimeError(
            f"{label}: Expected a floating point or complex tensor as input. "
            f"Got {getattr(x, 'dtype', type(x))}"
        )
    return x


@numpy_keywords
def vector_norm(
    x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(sum |x_i|^ord)^(1/ord) over ``dim`` (None: all elements), in the limit for infinities and 0.

    Raises:
        RuntimeError: the elements are neither floats nor complex numbers.
        IndexError: an axis is out of range, or for infinite ``ord`` empty.
    """
    x = _in_dtype("linalg.vector_norm", x, dtype)
    return elementwise_norm(x.abs() if x.is_complex() else x, ord, dim, keepdim)


@numpy_keywords
def matrix_norm(
    A: Tensor,
    ord: float | str = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """A norm of matrices.

    Args:
        A: at least 2 axes.
        ord: ``fro`` (of all elements), ``nuc`` (the sum of singular values), 2 or -2 (the largest or smallest
            one), 1 or -1 (of the sums of absolute values of columns), inf or -inf (of rows).
        dim: the axes of the rows and the columns.
        keepdim: leave the axes with length 1.
        dtype: cast to it before.

    Raises:
        RuntimeError: another ``ord``, fewer than 2 axes, one axis given twice, or other dtypes.

    Example:
        >>> import nbdl
        >>> nbdl.linalg.matrix_norm(nbdl.tensor([[1.0, -2.0], [3.0, 4.0]]), ord=1)
        tensor(6.)
    """
    label = "linalg.matrix_norm"
    A = _in_dtype(label, A, dtype)
    if A.array.ndim < 2 or not isinstance(dim, (tuple, list)) or len(dim) != 2:
        raise RuntimeError(f"{label}: dim must be a 2-tuple of axes of a tensor with at least 2, got {dim}")
    rows, columns = (normalize_axis(label, axis, A.array.ndim) for axis in dim)
    if rows == columns:
        raise RuntimeError(f"{label}: dims must be different. Got ({dim[0]}, {dim[1]})")
    if ord == "fro":
        return vector_norm(A, 2, (rows, columns), keepdim)
    if ord in (2, -2, "nuc"):
        values = svdvals(A.movedim((rows, columns), (-2, -1)))
        result = values.sum(-1) if ord == "nuc" else amax(values, -1) if ord == 2 else amin(values, -1)
    elif ord in (1, -1, math.inf, -math.inf):
        summed, other = (rows, columns) if abs(float(ord)) == 1 else (columns, rows)
        sums = A.abs().sum(summed, keepdim=True)
        result = (amax if float(ord) > 0 else amin)(sums, other, keepdim=True).squeeze((rows, columns))
    else:
        raise RuntimeError(f"{label}: Order {ord} not supported.")
    if not keepdim:
        return result
    return result.unsqueeze(min(rows, columns)).unsqueeze(max(rows, columns))


@numpy_keywords
def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """:func:`matrix_norm` over two axes, :func:`vector_norm` over one; without ``ord`` of all elements.

    Args:
        A: the tensor.
        ord: see both functions; None: the 2-norm of all elements over ``dim``.
        dim: one axis or two; None with ``ord``: all axes of a vector or a matrix.
        keepdim: leave the axes with length 1.
        dtype: cast to it before.

    Raises:
        RuntimeError: as both functions, or ``ord`` without ``dim`` for a tensor that has not 1 or 2 axes.
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None:
        if A.array.ndim not in (1, 2):
            raise RuntimeError(
                "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. "
                f"Got {A.array.ndim}D."
            )
        axes: tuple[int, ...] = tuple(range(A.array.ndim))
    else:
        axes = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(axes) == 2 or isinstance(ord, str):
        return matrix_norm(A, ord, axes, keepdim, dtype=dtype)
    return vector_norm(A, ord, axes, keepdim, dtype=dtype)


def cond(A: Tensor, p: float | str | None = None) -> Tensor:
    """The condition number: the norm of a matrix times that of its inverse.

    Args:
        A: (..., m, n); square but for p in (None, 2, -2).
        p: see :func:`matrix_norm`; None: 2.

    Raises:
        RuntimeError: matrices that are not square, another ``p``, or other dtypes.
    """
    check_matrices("linalg.cond", A, square=p not in (None, 2, -2))
    if p in (None, 2, -2):
        values = svdvals(A)
        largest, smallest = values[..., 0], values[..., -1]
        return smallest / largest if p == -2 else largest / smallest
    from nbdl.ops.arithmetic import where
    from nbdl.ops.solving import inv_ex

    inverse, info = inv_ex(A)
    result = matrix_norm(A, p) * matrix_norm(inverse, p)
    return where(info.eq(0), result, math.inf)


def matrix_rank(
    A: Tensor,
    *,
    atol: Tensor | float | None = None,
    rtol: Tensor | float | None = None,
    hermitian: bool = False,
    tol: Tensor | float | None = None,
) -> Tensor:
    """How many singular values exceed max(atol, rtol * the largest one); int64.

    Args:
        A: (..., m, n).
        atol: default 0; ``tol`` is another name.
        rtol: default max(m, n) * eps, or 0 if ``atol`` is given.
        hermitian: the matrices are Hermitian, so that eigenvalues do.
        tol: another name of ``atol``.

    Raises:
        RuntimeError: a dtype that is neither float nor complex.
    """
    check_matrices("linalg.matrix_rank", A, square=hermitian)
    atol = tol if atol is None else atol
    x = A.detach()
    values = eigvalsh(x).abs() if hermitian else svdvals(x)
    if rtol is None:
        given = atol is not None and (isinstance(atol, Tensor) or atol > 0)
        rtol = 0.0 if given else max(A.array.shape[-2:]) * finfo(values.dtype).eps
    if values.array.shape[-1] == 0:
        return values.to("int64").sum(-1)
    limit = maximum(amax(values, -1) * rtol, 0.0 if atol is None else atol)
    return (values > limit.unsqueeze(-1)).sum(-1)


# ------------------------------------------------------------------------------------ powers and exponential
class MatrixExp(Primitive):
    """The exponential of square matrices."""

    name = "matrix_exp"

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The derivative at A^H in the direction of the gradient."""
        assert gradients[0] is not None
        return (_exp_tangent(adjoint(node.input(0)), gradients[0]),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The derivative at A in the direction of the tangent."""
        assert tangents[0] is not None
        return (_exp_tangent(inputs[0], tangents[0]),)


def _exp_tangent(a: Tensor, direction: Tensor) -> Tensor:
    """The upper right block of exp([[A, E], [0, A]]) (Mathias 1996, theorem 2.1)."""
    n = a.shape[-1]
    upper = cat((a, direction), -1)
    lower = cat((a.zeros_like(), a), -1)
    return apply(MatrixExp.of(), cat((upper, lower), -2))[..., :n, n:]


def matrix_exp(A: Tensor) -> Tensor:
    """The exponential sum_k A^k / k! of square matrices; of half precision, computed in float32.

    Raises:
        RuntimeError: matrices that are not square, or a dtype that is neither float nor complex.
    """
    if isinstance(A, Tensor) and dtypes.is_half(A.dtype):
        return matrix_exp(A.to("float32")).to(A.dtype)
    check_matrices("linalg.matrix_exp", A, square=True)
    return apply(MatrixExp.of(), A)


def matrix_power(A: Tensor, n: int) -> Tensor:
    """The n-th power by repeated squaring; of the inverse if ``n`` is negative.

    Raises:
        LinAlgError: ``n`` is negative and a matrix singular.
        RuntimeError: matrices that are not square, or of other dtypes.
    """
    check_matrices("linalg.matrix_power", A, square=True)
    if n == 0:  # a product over no index is 0, and depends on A as far as the tape can see
        return eye(A.shape[-1], dtype=A.dtype, device=A.device) + A[..., :0] @ A[..., :0, :]
    square = inv(A) if n < 0 else A
    n, result = abs(n), None
    while True:
        if n & 1:
            result = square if result is None else result @ square
        n >>= 1
        if not n:
            assert result is not None
            return result.clone() if result is A else result
        square = square @ square


# ----------------------------------------------------------------------------------------------- products
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of several matrices in the order that needs the fewest multiplications.

    Args:
        tensors: at least two matrices; the first and the last may be vectors.

    Raises:
        RuntimeError: fewer than two, or shapes that do not fit.
    """
    chain = list(tensors)
    if len(chain) < 2:
        raise RuntimeError("linalg.multi_dot: expected at least 2 tensors but got " + str(len(chain)))
    for k, x in enumerate(chain):
        allowed = (1, 2) if k in (0, len(chain) - 1) else (2,)
        if x.array.ndim not in allowed:
            raise RuntimeError(
                f"linalg.multi_dot: tensor {k} must be {' or '.join(f'{d}D' for d in allowed)}, "
                f"got {x.array.ndim}D"
            )
    is_row, is_column = chain[0].array.ndim == 1, chain[-1].array.ndim == 1
    if is_row:
        chain[0] = chain[0].unsqueeze(0)
    if is_column:
        chain[-1] = chain[-1].unsqueeze(-1)
    product = _multiplied(chain, _splits(chain), 0, len(chain) - 1)
    if is_row:
        product = product.squeeze(0)
    return product.squeeze(-1) if is_column else product


def _splits(chain: Sequence[Tensor]) -> dict[tuple[int, int], int]:
    """Where to part each stretch of the chain (Cormen et al., Introduction to Algorithms, section 15.2)."""
    sizes = [chain[0].shape[0], *[x.shape[1] for x in chain]]
    cost = {(i, i): 0 for i in range(len(chain))}
    best: dict[tuple[int, int], int] = {}
    for length in range(1, len(chain)):
        for i in range(len(chain) - length):
            j = i + length
            costs = {
                k: cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)
            }
            best[i, j] = min(costs, key=costs.__getitem__)
            cost[i, j] = costs[best[i, j]]
    return best


def _multiplied(chain: Sequence[Tensor], best: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return chain[i]
    k = best[i, j]
    return _multiplied(chain, best, i, k) @ _multiplied(chain, best, k + 1, j)


@numpy_keywords
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross product of vectors of 3 elements along ``dim``; the other axes broadcast.

    Raises:
        RuntimeError: the axis has not 3 elements.
    """
    a, b = input, other
    axis = normalize_axis("linalg.cross", dim, max(a.array.ndim, b.array.ndim))
    axis -= max(a.array.ndim, b.array.ndim)
    if a.array.ndim != b.array.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    if a.array.shape[axis] != 3 or b.array.shape[axis] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {a.array.shape[axis]} and "
            f"{b.array.shape[axis]}"
        )
    position = axis + a.array.ndim
    (a0, a1, a2), (b0, b1, b2) = ([part(x) for part in _parts_at(position)] for x in (a, b))
    # Products one by one: a sum fused with a product would not be 0 for parallel vectors.
    components = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
    return apply(Concatenate.of(position, (1, 1, 1)), *components)


@cache
def _parts_at(axis: int) -> tuple[Slice, ...]:
    """The three components along an axis, which is kept."""
    return tuple([Slice.of((*[(None, None, None)] * axis, (k, k + 1, None))) for k in range(3)])


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of two axes, by default the last ones, as a new last axis; a view."""
    return diagonal_of(A, offset, dim1, dim2)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Rows 1, x, x^2, ..., x^(N-1) for every element of (..., n); ``N`` is n by default.

    Raises:
        RuntimeError: ``N`` is not larger than 1.
    """
    values = x if x.array.ndim else x.reshape(1)
    columns = values.array.shape[-1] if N is None else N
    if columns <= 1:
        raise RuntimeError(f"linalg.vander: N must be greater than 1, got {columns}")
    return powers(values, columns)


def powers(x: Tensor, count: int) -> Tensor:
    """The powers 0 ... count - 1 along a new last axis."""
    if not x.is_complex():
        return x.unsqueeze(-1) ** arange(count, device=x.device)
    columns = [x.ones_like()]
    for _ in range(count - 1):
        columns.append(columns[-1] * x)
    return stack(columns[:count], -1) if count else x.unsqueeze(-1)[..., :0]


@numpy_keywords
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The inner products sum conj(x) y of vectors along ``dim``; the other axes broadcast.

    Raises:
        RuntimeError: the dtypes or the lengths differ.
    """
    if x.dtype != y.dtype:
        raise RuntimeError(
            f"linalg.vecdot: Expected x and y to have the same dtype, got {x.dtype} and {y.dtype}"
        )
    return (conj(x) * y).sum(dim)
