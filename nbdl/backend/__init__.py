"""Array backends: NumPy (the specification), Numba (compiled CPU loops), CuPy (GPU kernels)."""

from __future__ import annotations

from nbdl.backend.registry import (
    BackendStatus,
    available_backends,
    get_backend,
    set_backend,
    status,
    use_backend,
)

__all__ = ["BackendStatus", "available_backends", "get_backend", "set_backend", "status", "use_backend"]
