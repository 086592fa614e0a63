"""Reverse-mode derivatives of functions: vjp, grad, linearize.

Every call differentiates by its own copies of the arguments, and what it returns is on the tape of the caller
only as far as it depends on tensors of the caller that require a gradient. So calls nest in any way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nbdl.autograd import engine
from nbdl.autograd.batching import lifted, untaped
from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tape import OutputEdge
from nbdl.autograd.tensor import Tensor
from nbdl.func import tree
from nbdl.func.arguments import Argnums, chosen, matching, tensors, without_aux
from nbdl.ops.views import Reshape


class Pullback:
    """One evaluation of a function, ready for vector-Jacobian products.

    Attributes:
        out: what the function returned, as the caller may see it.
        aux: what it returned beside that.
        outputs: the leaves of ``out``, on the tape.
        out_tree: how they are nested.
        shared: whether derivatives are of interest to the tape of the caller.
        recorded: whether they are of interest to any tape.
    """

    def __init__(self, caller: str, func: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool):
        self._caller = caller
        leaves, self._in_tree = tensors(caller, "the arguments", primals)
        outer = mode.grad
        self._watched = [_watch(leaf, outer) for leaf in leaves]
        with recording(True):
            out, aux = without_aux(caller, func(*tree.unflatten(self._watched, self._in_tree)), has_aux)
        self.outputs, self.out_tree = tensors(caller, "the outputs", out)
        self.shared = outer and (
            any(leaf.requires_grad for leaf in leaves) or _others(self.outputs, self._watched)
        )
        self.recorded = self.shared or (outer and any(map(_has_outer_history, self.outputs)))
        self.out = out if self.shared else tree.map_leaves(_released, out)
        self.aux = aux if self.shared else tree.map_leaves(_released, aux)

    def gradients(self, cotangents: Sequence[Tensor | None]) -> list[Tensor]:
        """Gradients of all leaves of the arguments; ``cotangents`` has one entry an output, None for zero."""
        used = [
            (y, v) for y, v in zip(self.outputs, cotangents, strict=True) if v is not None and y.requires_grad
        ]
        if not used:
            return [_released(x).zeros_like() for x in self._watched]
        ys, vectors = zip(*used, strict=True)
        create = mode.grad and (
            self.recorded or any(v.requires_grad or _has_outer_history(v) for v in vectors)
        )
        return list(
            engine.grad(
                ys, self._watched, vectors, retain_graph=True, create_graph=create, materialize_grads=True
            )
        )

    def __call__(self, cotangents: Any) -> tuple[Any, ...]:
        """``cotangents``, nested as the output, times the Jacobian; nested as the arguments."""
        vectors = matching(self._caller, "cotangents", cotangents, self.outputs, self.out_tree)
        return tree.unflatten(self.gradients(vectors), self._in_tree)


def _watch(x: Tensor, outer: bool) -> Tensor:
    """The value as a tensor of its own to differentiate by, connected to ``x`` if the caller records it."""
    if outer and x.requires_grad:
        with recording(True):
            return Reshape.of(x.array.shape)(x)
    if mode.batch_levels:  # what is watched inside a vmap is a tensor of that level
        x = lifted(x, mode.batch_levels[-1])
    twin = untaped(x)
    twin.requires_grad = True
    return twin


def _released(x: Any) -> Any:
    """A tensor without its history; tangents stay."""
    if not isinstance(x, Tensor) or not x.requires_grad:
        return x
    return untaped(x)


def _has_outer_history(x: Tensor) -> bool:
    """Whether the tape that records outside a vmap knows what ``x`` stands for."""
    while x.batch is not None:
        x = x.batch.value
        if x.requires_grad:
            return True
    return False


def _others(outputs: Sequence[Tensor], watched: Sequence[Tensor]) -> bool:
    """Whether ``outputs`` depend on leaves that are not ``watched``."""
    own = {id(x) for x in watched}
    seen: set[Any] = set()
    stack: list[Any] = [y.edge or y for y in outputs if y.requires_grad]
    while stack:
        edge = stack.pop()
        node = edge.node if type(edge) is OutputEdge else edge
        if isinstance(node, Tensor):
            if id(node) not in own:
                return True
        elif node not in seen:
            seen.add(node)
            stack.extend(edge for edge in node.edges if edge is not None)
    return False


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of a function, and its vector-Jacobian product.

    Args:
        func: takes ``primals``, returns a tensor or a nest (tuples, lists, dicts) of them.
        primals: the arguments, tensors or nests of them.
        has_aux: whether ``func`` returns (output, aux); ``aux`` is not differentiated.

    Returns:
        The output, and a function that takes a nest like it and returns the tuple of the gradients of
        ``primals``; then ``aux`` if ``has_aux``.

    Raises:
        TypeError: an argument or output is no tensor.
        RuntimeError: one is not floating; or, from the second function, the nest or a shape does not match.

    Example:
        >>> import nbdl
        >>> y, pullback = nbdl.func.vjp(nbdl.exp, nbdl.tensor([0.0, 1.0]))
        >>> pullback(nbdl.tensor([1.0, 0.0]))
        (tensor([1., 0.]),)
    """
    pullback = Pullback("vjp", func, primals, has_aux)
    return (pullback.out, pullback, pullback.aux) if has_aux else (pullback.out, pullback)


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that computes the gradient of a scalar function, and its value.

    Args:
        func: returns a tensor with one element and no axes.
        argnums: the arguments (tensors or nests of them) to differentiate by.
        has_aux: whether ``func`` returns (output, aux); the value is then that pair.

    Returns:
        A function of the same arguments that returns (gradient, value); the gradient is a tuple if
        ``argnums`` is one.
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, replaced = chosen("grad", args, argnums)

        def scalar_func(by: Any) -> Any:
            out, aux = without_aux("grad", func(*replaced(by), **kwargs), has_aux)
            if not isinstance(out, Tensor):
                raise RuntimeError(f"grad: the function must return a tensor, got {type(out).__name__}")
            if out.dim() != 0:
                raise RuntimeError(
                    f"grad: the function must return a scalar tensor, got shape {tuple(out.shape)}; use "
                    f"vjp or jacrev instead"
                )
            return (out, aux) if has_aux else out

        pullback = Pullback("grad", scalar_func, (value,), has_aux)
        (gradient,) = pullback(_released(pullback.outputs[0]).detach().ones_like())
        return gradient, (pullback.out, pullback.aux) if has_aux else pullback.out

    return wrapped


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the gradient of a scalar function.

    Args:
        func: returns a tensor with one element and no axes.
        argnums: the arguments (tensors or nests of them) to differentiate by.
        has_aux: whether ``func`` returns (output, aux); the result is then (gradient, aux).

    Returns:
        A function of the same arguments; its result is a tuple if ``argnums`` is one.

    Example:
        >>> import nbdl
        >>> second = nbdl.func.grad(nbdl.func.grad(nbdl.sin))
        >>> second(nbdl.tensor(1.0))
        tensor(-0.8415)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of a function, and its derivative as a linear function that does not evaluate ``func`` again.

    The vector-Jacobian product is linear in its vector, and its own derivative by that vector is the
    Jacobian-vector product.

    Args:
        func: takes ``primals``, returns a tensor or a nest of them.
        primals: the arguments, tensors or nests of them.

    Returns:
        The output, and a function of tangents, one a primal, that returns the tangent of the output.
    """
    pullback = Pullback("linearize", func, primals, False)
    vectors = [_released(y).detach().zeros_like(requires_grad=True) for y in pullback.outputs]
    with recording(True):
        transposed = pullback.gradients(vectors)
    leaves, in_tree = tree.flatten(primals)

    def pushforward(*tangents: Any) -> Any:
        given = matching("linearize", "tangents", tangents, leaves, in_tree)
        used = [(g, t) for g, t in zip(transposed, given, strict=True) if g.requires_grad]
        if not used:
            return tree.unflatten([v.detach() for v in vectors], pullback.out_tree)
        gs, ts = zip(*used, strict=True)
        create = mode.grad and (
            pullback.recorded or any(t.requires_grad or _has_outer_history(t) for t in ts)
        )
        results = engine.grad(gs, vectors, ts, retain_graph=True, create_graph=create, materialize_grads=True)
        return tree.unflatten(list(results), pullback.out_tree)

    return pullback.out, pushforward
