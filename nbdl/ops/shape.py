"""Views: reshape, permute, expand, slices. No element is computed, the memory is shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import recording
from nbdl.autograd.rebinding import rebindings
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.memory_format import arranged
from nbdl.ops.primitive import normalize_axes, normalize_axis, sizes_of
from nbdl.ops.views import Diagonal, Expand, Permute, Reshape, Shape, Slice

__all__ = [
    "broadcast_to", "contiguous", "diagonal", "expand", "flatten", "matrix_transpose", "movedim", "narrow",
    "permute", "ravel", "reshape", "select", "squeeze", "t", "transpose", "unflatten", "unsqueeze", "view",
]  # fmt: skip


def _infer(label: str, shape: Shape, count: int) -> Shape:
    """``shape`` with -1 replaced by what makes ``count`` elements.

    Raises:
        RuntimeError: the sizes do not make ``count``.
    """
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        if shape.count(-1) > 1:
            raise RuntimeError(f"{label}: only one dimension can be inferred, got shape {shape}")
        if min(shape) < -1 or known == 0 or count % known:
            raise RuntimeError(f"{label}: shape '{list(shape)}' is invalid for input of size {count}")
        return tuple(count // known if n == -1 else n for n in shape)
    if min(shape, default=0) < 0 or math.prod(shape) != count:
        raise RuntimeError(f"{label}: shape '{list(shape)}' is invalid for input of size {count}")
    return shape


def _can_view(array: Any, shape: Shape) -> bool:
    """Whether a reshape needs no copy."""
    if array.flags.c_contiguous or array.size == 0:
        return True
    try:
        np.reshape(_proxy(array), shape, copy=False)
    except ValueError:
        return False
    return True


def _proxy(array: Any) -> np.ndarray:
    """A NumPy array with the shape and strides of ``array``, whose memory is never touched."""
    if isinstance(array, np.ndarray):
        return array
    return np.lib.stride_tricks.as_strided(np.empty(1, array.dtype), array.shape, array.strides)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The elements in row-major order under another shape; a view where the strides allow it, else a copy.

    Args:
        input: the tensor.
        shape: the sizes; one may be -1.

    Raises:
        RuntimeError: the number of elements differs.

    Example:
        >>> import nbdl
        >>> nbdl.arange(6).reshape(2, -1)
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    sizes = _infer("reshape", sizes_of("reshape", shape), input.array.size)
    if sizes == input.array.shape:
        return input
    if not _can_view(input.array, sizes):
        input = contiguous(input)
    return Reshape.of(sizes)(input)


def view(input: Tensor, *shape: Any) -> Tensor:
    """Like :func:`reshape`, never a copy; given a dtype, the memory reinterpreted, without a gradient.

    Some kernels write their results in an order of their own (convolutions: channels last), unlike PyTorch's:
    such a result is brought into row-major order where that makes the view possible.

    Raises:
        RuntimeError: the strides do not allow it, or the number of elements differs.

    Example:
        >>> import nbdl
        >>> nbdl.arange(6).view(3, 2)
        tensor([[0, 1],
                [2, 3],
                [4, 5]])
    """
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list)):
        return Tensor(input.array.view(np.dtype(shape[0])))
    sizes = _infer("view", sizes_of("view", shape), input.array.size)
    if not _can_view(input.array, sizes):
        if input.batch is not None or input.dual is not None:
            return reshape(input, sizes)
        _make_row_major(input)
    if not _can_view(input.array, sizes):
        raise RuntimeError(
            f"view: size {list(sizes)} is not compatible with input tensor's size {list(input.array.shape)} "
            f"and stride {list(input.stride())}; use reshape()"
        )
    return Reshape.of(sizes)(input)


def _make_row_major(x: Tensor) -> None:
    """Bring the memory that ``x`` looks at into row-major order, unless it belongs to others."""
    base, views = (x, ()) if x.view_of is None else x.view_of
    if base.borrowed or base.array.flags.c_contiguous:
        return
    rebindings.count += 1
    with recording(False):
        array = base.array = _row_major_copy(base).array
    for primitive in views:
        array = primitive.view(array)
    x.array = array


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """``input`` itself if its elements lie in row-major order, or in ``memory_format``, else such a copy."""
    if memory_format is not None and memory_format.order is not None:
        return arranged("contiguous", input, memory_format)
    return input if input.array.flags.c_contiguous else _row_major_copy(input)


def _row_major_copy(x: Tensor) -> Tensor:
    from nbdl.ops.copying import Copy

    return apply(Copy.of("C"), x)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Axes in the order ``dims``.

    Raises:
        RuntimeError: ``dims`` is no permutation of the axes.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(2, 3, 4).permute(2, 0, 1).shape
        nbdl.Size([4, 2, 3])
    """
    order = sizes_of("permute", dims)
    if len(order) != input.array.ndim:
        raise RuntimeError(
            f"permute: got {len(order)} dims {order} for a tensor with {input.array.ndim} axes"
        )
    axes = tuple(normalize_axis("permute", axis, input.array.ndim) for axis in order)
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"permute: duplicate dims are not allowed, got {order}")
    return Permute.of(axes)(input)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged.

    Raises:
        IndexError: an axis is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.arange(6).reshape(2, 3).transpose(0, 1)
        tensor([[0, 3],
                [1, 4],
                [2, 5]])
    """
    a, b = (normalize_axis("transpose", axis, input.array.ndim) for axis in (dim0, dim1))
    if input.array.ndim == 0:
        return input
    order = list(range(input.array.ndim))
    order[a], order[b] = order[b], order[a]
    return Permute.of(tuple(order))(input)


def t(input: Tensor) -> Tensor:
    """The transposed matrix; vectors and scalars as they are.

    Raises:
        RuntimeError: there are more than two axes.
    """
    if input.array.ndim > 2:
        raise RuntimeError(f"t: expects a tensor with <= 2 dimensions, got {input.array.ndim}")
    return transpose(input, 0, 1) if input.array.ndim == 2 else input


def matrix_transpose(input: Tensor) -> Tensor:
    """The last two axes exchanged.

    Raises:
        RuntimeError: there are fewer than two axes.
    """
    if input.array.ndim < 2:
        raise RuntimeError(
            f"mT: only supported on matrices or batches of matrices, got a {input.array.ndim}-D tensor"
        )
    return transpose(input, -2, -1)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Axes moved to other positions, the rest in their order.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: an axis is given twice, or there are not as many destinations as sources.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(2, 3, 4).movedim(0, -1).shape
        nbdl.Size([3, 4, 2])
    """
    n = input.array.ndim
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    if len(sources) != len(targets):
        raise RuntimeError(
            f"movedim: source and destination must have as many dims, got {source} and {destination}"
        )
    src = [normalize_axis("movedim", axis, n) for axis in sources]
    dst = [normalize_axis("movedim", axis, n) for axis in targets]
    if len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise RuntimeError(f"movedim: repeated dim in {source} or {destination}")
    order = [-1] * n
    for a, b in zip(src, dst, strict=True):
        order[b] = a
    rest = iter(axis for axis in range(n) if axis not in src)
    return permute(input, tuple(next(rest) if axis == -1 else axis for axis in order))


