"""Python's garbage collector, kept from work that makes many objects and no garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused", "loading"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps the collector from walking the many objects of a compilation that are all in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Imports without the collector, which else walks all that the modules bring, several times over.

    What is there at the end counts as old: only a full collection looks at it. The collector itself moves
    objects to the old ones by such walks; to freeze and to unfreeze them does so at once.
    """
    with collector_paused():
        yield
        if gc.get_freeze_count() == 0:  # else the program has frozen objects of its own
            gc.freeze()
            gc.unfreeze()
