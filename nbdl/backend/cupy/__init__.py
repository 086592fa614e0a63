"""The CuPy backend: CUDA kernels generated from formulas, cuBLAS, and CuPy's functions for the rest.

Importing it does not import CuPy; :mod:`nbdl.backend.cupy.availability` does when the backend is asked for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CupyBackend"]


def __getattr__(name: str) -> Any:
    """CupyBackend on first use, so that asking whether CuPy is here loads nothing more."""
    if name != "CupyBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nbdl.backend.cupy.backend import CupyBackend

    return CupyBackend
