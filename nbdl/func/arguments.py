"""What the derivative functions share: which arguments are differentiated, checks of what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.func import tree

Argnums = int | tuple[int, ...]


def chosen(
    caller: str, args: Sequence[Any], argnums: Argnums
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The arguments that are differentiated, and how to call the function with others in their places.

    Returns:
        The argument, or the tuple of them if ``argnums`` is one; and a function from such a value to all
        arguments.

    Raises:
        TypeError: ``argnums`` is neither an integer nor a tuple of them.
        RuntimeError: it is empty, out of range, or names an argument twice.
    """
    single = isinstance(argnums, int)
    if not single and not (isinstance(argnums, tuple) and all(isinstance(k, int) for k in argnums)):
        raise TypeError(f"{caller}: argnums must be an int or a tuple of ints, got {argnums!r}")
    given: tuple[int, ...] = (argnums,) if isinstance(argnums, int) else argnums
    if not given:
        raise RuntimeError(f"{caller}: argnums must not be empty")
    for k in given:
        if not -len(args) <= k < len(args):
            raise RuntimeError(
                f"{caller}: argnums {argnums} out of range for a call with {len(args)} positional arguments"
            )
    positions = [k % len(args) for k in given]
    if len(set(positions)) != len(positions):
        raise RuntimeError(f"{caller}: argnums must be unique, got {argnums}")

    def replaced(value: Any) -> tuple[Any, ...]:
        values = list(args)
        for k, v in zip(positions, (value,) if single else value, strict=True):
            values[k] = v
        return tuple(values)

    return args[positions[0]] if single else tuple(args[k] for k in positions), replaced


def tensors(caller: str, what: str, nest: Any) -> tuple[list[Tensor], tree.Tree]:
    """The leaves of a nest that must hold floating tensors only.

    Raises:
        TypeError: a leaf is no tensor.
        RuntimeError: a tensor is not floating.
    """
    leaves, shape = tree.flatten(nest)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"{caller}: {what} must be tensors, or tuples, lists and dicts of them; got "
                f"{type(leaf).__name__}"
            )
        if not leaf.is_floating_point():
            raise RuntimeError(f"{caller}: {what} must be floating point tensors, got {leaf.dtype}")
    return leaves, shape


def matching(caller: str, what: str, nest: Any, leaves: Sequence[Tensor], shape: tree.Tree) -> list[Tensor]:
    """The leaves of ``nest``, which must be built and shaped as ``leaves`` are.

    Raises:
        RuntimeError: the nests, or the shapes of two tensors, differ.
    """
    found, found_shape = tree.flatten(nest)
    if found_shape != shape:
        raise RuntimeError(
            f"{caller}: expected {what} of the same structure: {_describe(shape)}, got "
            f"{_describe(found_shape)}"
        )
    for k, (vector, leaf) in enumerate(zip(found, leaves, strict=True)):
        if not isinstance(vector, Tensor):
            raise TypeError(f"{caller}: {what} must be tensors, got {type(vector).__name__}")
        if vector.shape != leaf.shape:
            raise RuntimeError(
                f"{caller}: {what} must have the shapes of what they belong to: number {k} has shape "
                f"{tuple(vector.shape)}, expected {tuple(leaf.shape)}"
            )
    return [
        vector if vector.dtype == leaf.dtype else vector.to(leaf.dtype)
        for vector, leaf in zip(found, leaves, strict=True)
    ]


def _describe(shape: tree.Tree) -> str:
    if shape.kind is None:
        return "a tensor"
    return f"{shape.kind.__name__}({', '.join(map(_describe, shape.children))})"


def without_aux(caller: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    """A function's result as (output, aux).

    Raises:
        RuntimeError: ``has_aux`` and it is no pair.
    """
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(
            f"{caller}: with has_aux=True the function must return a tuple (output, aux), got "
            f"{type(result).__name__}"
        )
    return result
