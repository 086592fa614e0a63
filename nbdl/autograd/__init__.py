"""Tensor, the tape, and what is done with it: gradients, tangents, checks."""

from __future__ import annotations

from nbdl.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

# Name -> the module that has it. No module may be called like a function in it: importing it would hide the
# function.
_HOMES = {
    "Function": "function",
    "Tensor": "tensor",
    "Variable": "variable",
    "backward": "engine",
    "cuda_kernel": "kernels",
    "custom_op": "custom",
    "detect_anomaly": "anomaly",
    "grad": "engine",
    "grad_check_sparse": "checking",
    "gradcheck": "checking",
    "gradgradcheck": "checking",
    "numba_kernel": "kernels",
    "set_detect_anomaly": "anomaly",
}
_MODULES = ("forward_ad", "function", "functional", "graph")

__all__ = [
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
    *_HOMES,
    *_MODULES,
]


def __getattr__(name: str) -> object:
    """The rest on first use: the engine needs the operations, which need the modes above."""
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
