"""How results get where the caller wants them."""

from __future__ import annotations

from typing import Any


def delivered(result: Any, out: Any) -> Any:
    """``result``, or ``out`` holding it where ``out`` is not None; several results are tuples."""
    if out is None:
        return result
    if isinstance(out, tuple):
        for target, array in zip(out, result, strict=True):
            target[...] = array
    else:
        out[...] = result
    return out
