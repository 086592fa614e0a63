"""NVIDIA's libraries beside CuPy: loaded when first needed; what is missing is logged once."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

from nbdl.backend.cupy.availability import cuda_major

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
        consequence = "convolutions are products of copied windows, norms and attention own kernels"
        _missing(consequence, "nvidia-cudnn-frontend", error)
        return None
    return module


_problems: dict[str, str] = {}


def _missing(consequence: str, package: str, error: Exception) -> None:
    """Note and log what is missing; the remedy names the CUDA version of the CuPy that is here."""
    major = cuda_major(importlib.import_module("cupy").cuda.runtime)
    text = (
        f"{package} cannot be used: {' '.join(str(error).split())}. So {consequence}; pip install "
        f"'nbdl[cuda{major}]' brings it"
    )
    _problems[package] = text
    _log.info("%s", text)


def report() -> list[str]:
    """A line for each library: its version, or why it cannot be used, and the remedy."""
    lt, dnn = cublaslt(), cudnn()
    return [
        f"cuBLASLt {lt.version}" if lt else _problems["nvmath-python"],
        f"cuDNN {dnn.backend_version()}" if dnn else _problems["nvidia-cudnn-frontend"],
    ]


@functools.cache
def tell(text: str) -> None:
    """Log something once."""
    _log.info("%s", text)
