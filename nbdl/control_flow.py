"""Branches and loops as functions, which Python's own statements do as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor

__all__ = ["cond", "while_loop"]


def cond(
    pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Sequence[Any] = ()
) -> Any:
    """``true_fn(*operands)`` if ``pred`` holds, else ``false_fn(*operands)``.

    Args:
        pred: bool, or a tensor with one element.
        true_fn: called if it holds.
        false_fn: called if not.
        operands: their arguments.

    Raises:
        RuntimeError: ``pred`` has not exactly one element, or the others are of the wrong kind.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, 2.0])
        >>> nbdl.cond(x.sum() > 0, nbdl.exp, nbdl.sin, (x,))
        tensor([2.7183, 7.3891])
    """
    if not isinstance(pred, (bool, int, float, Tensor)):
        raise RuntimeError(f"cond: Expected pred to be bool or tensor, but got {pred!r}")
    if isinstance(pred, Tensor) and pred.numel() != 1:
        raise RuntimeError(
            f"cond: Expected pred to be bool or single-element tensor, but got shape {pred.shape}"
        )
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("cond: Expect both branches to be callable")
    if not isinstance(operands, (tuple, list)):
        raise RuntimeError(
            f"cond: Expect operands to be a tuple or a list, but got {type(operands).__name__}"
        )
    return (true_fn if bool(pred) else false_fn)(*operands)


def while_loop(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Sequence[Any]
) -> tuple[Any, ...]:
    """The values after ``body_fn`` was applied to them as long as ``cond_fn`` held.

    Args:
        cond_fn: bool, or a tensor with one element, of the values.
        body_fn: new values of the values, as many as before.
        carried_inputs: the first values.

    Raises:
        RuntimeError: the arguments are of the wrong kind, or ``body_fn`` gives another number of values.

    Example:
        >>> import nbdl
        >>> nbdl.while_loop(lambda x: x.sum() < 10, lambda x: (x * 2,), (nbdl.ones(2),))
        (tensor([8., 8.]),)
    """
    if not callable(cond_fn) or not callable(body_fn):
        raise RuntimeError("while_loop: cond_fn and body_fn should be callable")
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(
            f"while_loop: carried_inputs should be a tuple or a list, got {type(carried_inputs).__name__}"
        )
    values = tuple(carried_inputs)
    while bool(cond_fn(*values)):
        found = body_fn(*values)
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        if len(found) != len(values):
            raise RuntimeError(f"while_loop: body_fn gave {len(found)} values for {len(values)}")
        values = found
    return values
