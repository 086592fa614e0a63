"""Arguments that several methods check alike. Errors name function, argument, what was given and allowed."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any


def number(
    caller: str,
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A real number, within limits.

    Args:
        caller: the name that errors begin with.
        name: of the argument.
        value: what was given: a number, or a tensor with one element.
        least: the least one allowed.
        above: which it must exceed.
        below: which it must not reach.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN or outside of the limits.
    """
    texts = {"of at least": least, "above": above, "below": below}
    limits = " and ".join(f"{text} {limit:g}" for text, limit in texts.items() if limit is not None)
    message = f"{caller}: {name} must be a number{' ' if limits else ''}{limits}, got {value!r}"
    real = real_of(value)
    if real is None:
        raise TypeError(message)
    if (
        real != real
        or (least is not None and real < least)
        or (above is not None and real <= above)
        or (below is not None and real >= below)
    ):
        raise ValueError(message)
    return real


def real_of(value: Any) -> float | None:
    """A number, also one in a tensor, as a float; None if it is none."""
    try:
        return None if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, RuntimeError):  # the last from a tensor with several elements
        return None


def count(caller: str, name: str, value: Any, least: int = 0) -> int:
    """A whole number of at least ``least``.

    Raises:
        TypeError: it is no integer.
        ValueError: it is smaller.
    """
    message = f"{caller}: {name} must be an integer of at least {least}, got {value!r}"
    if not isinstance(value, numbers.Integral):
        raise TypeError(message)
    if value < least:
        raise ValueError(message)
    return int(value)


def limit(caller: str, name: str, value: Any, least: int = 0) -> float:
    """A whole number of at least ``least``, or infinity where there is no limit.

    Raises:
        TypeError: it is neither.
        ValueError: it is smaller.
    """
    return value if isinstance(value, float) and value == float("inf") else count(caller, name, value, least)


def function(caller: str, name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{caller}: {name} must be a function, got {value!r}")


def one_of(caller: str, name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise ValueError unless ``value`` is one of the names that are allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(allowed)}, got {value!r}")
