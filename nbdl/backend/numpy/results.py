"""How results get where the caller wants them."""

from __future__ import annotations

from typing import Any


def delivered(result: Any, out: Any) -> Any:
    """``result``, or ``out`` holding it where ``out`` is not None; several results are tuples.

    What is there already stays as it is.
    """
    if out is None or out is result:
        return result
    if isinstance(result, tuple):
        for target, array in zip(out if isinstance(out, tuple) else (out,), result, strict=True):
            if target is not array:
                target[...] = array
    else:
        out[...] = result
    return out
