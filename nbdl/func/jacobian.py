"""Whole Jacobians and Hessians, one row or column after the other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.func import tree
from nbdl.func.arguments import Argnums, chosen, tensors, without_aux
from nbdl.func.forward import jvp
from nbdl.func.reverse import Pullback, grad
from nbdl.ops.joining import stack


def _basis(x: Tensor) -> list[Tensor]:
    """The unit vectors of the space of ``x``, in its shape."""
    vectors = []
    for k in range(x.numel()):
        vector = x.detach().zeros_like().reshape(-1)
        vector.array[k] = 1
        vectors.append(vector.reshape(x.shape))
    return vectors


def _stacked(rows: Sequence[Tensor], lead: tuple[int, ...], row: Tensor) -> Tensor:
    """Rows, each of the shape of ``row``, under the axes ``lead``."""
    shape = (*lead, *row.shape)
    return stack(rows).reshape(shape) if rows else row.detach().new_zeros(shape)


def jacrev(
    func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that computes the Jacobian in reverse mode, one pass for every element of the output.

    Args:
        func: returns a tensor or a nest (tuples, lists, dicts) of them.
        argnums: the arguments (tensors or nests of them) to differentiate by.
        has_aux: whether ``func`` returns (output, aux); the result is then (Jacobian, aux).
        chunk_size: accepted; the passes run one by one.

    Returns:
        A function of the same arguments. Its result is nested as the output, and in every leaf as the
        arguments; a Jacobian has the axes of the output, then those of the argument.

    Example:
        >>> import nbdl
        >>> nbdl.func.jacrev(lambda x: x * x)(nbdl.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, replaced = chosen("jacrev", args, argnums)
        leaves, in_tree = tree.flatten(value)
        pullback = Pullback("jacrev", lambda by: func(*replaced(by), **kwargs), (value,), has_aux)
        blocks = []
        for j, y in enumerate(pullback.outputs):
            nothing: list[Tensor | None] = [None] * len(pullback.outputs)
            rows = [pullback.gradients([*nothing[:j], vector, *nothing[j + 1 :]]) for vector in _basis(y)]
            columns = zip(*rows, strict=True) if rows else [()] * len(leaves)
            jacobians = [_stacked(column, y.shape, x) for column, x in zip(columns, leaves, strict=True)]
            blocks.append(tree.unflatten(jacobians, in_tree))
        jacobian = tree.unflatten(blocks, pullback.out_tree)
        return (jacobian, pullback.aux) if has_aux else jacobian

    return wrapped


def jacfwd(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that computes the Jacobian in forward mode, one pass for every element of the arguments.

    Args:
        func: returns a tensor or a nest (tuples, lists, dicts) of them.
        argnums: the arguments (tensors or nests of them) to differentiate by.
        has_aux: whether ``func`` returns (output, aux); the result is then (Jacobian, aux).
        chunk_size: accepted; the passes run one by one.

    Returns:
        A function of the same arguments with the result of :func:`jacrev`.
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, replaced = chosen("jacfwd", args, argnums)
        leaves, in_tree = tensors("jacfwd", "the arguments", value)

        def by_leaves(*changed: Tensor) -> Any:
            return func(*replaced(tree.unflatten(list(changed), in_tree)), **kwargs)

        zeros = [x.detach().zeros_like() for x in leaves]
        columns: list[list[list[Tensor]]] = []  # by argument leaf, element of it, output leaf
        out, aux = None, None
        for k, x in enumerate(leaves):
            columns.append([])
            for vector in _basis(x):
                out, slope, *rest = jvp(
                    by_leaves, tuple(leaves), (*zeros[:k], vector, *zeros[k + 1 :]), has_aux=has_aux
                )
                aux = rest[0] if rest else None
                columns[k].append(tree.flatten(slope)[0])
        if not any(columns):
            out, aux = without_aux("jacfwd", by_leaves(*leaves), has_aux)
        outputs, out_tree = tree.flatten(out)
        blocks = []
        for j, y in enumerate(outputs):
            jacobians = [
                _with_last_axes([column[j] for column in columns[k]], y, x.shape)
                for k, x in enumerate(leaves)
            ]
            blocks.append(tree.unflatten(jacobians, in_tree))
        jacobian = tree.unflatten(blocks, out_tree)
        return (jacobian, aux) if has_aux else jacobian

    return wrapped


def _with_last_axes(columns: Sequence[Tensor], column: Tensor, last: tuple[int, ...]) -> Tensor:
    """Columns, each of the shape of ``column``, side by side along new last axes."""
    shape = (*column.shape, *last)
    return stack(columns, -1).reshape(shape) if columns else column.detach().new_zeros(shape)


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that computes the Hessian, forward over reverse.

    Args:
        func: returns a tensor, usually a scalar, or a nest of them.
        argnums: the arguments (tensors or nests of them) to differentiate by.

    Returns:
        A function of the same arguments; its result is that of ``jacfwd(jacrev(func))``.

    Example:
        >>> import nbdl
        >>> nbdl.func.hessian(lambda x: (x ** 3).sum())(nbdl.tensor([1.0, 2.0]))
        tensor([[ 6.,  0.],
                [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def hvp(func: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of a scalar function times a vector, forward over reverse, without the Hessian.

    Args:
        func: returns a tensor with one element and no axes.
        primals: the argument, or the tuple of the arguments.
        tangents: the vector, built as ``primals``.

    Returns:
        The product, built as ``primals``.

    Example:
        >>> import nbdl
        >>> x, v = nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 1.0])
        >>> nbdl.func.hvp(lambda x: (x ** 3).sum(), x, v)
        tensor([ 6., 12.])
    """
    if isinstance(primals, tuple):
        gradient = grad(func, tuple(range(len(primals))))
        return jvp(gradient, primals, tangents)[1]
    return jvp(grad(func), (primals,), (tangents,))[1]
