"""Calling a module, with hooks around forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbdl.autograd.hooks import Handle, Hooks
from nbdl.autograd.tape import wrap
from nbdl.autograd.tensor import Tensor
from nbdl.ops.primitive import NOTHING, Primitive

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

Gradients = tuple["Tensor | None", ...]


class _Hook(NamedTuple):
    function: Callable[..., Any]
    with_kwargs: bool = False
    always: bool = False


class ModuleHooks:
    """The hooks of one module; it has none of these until one is registered."""

    def __init__(self) -> None:
        self.forward_pre, self.forward, self.backward_pre, self.backward = Hooks(), Hooks(), Hooks(), Hooks()

    def functions(self) -> tuple[tuple[_Hook, ...], ...]:
        """All hooks, by kind, in their order."""
        return tuple([tuple(hooks.values()) for hooks in vars(self).values()])


class Hooked:
    """The part of a module that is called, and that hooks are registered at."""

    _hooks: ModuleHooks | None = None
    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward``, with the hooks around it."""
        if self._hooks is None:
            return self.forward(*args, **kwargs) if kwargs else self.forward(*args)
        return _call_with_hooks(self, self._hooks, args, kwargs)

    def _register(self, kind: str, hook: _Hook, prepend: bool) -> Handle:
        if self._hooks is None:
            self._hooks = ModuleHooks()
        hooks: Hooks = getattr(self._hooks, kind)
        earlier = dict(hooks) if prepend else {}
        handle = hooks.add(hook)
        for key, value in earlier.items():  # dicts keep the order of insertion
            del hooks[key]
            hooks[key] = value
        return handle

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call ``hook(module, args)`` before forward; what it returns replaces the positional arguments.

        Args:
            hook: the function; with ``with_kwargs`` it is called as ``hook(module, args, kwargs)`` and
                returns None or ``(args, kwargs)``.
            prepend: call it before the hooks that exist.
            with_kwargs: hand the keyword arguments to it too.
        """
        return self._register("forward_pre", _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> Handle:
        """Call ``hook(module, args, output)`` after forward; what it returns replaces the output.

        Args:
            hook: the function; with ``with_kwargs`` it is called as ``hook(module, args, kwargs, output)``.
            prepend: call it before the hooks that exist.
            with_kwargs: hand the keyword arguments to it too.
            always_call: call it, with None as output, even if forward raised.
        """
        return self._register("forward", _Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are ready.

        A tuple that the hook returns replaces them.
        """
        return self._register("backward_pre", _Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the arguments are ready.

        The gradients of the positional arguments are a tuple, as those of the outputs, with None for what is
        no tensor or has none. A tuple that the hook returns replaces ``grad_input``.
        """
        return self._register("backward", _Hook(hook), prepend)


def _call_with_hooks(module: Any, hooks: ModuleHooks, args: tuple, kwargs: dict[str, Any]) -> Any:
    result = None
    called: set[int] = set()
    try:
        for hook in list(hooks.forward_pre.values()):
            args, kwargs = _call_forward_pre_hook(module, hook, args, kwargs)
        passage = _Passage(module, hooks) if hooks.backward or hooks.backward_pre else None
        if passage is not None:
            args = passage.enter(args)
        result = module.forward(*args, **kwargs)
        for key, hook in list(hooks.forward.items()):
            called.add(key)
            replaced = _call_forward_hook(module, hook, args, kwargs, result)
            result = result if replaced is None else replaced
        return result if passage is None else passage.leave(result)
    except Exception:
        for key, hook in list(hooks.forward.items()):
            if hook.always and key not in called:
                _call_forward_hook(module, hook, args, kwargs, result)
        raise


def _call_forward_pre_hook(
    module: Any, hook: _Hook, args: tuple, kwargs: dict[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    if not hook.with_kwargs:
        replaced = hook.function(module, args)
        if replaced is None:
            return args, kwargs
        return (replaced if isinstance(replaced, tuple) else (replaced,)), kwargs
    replaced = hook.function(module, args, kwargs)
    if replaced is None:
        return args, kwargs
    if not (isinstance(replaced, tuple) and len(replaced) == 2):
        raise RuntimeError(
            f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {replaced}."
        )
    return replaced


def _call_forward_hook(module: Any, hook: _Hook, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
    return (
        hook.function(module, args, kwargs, result)
        if hook.with_kwargs
        else hook.function(module, args, result)
    )


class Boundary(Primitive):
    """The identity on several tensors; a callback sees their gradients together and may replace them."""

    name = "module_boundary"
    saved = NOTHING

    def __init__(self, on_gradients: Callable[[Gradients], Sequence[Tensor | None]]):
        super().__init__()
        self.on_gradients = on_gradients

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Record; nothing is computed, the results share memory with the operands."""
        outputs = wrap(self, inputs, tuple([tensor.batch or tensor.array for tensor in inputs]))
        for tensor, out in zip(inputs, outputs, strict=True):
            out.storage = tensor.shared_storage()
        return outputs

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """What the callback makes of the gradients."""
        return self.on_gradients(gradients)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangents themselves."""
        return tangents


class _Passage:
    """One call of a module with backward hooks: a boundary around the arguments and one around the outputs.

    The backward pass reaches the outputs' boundary first, then the arguments'.
    """

    def __init__(self, module: Any, hooks: ModuleHooks):
        self._module, self._hooks = module, hooks
        self._n_args = 0
        self._entered: list[int] = []
        self._n_outputs = 0
        self._left: list[int] = []
        self._grad_output: Gradients = ()

    def enter(self, args: tuple) -> tuple:
        """The arguments behind their boundary."""
        self._n_args = len(args)
        self._entered = [k for k, arg in enumerate(args) if isinstance(arg, Tensor) and arg.requires_grad]
        return _replaced(args, self._entered, Boundary(self._on_grad_input)) if self._entered else args

    def leave(self, result: Any) -> Any:
        """The outputs behind their boundary; only tensors, alone or in a tuple or list, have one."""
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        self._n_outputs = len(outputs)
        self._left = [k for k, out in enumerate(outputs) if isinstance(out, Tensor) and out.requires_grad]
        if not self._left:
            return result
        wrapped = _replaced(tuple(outputs), self._left, Boundary(self._on_grad_output))
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            return type(result)(*wrapped)
        return type(result)(wrapped) if isinstance(result, (tuple, list)) else wrapped[0]

    def _on_grad_output(self, gradients: Gradients) -> Sequence[Tensor | None]:
        grad_output = _spread(gradients, self._left, self._n_outputs)
        for hook in list(self._hooks.backward_pre.values()):
            replaced = hook.function(self._module, grad_output)
            if replaced is not None:
                grad_output = _checked("full backward pre-hook", replaced, self._n_outputs)
        if self._entered:
            self._grad_output = grad_output
        else:
            none: Gradients = (None,) * self._n_args
            for hook in list(self._hooks.backward.values()):
                replaced = hook.function(self._module, none, grad_output)
                if replaced is not None and any(gradient is not None for gradient in replaced):
                    raise RuntimeError(
                        "full backward hook: the hook returned gradients, but no argument of the module "
                        "requires grad"
                    )
        return [grad_output[k] for k in self._left]

    def _on_grad_input(self, gradients: Gradients) -> Sequence[Tensor | None]:
        grad_input = _spread(gradients, self._entered, self._n_args)
        # Not kept: under create_graph these tensors lead back to this node.
        grad_output, self._grad_output = self._grad_output, ()
        for hook in list(self._hooks.backward.values()):
            replaced = hook.function(self._module, grad_input, grad_output)
            if replaced is not None:
                grad_input = _checked("full backward hook", replaced, self._n_args)
        return [grad_input[k] for k in self._entered]


def _replaced(values: tuple, positions: list[int], boundary: Boundary) -> tuple:
    result = list(values)
    for k, tensor in zip(positions, boundary(*[values[k] for k in positions]), strict=True):
        result[k] = tensor
    return tuple(result)


def _spread(gradients: Gradients, positions: list[int], size: int) -> Gradients:
    result: list[Tensor | None] = [None] * size
    for k, gradient in zip(positions, gradients, strict=True):
        result[k] = gradient
    return tuple(result)


def _checked(label: str, replaced: Any, count: int) -> Gradients:
    gradients = replaced if isinstance(replaced, tuple) else (replaced,)
    if len(gradients) != count:
        raise RuntimeError(f"{label}: the hook returned {len(gradients)} gradients, but {count} are needed")
    return gradients
