"""Intel's MKL, which nbdl does not call; NumPy may."""

from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False
