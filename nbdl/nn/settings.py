"""Arguments of layers: sizes for every axis, and how settings are printed."""

from __future__ import annotations

from typing import Any


def per_axis(label: str, name: str, value: Any, n: int) -> tuple[int, ...]:
    """``value`` for each of ``n`` axes.

    Raises:
        ValueError: it is a sequence of another length.
    """
    if isinstance(value, (tuple, list)):
        if len(value) != n:
            raise ValueError(f"{label}: {name} must be an integer or {n} of them, got {tuple(value)}")
        return tuple(value)
    return (value,) * n


def settings(module: Any, *names: str) -> str:
    """``name=value`` for some attributes of a module, for its ``extra_repr``; ``inplace`` only if set."""
    shown = [name for name in names if name != "inplace" or getattr(module, name)]
    return ", ".join(f"{name}={getattr(module, name)!r}" for name in shown)
