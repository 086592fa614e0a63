"""Hooks by number, and the handles that remove them."""

from __future__ import annotations

import weakref
from typing import Any

from nbdl.autograd.rebinding import rebindings

_LAST = 1 << 62  # above all numbers of hooks


class Hooks(dict):
    """Hooks by number; a dict that can be referred to weakly."""

    __slots__ = ("__weakref__", "_next")

    def add(self, hook: Any, last: bool = False) -> Handle:
        """Append a hook; one that is to be the last comes after those that are appended later."""
        rebindings.count += 1
        number = getattr(self, "_next", 0)
        self._next = number + 1
        key = number + _LAST if last else number
        self[key] = hook
        return Handle(self, key)

    def in_order(self) -> list[Any]:
        """The hooks in the order in which they are called."""
        return [self[key] for key in sorted(self)]


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