def expand(input: Tensor, *shape: Any) -> Tensor:
    """Axes of length 1 repeated to ``shape`` without a copy; -1 keeps a size.

    Raises:
        RuntimeError: an axis of another length would have to change.

    Example:
        >>> import nbdl
        >>> nbdl.arange(3).unsqueeze(1).expand(3, 2)
        tensor([[0, 0],
                [1, 1],
                [2, 2]])
    """
    sizes = sizes_of("expand", shape)
    missing = len(sizes) - input.array.ndim
    if missing < 0:
        raise RuntimeError(
            f"expand: the number of sizes provided ({len(sizes)}) must be at least the number of dimensions "
            f"in the tensor ({input.array.ndim})"
        )
    target = list(sizes)
    for axis, n in enumerate(input.array.shape):
        wanted = sizes[missing + axis]
        if wanted == -1:
            target[missing + axis] = n
        elif n not in (1, wanted):
            raise RuntimeError(
                f"expand: the expanded size of the tensor ({wanted}) must match the existing size ({n}) at "
                f"non-singleton dimension {missing + axis}. Target sizes: {list(sizes)}. Tensor sizes: "
                f"{list(input.array.shape)}"
            )
    if min(target, default=0) < 0:
        raise RuntimeError(f"expand: -1 is not allowed for a new axis, got {list(sizes)}")
    result = tuple(target)
    return input if result == input.array.shape else Expand.of(result)(input)


def broadcast_to(input: Tensor, shape: Sequence[int]) -> Tensor:
    """``input`` repeated to ``shape`` without a copy.

    Raises:
        RuntimeError: an axis of another length would have to change.
    """
    return expand(input, tuple(shape))


