"""What `worker.py` wants of the programs of a framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Unsupported(Exception):
    """A framework cannot do that, or not in this way; the message says why."""


class Program(NamedTuple):
    """What is timed.

    Attributes:
        call: runs it once, and may return before its result is computed.
        value: waits for what `call` returned, and makes it a number.
        steps: how many steps a call takes.
        clock: has `start`, `stop` and `seconds`, where a device times its own work; None for the host's
        clock. facts: what else is known of a step, such as its FLOPs.
    """

    call: Callable[[], Any]
    value: Callable[[Any], float]
    steps: int = 1
    clock: Any = None
    facts: Callable[[], dict[str, Any]] | None = None


# Name of a program -> the function that builds it, of the variant of the contender; or raises Unsupported.
Programs = dict[str, Callable[[str], Program]]
