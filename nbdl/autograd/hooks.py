"""Hooks by number, the handles that remove them, and what of a tensor takes hooks."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbdl.autograd.rebinding import rebindings

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node, OutputEdge
    from nbdl.autograd.tensor import Tensor

_LAST = 1 << 62  # above all numbers of hooks

BEFORE, AFTER = -1, -2  # in the place of an output's number: hooks of the whole node


class Hooks(dict):
    """Hooks by number; a dict that can be referred to weakly."""

    __slots__ = ("__weakref__", "_next")

    def add(self, hook: Any, last: bool = False, first: bool = False) -> Handle:
        """Append a hook; one that is to be the last or first keeps its place when others are appended."""
        rebindings.count += 1
        number = getattr(self, "_next", 0)
        self._next = number + 1
        key = number + _LAST if last else -number - 1 if first else number
        self[key] = hook
        return Handle(self, key)

    def in_order(self) -> list[Any]:
        """The hooks in the order in which they are called."""
        return [self[key] for key in sorted(self)]

    def before(self, gradients: list[Any]) -> None:
        """Let hooks change the gradients of a node's outputs: those of one output, then of the node."""
        hooks = self.in_order()
        for index, hook in hooks:
            if index >= 0 and gradients[index] is not None:
                gradients[index] = replaced(hook, gradients[index])
        for index, hook in hooks:
            if index == BEFORE:
                gradients[:] = hook(tuple(gradients)) or gradients

    def after(self, results: Any, gradients: list[Any]) -> Any:
        """What the hooks of a node leave of the gradients of its operands."""
        for index, hook in self.in_order():
            if index == AFTER:
                results = tuple(results)
                results = hook(results, tuple(gradients)) or results
        return results


def replaced(hook: Any, gradient: Any) -> Any:
    """What a hook of a tensor leaves of its gradient.

    Raises:
        TypeError: it returned neither a tensor nor None.
        RuntimeError: it returned a tensor of another shape or dtype.
    """
    found = hook(gradient)
    if found is None:
        return gradient
    name = getattr(hook, "__name__", type(hook).__name__)
    before, after = gradient.array, getattr(found, "array", None)
    if after is None:
        raise TypeError(f"hook {name!r} returned {type(found).__name__}, expected a tensor or None")
    if after.shape != before.shape:
        raise RuntimeError(
            f"hook {name!r} has changed the size of value: from {tuple(before.shape)} to {tuple(after.shape)}"
        )
    if after.dtype != before.dtype:
        raise RuntimeError(
            f"hook {name!r} has changed the type of value: from {before.dtype} to {after.dtype}"
        )
    return found


class Handle:
    """Removes a hook."""

    def __init__(self, hooks: Hooks, key: int):
        self._hooks, self._key = weakref.ref(hooks), key

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        rebindings.count += 1
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self._key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()


class Handles(Handle):
    """Removes several hooks."""

    def __init__(self, handles: list[Handle]):
        self._handles = handles

    def remove(self) -> None:
        """Take the hooks away; a second call does nothing."""
        for handle in self._handles:
            handle.remove()


class Hookable:
    """The part of a tensor that calls functions when its gradient is ready."""

    hooks: Hooks | None = None
    post_accumulate_hooks: Hooks | None = None
    _retained: bool = False
    if TYPE_CHECKING:
        grad: Any
        requires_grad: bool
        edge: Node | OutputEdge | None
        grad_fn: Any
        output_nr: Any

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Handle:
        """Call ``hook(gradient)`` whenever a gradient of this tensor is ready; what it returns replaces it.

        Raises:
            RuntimeError: the tensor needs no gradient.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "register_hook: cannot register a hook on a tensor that doesn't require gradient"
            )
        node = self.grad_fn
        if node is None:
            if self.hooks is None:
                self.hooks = Hooks()
            return self.hooks.add(hook)
        return node.add_hook(self.output_nr, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Handle:
        """Call ``hook(tensor)`` after a gradient was added to ``grad`` of this leaf.

        Raises:
            RuntimeError: the tensor is no leaf.
        """
        if self.edge is not None:
            raise RuntimeError(
                "register_post_accumulate_grad_hook: post accumulate grad hooks need a leaf tensor"
            )
        if self.post_accumulate_hooks is None:
            self.post_accumulate_hooks = Hooks()
        return self.post_accumulate_hooks.add(hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``grad``, as its hooks leave it."""
        if self.edge is None or self._retained:
            return
        self._retained = True
        owner = weakref.ref(self)

        def keep(gradient: Tensor) -> None:
            tensor = owner()
            if tensor is not None:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient

        node = self.grad_fn
        assert node is not None
        node.add_hook(self.output_nr, keep, last=True)

    @property
    def retains_grad(self) -> bool:
        """Whether :meth:`retain_grad` was called."""
        return self._retained
