"""nbdl: deep learning in pure Python on NumPy, Numba and CuPy.

The API is PyTorch's where PyTorch has one. ``import nbdl`` loads neither Numba nor CuPy: a backend is loaded
when something is first computed.

Example:
    >>> import nbdl
    >>> x = nbdl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x ** 2).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
"""

from __future__ import annotations

import importlib as _importlib
from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from nbdl._version import __version__
from nbdl.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from nbdl.autograd.printing import set_printoptions
from nbdl.autograd.tensor import Size, Tensor
from nbdl.backend import available_backends, get_backend, set_backend, use_backend
from nbdl.backend.collector import loading as _loading
from nbdl.backend.device import Device as device
from nbdl.dtypes import *
from nbdl.formula.dtypes import get_default_dtype, set_default_dtype
from nbdl.names import HOMES as _HOMES
from nbdl.ops.functions import *
from nbdl.random import Generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from nbdl.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from nbdl import (
        amp,
        autograd,
        backend,
        backends,
        compiler,
        cuda,
        datasets,
        distributions,
        fft,
        formula,
        func,
        linalg,
        nn,
        optim,
        profiler,
        serialization,
        special,
        testing,
        utils,
        viz,
    )
    from nbdl.serialization import load, save

newaxis = None

_SUBPACKAGES = (
    "amp", "autograd", "backend", "backends", "compiler", "cuda", "datasets", "distributions", "fft",
    "formula", "func", "linalg", "nn", "optim", "profiler", "serialization", "special", "testing", "utils",
    "viz",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Subpackages on first use, what stands in them, and bfloat16, whose dtype another package brings."""
    if name in _SUBPACKAGES:
        with _loading():
            return _importlib.import_module(f"nbdl.{name}")
    if name in _HOMES:
        value = globals()[name] = getattr(_importlib.import_module(_HOMES[name]), name)
        return value
    if name == "bfloat16":
        from nbdl.formula.dtypes import bfloat16

        return bfloat16()
    raise AttributeError(f"module 'nbdl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_HOMES})
