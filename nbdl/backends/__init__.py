"""Switches of single backends, where PyTorch has them: ``nbdl.backends.numba.winograd = False``."""

from __future__ import annotations

from nbdl.backends import cudnn, mps, numba

__all__ = ["cudnn", "mps", "numba"]
