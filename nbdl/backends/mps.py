"""Apple's GPUs, which nbdl has no backend for."""

from __future__ import annotations


def is_available() -> bool:
    """False: see :func:`nbdl.available_backends` for what there is."""
    return False


def is_built() -> bool:
    """False."""
    return False
