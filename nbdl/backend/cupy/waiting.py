"""Reports where Python waits for the GPU: each wait is announced here before it begins."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from nbdl import config


def announce(what: str) -> None:
    """Tell that the host is about to wait for the device, as ``NBDL_SYNC_DEBUG`` asks.

    Args:
        what: reads a value.

    Raises:
        RuntimeError: the mode is ``error``.
    """
    mode = config.SYNC_DEBUG.value
    if mode == "default":
        return
    from nbdl.autograd.anomaly import user_line

    text = f"the program waits for the GPU at {user_line()}: {what}"
    if mode == "error":
        raise RuntimeError(f"{text} (NBDL_SYNC_DEBUG=error)")
    warnings.warn(text, stacklevel=2)


def number_on_host(array: Any, what: str) -> float:
    """The number in a 0-d array of NumPy's or CuPy's."""
    return float(array if isinstance(array, np.ndarray) else to_host(array, what))


def to_host(array: Any, what: str) -> Any:
    """A CuPy array as a NumPy array, when the device is ready."""
    announce(what)
    return array.get()
