"""Hooks of optimizers: around steps, and around what is saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.hooks import Handle, Hooks


class OptimizerHooks:
    """What is called before and after ``step``, ``state_dict`` and ``load_state_dict``."""

    def __init__(self) -> None:
        self._step_pre_hooks, self._step_post_hooks = Hooks(), Hooks()
        self._save_pre_hooks, self._save_post_hooks = Hooks(), Hooks()
        self._load_pre_hooks, self._load_post_hooks = Hooks(), Hooks()

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(optimizer, args, kwargs)`` before each step.

        ``(args, kwargs)`` that the hook returns replace those of ``step``.
        """
        return self._step_pre_hooks.add(hook)

    def register_step_post_hook(self, hook: Callable[..., None]) -> Handle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return self._step_post_hooks.add(hook)

    def hook_functions(self) -> tuple[tuple[Callable[..., Any], ...], ...]:
        """What is called before a step, and what after it."""
        return tuple(self._step_pre_hooks.values()), tuple(self._step_post_hooks.values())

    def register_state_dict_pre_hook(self, hook: Callable[[Any], None], prepend: bool = False) -> Handle:
        """Call ``hook(optimizer)`` before its state is gathered; with ``prepend`` before the other hooks."""
        return self._save_pre_hooks.add(hook, first=prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[[Any, dict[str, Any]], dict[str, Any] | None], prepend: bool = False
    ) -> Handle:
        """Call ``hook(optimizer, state_dict)`` afterwards; a state that it returns is taken instead."""
        return self._save_post_hooks.add(hook, first=prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[[Any, dict[str, Any]], dict[str, Any] | None], prepend: bool = False
    ) -> Handle:
        """Call ``hook(optimizer, state_dict)`` before loading; a state that it returns is taken instead."""
        return self._load_pre_hooks.add(hook, first=prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[[Any], None], prepend: bool = False
    ) -> Handle:
        """Call ``hook(optimizer)`` when its state was loaded."""
        return self._load_post_hooks.add(hook, first=prepend)

    def _replaced(self, hooks: Hooks, state: Any) -> Any:
        """A state as the hooks leave it, which may change it or return another one."""
        for hook in hooks.in_order():
            replaced = hook(self, state)
            state = state if replaced is None else replaced
        return state
