"""Forward-mode derivatives of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd import forward_ad
from nbdl.autograd.tensor import Tensor
from nbdl.func import tree
from nbdl.func.arguments import matching, tensors, without_aux


def jvp(
    func: Callable[..., Any],
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """The value of a function, and its Jacobian-vector product.

    Args:
        func: takes ``primals``, returns a tensor or a nest (tuples, lists, dicts) of them.
        primals: the tuple of the arguments, tensors or nests of them.
        tangents: built as ``primals``: the direction.
        strict: refuse an output that does not depend on the arguments, instead of giving zeros.
        has_aux: whether ``func`` returns (output, aux); ``aux`` is not differentiated.

    Returns:
        The output and its tangent; then ``aux`` if ``has_aux``.

    Raises:
        TypeError: an argument or output is no tensor.
        RuntimeError: ``primals`` or ``tangents`` is no tuple, they do not match, a tensor is not floating, or
            ``strict`` and an output is constant.

    Example:
        >>> import nbdl
        >>> x, v = nbdl.tensor([0.0, 1.0]), nbdl.tensor([1.0, 0.0])
        >>> nbdl.func.jvp(nbdl.exp, (x,), (v,))
        (tensor([1.0000, 2.7183]), tensor([1., 0.]))
    """
    for name, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, tuple):
            raise RuntimeError(
                f"jvp: expected {name} to be a tuple of arguments of the function, got {type(value).__name__}"
            )
    leaves, in_tree = tensors("jvp", "the arguments", primals)
    directions = matching("jvp", "tangents", tangents, leaves, in_tree)
    with forward_ad.dual_level() as level:
        duals = [
            forward_ad.with_checked_tangent("jvp", x, t, level)
            for x, t in zip(leaves, directions, strict=True)
        ]
        out, aux = without_aux("jvp", func(*tree.unflatten(duals, in_tree)), has_aux)
        outputs, out_tree = tensors("jvp", "the outputs", out)
        pairs = [forward_ad.split_tangent(y, level) for y in outputs]
    if strict and any(pair.tangent is None for pair in pairs):
        raise RuntimeError("jvp: with strict=True every output must depend on the arguments")
    value = tree.unflatten([pair.primal for pair in pairs], out_tree)
    slope = tree.unflatten(
        [pair.primal.detach().zeros_like() if pair.tangent is None else pair.tangent for pair in pairs],
        out_tree,
    )
    if not has_aux:
        return value, slope
    return (
        value,
        slope,
        tree.map_leaves(
            lambda x: forward_ad.split_tangent(x, level).primal if isinstance(x, Tensor) else x, aux
        ),
    )
