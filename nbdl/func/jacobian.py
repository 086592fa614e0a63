"""Whole Jacobians and Hessians: vector products with all unit vectors at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd import forward_ad
from nbdl.autograd.tensor import Tensor
from nbdl.func import tree
from nbdl.func.arguments import Argnums, chosen, tensors, without_aux
from nbdl.func.forward import jvp
from nbdl.func.reverse import Pullback, grad
from nbdl.func.vectorize import vmap
from nbdl.ops.creation import eye


def _basis(x: Tensor) -> Tensor:
    """The unit vectors of the space of ``x``, in its shape, along a new first axis."""
    return eye(x.numel(), dtype=x.dtype, device=x.device).reshape((x.numel(), *x.shape))


def jacrev(
    func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that computes the Jacobian in reverse mode, all elements of an output at once.

    Args:
        func: returns a tensor or a nest (tuples, lists, dicts) of them.
        argnums: the arguments (tensors or nests of them) to differentiate by.
        has_aux: whether ``func`` returns (output, aux); the result is then (Jacobian, aux).
        chunk_size: how many vectors to take at a time; None for all.

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
        count = len(pullback.outputs)
        blocks = []
        for j, y in enumerate(pullback.outputs):

            def gradients(vector: Tensor, j: int = j) -> list[Tensor]:
                return pullback.gradients([vector if k == j else None for k in range(count)])

            if y.numel() == 1:
                rows = gradients(y.detach().ones_like())
            else:
                rows = vmap(gradients, chunk_size=chunk_size)(_basis(y))
            jacobians = [row.reshape((*y.shape, *x.shape)) for row, x in zip(rows, leaves, strict=True)]
            blocks.append(tree.unflatten(jacobians, in_tree))
        jacobian = tree.unflatten(blocks, pullback.out_tree)
        return (jacobian, pullback.aux) if has_aux else jacobian

    return wrapped


def jacfwd(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that computes the Jacobian in forward mode, all elements of an argument at once.

    Args:
        func: returns a tensor or a nest (tuples, lists, dicts) of them.
        argnums: the arguments (tensors or nests of them) to differentiate by.
        has_aux: whether ``func`` returns (output, aux); the result is then (Jacobian, aux).
        chunk_size: how many vectors to take at a time; None for all.

    Returns:
        A function of the same arguments with the result of :func:`jacrev`.
    """
    return _jacfwd("jacfwd", func, argnums, has_aux, chunk_size)


def _jacfwd(
    label: str, func: Callable[..., Any], argnums: Argnums, has_aux: bool, chunk_size: int | None
) -> Callable[..., Any]:
    """:func:`jacfwd`, with errors that name ``label``."""

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, replaced = chosen(label, args, argnums)
        leaves, in_tree = tensors(label, "the arguments", value)

        def by_leaves(*changed: Tensor) -> Any:
            return func(*replaced(tree.unflatten(list(changed), in_tree)), **kwargs)

        columns: list[list[Tensor]] = []  # by argument leaf and output leaf
        out, aux = None, None
        for k, x in enumerate(leaves):

            def pushed(vector: Tensor, k: int = k) -> tuple[list[Tensor], Any, Any]:
                return _pushed(label, by_leaves, leaves, k, vector, has_aux)

            if x.numel():
                vectors = vmap(pushed, out_dims=(-1, None, None), chunk_size=chunk_size)
                slopes, out, aux = vectors(_basis(x))
                columns.append(slopes)
            else:
                columns.append([])
        if not any(columns):
            out, aux = without_aux(label, by_leaves(*leaves), has_aux)
        outputs, out_tree = tree.flatten(out)
        blocks = []
        for j, y in enumerate(outputs):
            jacobians = [
                column[j].reshape((*y.shape, *x.shape))
                if column
                else y.detach().new_zeros((*y.shape, *x.shape))
                for column, x in zip(columns, leaves, strict=True)
            ]
            blocks.append(tree.unflatten(jacobians, in_tree))
        jacobian = tree.unflatten(blocks, out_tree)
        return (jacobian, aux) if has_aux else jacobian

    return wrapped


def _pushed(
    label: str, func: Callable[..., Any], leaves: Sequence[Tensor], k: int, vector: Tensor, has_aux: bool
) -> tuple[list[Tensor], Any, Any]:
    """The tangents of the outputs when argument ``k`` moves along ``vector``; the outputs; aux."""
    with forward_ad.dual_level() as level:
        dual = forward_ad.with_checked_tangent(label, leaves[k], vector, level)
        result = func(*leaves[:k], dual, *leaves[k + 1 :])
        out, aux = without_aux(label, result, has_aux)
        pairs = [forward_ad.split_tangent(y, level) for y in tensors(label, "the outputs", out)[0]]
    slopes = [primal.zeros_like() if tangent is None else tangent for primal, tangent in pairs]
    return slopes, *[tree.map_leaves(lambda x: _without_tangent(x, level), nest) for nest in (out, aux)]


def _without_tangent(x: Any, level: int) -> Any:
    return forward_ad.split_tangent(x, level).primal if isinstance(x, Tensor) else x


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
    return _jacfwd("hessian", jacrev(func, argnums), argnums, False, None)


def hvp(func: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian.

    This is forward over reverse mode: the function and its gradient are computed together with their
    tangents, in at most four times the operations of a gradient. The program
    ``examples/benchmarks/curvature_products.py`` measures it beside reverse over reverse mode,
    ``vjp(grad(func), *primals)[1](tangents)``, which serves functions of operations without a ``jvp``.

    Args:
        func: returns a tensor with one element and no axes.
        primals: the argument, or the tuple of the arguments.
        tangents: the vector, built as ``primals``.

    Returns:
        The product, built as ``primals``.

    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.

    Example:
        >>> import nbdl
        >>> x, v = nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 1.0])
        >>> nbdl.func.hvp(lambda x: (x ** 3).sum(), x, v)
        tensor([ 6., 12.])
    """
    if isinstance(primals, tuple):
        return jvp(grad(func, tuple(range(len(primals)))), primals, tangents)[1]
    return jvp(grad(func), (primals,), (tangents,))[1]
