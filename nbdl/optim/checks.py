"""Arguments that several methods check alike. Errors name function, argument, what was given and allowed."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from nbdl.autograd.tensor import Tensor


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


def check_kinds(kind: Any, given: Mapping[str, Any]) -> None:
    """Check that numbers, and tuples of numbers, stand where the defaults of a constructor are such.

    Args:
        kind: the class.
        given: arguments by name; tensors are left to the class, and so are all ranges.

    Raises:
        TypeError: something else stands there.
        ValueError: a tuple has another length.
    """
    for name, default in _numeric_defaults(kind):
        if name in given:
            _check_kind(kind.__name__, name, given[name], default)


@functools.cache
def _numeric_defaults(kind: type) -> list[tuple[str, Any]]:
    """The parameters of a constructor whose default is a number or a tuple of numbers, with the default."""

    def is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    found = [(name, p.default) for name, p in inspect.signature(kind).parameters.items()]
    return [
        (name, default)
        for name, default in found
        if is_number(default) or (isinstance(default, tuple) and any(map(is_number, default)))
    ]


def _check_kind(label: str, name: str, value: Any, default: Any) -> None:
    if not isinstance(default, tuple):
        if not isinstance(value, Tensor) and real_of(value) is None:
            raise TypeError(f"{label}: {name} must be a number, got {value!r}")
        return
    is_sequence = isinstance(value, (tuple, list))
    if not is_sequence or len(value) != len(default):
        error = ValueError if is_sequence else TypeError
        raise error(f"{label}: {name} must be {len(default)} numbers, got {value!r}")
    for k, (entry, usual) in enumerate(zip(value, default, strict=True)):
        if real_of(entry) is None and not (entry is None and usual is None):
            raise TypeError(f"{label}: {name}[{k}] must be a number, got {entry!r}")
