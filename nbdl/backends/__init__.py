"""Switches of single backends, where PyTorch has them: ``nbdl.backends.numba.winograd = False``."""

from __future__ import annotations

from nbdl.backends import cuda, cudnn, mkl, mps, numba

__all__ = ["cuda", "cudnn", "mkl", "mps", "numba"]