def squeeze(input: Tensor, dim: Any = None, *, axis: Any = None) -> Tensor:
    """Axes of length 1 removed: all, or those in ``dim``.

    Raises:
        IndexError: an axis is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(2, 1, 3, 1).squeeze().shape
        nbdl.Size([2, 3])
    """
    wanted = axis if dim is None else dim
    axes = (
        ()
        if isinstance(wanted, (tuple, list)) and not wanted
        else normalize_axes("squeeze", wanted, input.array.ndim)
    )
    shape = tuple(n for position, n in enumerate(input.array.shape) if n != 1 or position not in axes)
    return input if shape == input.array.shape else Reshape.of(shape)(_viewable(input, shape))


def _viewable(x: Tensor, shape: Shape) -> Tensor:
    return x if _can_view(x.array, shape) else contiguous(x)


@numpy_keywords
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new axis of length 1 at ``dim``.

    Raises:
        IndexError: the place is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.arange(3).unsqueeze(1)
        tensor([[0],
                [1],
                [2]])
    """
    n = input.array.ndim + 1
    axis = normalize_axis("unsqueeze", dim, n)
    return Slice.of((*[(None, None, None)] * axis, None))(input)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim`` merged into one.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: ``start_dim`` comes after ``end_dim``.

    Example:
        >>> import nbdl
        >>> nbdl.zeros(2, 3, 4).flatten(1).shape
        nbdl.Size([2, 12])
    """
    if input.array.ndim == 0:
        return reshape(input, 1)
    start = normalize_axis("flatten", start_dim, input.array.ndim)
    end = normalize_axis("flatten", end_dim, input.array.ndim)
    if start > end:
        raise RuntimeError("flatten: start_dim cannot come after end_dim")
    shape = input.array.shape
    return reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one axis."""
    return reshape(input, (-1,) if input.array.size else (0,))


@numpy_keywords
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One axis split into several.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: the sizes do not make up the axis.

    Example:
        >>> import nbdl
        >>> nbdl.arange(6).unflatten(0, (2, 3))
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    axis = normalize_axis("unflatten", dim, input.array.ndim)
    shape = input.array.shape
    parts = _infer("unflatten", tuple(sizes), shape[axis])
    return reshape(input, (*shape[:axis], *parts, *shape[axis + 1 :]))


@numpy_keywords
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The slice ``start : start + length`` of one axis.

    Raises:
        RuntimeError: it does not end inside the axis, or there is no axis.
        IndexError: it does not begin inside the axis.

    Example:
        >>> import nbdl
        >>> nbdl.arange(5).narrow(0, 1, 3)
        tensor([1, 2, 3])
    """
    if not input.array.ndim:
        raise RuntimeError("narrow: cannot be applied to a 0-dim tensor")
    axis = normalize_axis("narrow", dim, input.array.ndim)
    n = input.array.shape[axis]
    if not -n <= start <= n:
        raise IndexError(
            f"narrow: start out of range (expected to be in range of [{-n}, {n}], but got {start})"
        )
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise RuntimeError(f"narrow: start ({start}) + length ({length}) exceeds dimension size ({n})")
    return Slice.of((*[(None, None, None)] * axis, (start, start + length, None)))(input)


@numpy_keywords
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One position of one axis, which disappears.

    Raises:
        IndexError: the axis or the position is out of range.

    Example:
        >>> import nbdl
        >>> nbdl.arange(6).reshape(2, 3).select(1, 2)
        tensor([2, 5])
    """
    axis = normalize_axis("select", dim, input.array.ndim)
    n = input.array.shape[axis] if input.array.ndim else 0
    if not -n <= index < n:
        raise IndexError(
            f"select: index {index} out of range for tensor of size {list(input.array.shape)} at "
            f"dimension {axis}"
        )
    return Slice.of((*[(None, None, None)] * axis, int(index) % n))(input)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of two axes, as a new last axis.

    Raises:
        IndexError: an axis is out of range.
        RuntimeError: there are fewer than two axes, or both are the same.

    Example:
        >>> import nbdl
        >>> nbdl.arange(9).reshape(3, 3).diagonal(1)
        tensor([1, 5])
    """
    if input.array.ndim < 2:
        raise RuntimeError(f"diagonal: needs at least 2 axes, got {input.array.ndim}")
    a, b = (normalize_axis("diagonal", axis, input.array.ndim) for axis in (dim1, dim2))
    if a == b:
        raise RuntimeError(f"diagonal: dimensions cannot be identical {dim1}, {dim2}")
    return Diagonal.of(offset, a, b)(input)
