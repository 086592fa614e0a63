"""The Numba backend: compiled CPU loops, one thread pool, plans that make the second call short."""

from __future__ import annotations

from nbdl.backend.numba.backend import NumbaBackend

__all__ = ["NumbaBackend"]
