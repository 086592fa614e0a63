"""Checkpoints: what the backward pass needs is computed again instead of being kept.

Chen et al., Training Deep Nets with Sublinear Memory Cost (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd.modes import enable_grad, is_grad_enabled
from nbdl.autograd.tape import Node, OutputEdge, clock
from nbdl.autograd.tensor import Tensor
from nbdl.random import fork_rng, get_rng_state, set_rng_state

__all__ = ["checkpoint", "checkpoint_sequential"]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, whose intermediate values are not kept for the backward pass.

    The first time that the backward pass wants one of them, the function is called again, with the same
    random numbers. Gradients of any order work; the function must do the same at each call.

    Args:
        function: of tensors and other values; returns a tensor, or a tuple or list with tensors.
        args: its arguments.
        use_reentrant: accepted; both kinds of PyTorch do the same here.
        preserve_rng_state: draw the same random numbers again.
        kwargs: its keyword arguments.

    Raises:
        RuntimeError: in the backward pass, if the second call does other operations than the first.

    Example:
        >>> import nbdl
        >>> from nbdl.utils.checkpoint import checkpoint
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False).sum().backward()
        >>> nbdl.allclose(x.grad, x.exp() * x.exp().cos())
        True
    """
    if not is_grad_enabled():
        return function(*args, **kwargs)
    state = get_rng_state() if preserve_rng_state else None
    start = next(clock)
    result = function(*args, **kwargs)
    nodes = _nodes(result, start)

    def refill() -> None:
        start = next(clock)
        with fork_rng(), enable_grad():
            if state is not None:
                set_rng_state(state)
            again = _nodes(function(*args, **kwargs), start)
        if [node.name() for node in again] != [node.name() for node in nodes]:
            raise RuntimeError(
                "checkpoint: the function did other operations when it was called again: "
                f"{len(nodes)} at first, then {len(again)}"
            )
        for old, new in zip(nodes, again, strict=True):
            old.saved, old.saved_outputs, old.output_storage = (
                new.saved,
                new.saved_outputs,
                new.output_storage,
            )
            old.refill, old.restored = None, new.time

    for node in nodes:
        if node.saved or node.saved_outputs:
            node.saved = node.saved_outputs = node.output_storage = None
            node.refill = refill
    return result


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """A chain of functions in segments, each but the last one a :func:`checkpoint`.

    Args:
        functions: ``Sequential``, or a list of functions.
        segments: how many.
        input: of the first function.
        use_reentrant: see :func:`checkpoint`.
        kwargs: ``preserve_rng_state``, see :func:`checkpoint`.

    Raises:
        TypeError: another keyword argument.
        ValueError: ``segments`` is not between 1 and the number of functions.
    """
    unknown = sorted(set(kwargs) - {"preserve_rng_state"})
    if unknown:
        raise TypeError(f"checkpoint_sequential: unexpected keyword arguments {', '.join(unknown)}")
    chain = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not 1 <= segments <= len(chain):
        raise ValueError(f"checkpoint_sequential: segments must be in 1 ... {len(chain)}, got {segments}")
    size = len(chain) // segments
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(
            _composed(chain[start : start + size]), input, use_reentrant=use_reentrant, **kwargs
        )
    return _composed(chain[size * (segments - 1) :])(input)


def _composed(functions: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def composition(x: Any) -> Any:
        for function in functions:
            x = function(x)
        return x

    return composition


def _tensors(nest: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts."""
    if isinstance(nest, Tensor):
        return [nest]
    if isinstance(nest, dict):
        nest = list(nest.values())
    return [x for entry in nest for x in _tensors(entry)] if isinstance(nest, (tuple, list)) else []


def _nodes(result: Any, start: int) -> list[Node]:
    """The nodes behind the results that were recorded after ``start``, in the order of the walk."""
    found: dict[int, Node] = {}
    waiting = [tensor.grad_fn for tensor in _tensors(result)]
    while waiting:
        node = waiting.pop()
        if node is None or node.time < start or id(node) in found:
            continue
        found[id(node)] = node
        for edge in node.edges:
            below = edge.node if type(edge) is OutputEdge else edge
            waiting.append(below if type(below) is Node else None)
    return list(found.values())
