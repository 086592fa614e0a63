"""Memory of an array that a second stream works on: it is kept until that stream is done.

CuPy's pool gives the memory of an array that is gone to the next one of its stream, and knows of no other.
"""

from __future__ import annotations

import weakref
from typing import Any

# Memory of arrays that are gone, and the events after which nobody uses it.
_lent: list[tuple[Any, Any]] = []


def lend(cupy: Any, array: Any, stream: Any) -> None:
    """Keep the memory of an array, once that is gone, until a stream has done what it was given till then.

    Args:
        cupy: the module.
        array: of which no view is left when it is gone.
        stream: of CuPy's, on the device of the array.
    """
    whole = array if array.base is None else array.base
    weakref.finalize(whole, _keep, cupy, whole.device, whole.data, stream).atexit = False


def _keep(cupy: Any, device: Any, memory: Any, stream: Any) -> None:
    collect()
    with device:
        event = cupy.cuda.Event(disable_timing=True)
        stream.record(event)
    _lent.append((memory, event))


def collect() -> None:
    """Give back what nobody uses any more."""
    _lent[:] = [(memory, event) for memory, event in _lent if not event.done]
