"""Automatic mixed precision, under the names of ``torch.amp``.

Example:
    >>> import nbdl
    >>> x, w = nbdl.ones(2, 3), nbdl.ones(4, 3, requires_grad=True)
    >>> with nbdl.amp.autocast("cpu", dtype=nbdl.float16):
    ...     y = nbdl.linear(x, w)
    >>> y.dtype
    dtype('float16')
    >>> y.sum().backward()
    >>> w.grad.dtype
    dtype('float32')
"""

from __future__ import annotations

from nbdl.amp.autocast import (
    autocast,
    custom_bwd,
    custom_fwd,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_enabled,
)
from nbdl.amp.grad_scaler import GradScaler

__all__ = [
    "GradScaler",
    "autocast",
    "custom_bwd",
    "custom_fwd",
    "get_autocast_dtype",
    "is_autocast_available",
    "is_autocast_enabled",
]
