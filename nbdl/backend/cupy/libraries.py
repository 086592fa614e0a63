"""NVIDIA's libraries beside CuPy: loaded when first needed; what is missing is logged once."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

_log = logging.getLogger("nbdl")


class _State:
    """Settings of products.

    Attributes:
        tf32: whether float32 products may be computed in TF32.
    """

    tf32 = False


state = _State()


class Lt:
    """cuBLASLt by the bindings of nvmath-python: they take addresses and a stream, and allocate nothing."""

    def __init__(self) -> None:
        self.api = importlib.import_module("nvmath.bindings.cublasLt")
        self.cublas = importlib.import_module("nvmath.bindings.cublas")
        self.kinds = importlib.import_module("nvmath").CudaDataType
        self.version = int(self.api.get_version())


@functools.cache
def cublaslt() -> Lt | None:
    """cuBLASLt, or None where it is missing."""
    try:
        return Lt()
    except (ImportError, RuntimeError, OSError) as error:
        _missing("products are CuPy's, which a CUDA graph cannot hold", "nvmath-python", error)
        return None


@functools.cache
def cudnn() -> Any:
    """The module ``cudnn`` of nvidia-cudnn-frontend, or None where it is missing."""
    try:
        module = importlib.import_module("cudnn")
        module.backend_version()
    except (ImportError, RuntimeError, OSError) as error:
        _missing("convolutions are products of copied windows", "nvidia-cudnn-frontend", error)
        return None
    return module


def _missing(consequence: str, package: str, error: Exception) -> None:
    _log.info(
        "%s cannot be used: %s. So %s; pip install 'nbdl[cuda12]' (or [cuda13]) brings it",
        package, " ".join(str(error).split()), consequence,
    )  # fmt: skip


@functools.cache
def tell(text: str) -> None:
    """Log something once."""
    _log.info("%s", text)
