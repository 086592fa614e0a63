"""The NumPy backend: complete, plain, and the specification of the other two."""

from __future__ import annotations

from nbdl.backend.numpy.backend import NumpyBackend

__all__ = ["NumpyBackend"]
