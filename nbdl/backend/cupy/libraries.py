"""NVIDIA's libraries beside CuPy: loaded when first needed; what is missing is logged once."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nbdl.backend.cupy.availability import cuda_major

_log = logging.getLogger("nbdl")


class _State:
    """Settings of the libraries.

    Attributes:
        tf32: whether float32 products may be computed in TF32.
        is_deterministic: whether attention must add up its gradients in the same order each time.
    """

    tf32 = False
    is_deterministic = False


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


_of_program: ContextVar[dict[Any, Any] | None] = ContextVar("plans of a program", default=None)


@contextmanager
def plans_in(plans: dict[Any, Any]) -> Iterator[None]:
    """Inside, plans of libraries are kept in ``plans``, which belongs to a program.

    A plan has a workspace, so two streams cannot share it, but what a program does is done in order. Its
    first run makes the plans; a capture then finds them, and neither searches nor allocates.
    """
    outer = _of_program.set(plans)
    try:
        yield
    finally:
        _of_program.reset(outer)


def plan_of(backend: Any, key: tuple[Any, ...], stream: Any, make: Callable[[], Any]) -> Any:
    """The plan for a key: that of the program that runs, or that of the stream.

    Args:
        backend: keeps those of streams.
        key: what the plan depends on.
        stream: the current one.
        make: makes it.
    """
    plans = _of_program.get()
    if plans is None:
        key = (*key, stream.ptr)
        plan = backend._plans.get(key)
        return backend._keep(key, make()) if plan is None else plan
    if key not in plans:
        plans[key] = make()
    return plans[key]


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
