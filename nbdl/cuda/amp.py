"""Automatic mixed precision on the GPU, as older programs spell it: see :mod:`nbdl.amp`."""

from __future__ import annotations

from typing import Any

from nbdl import amp
from nbdl.amp import GradScaler, custom_bwd, custom_fwd

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]


class autocast(amp.autocast):
    """:class:`nbdl.amp.autocast` for ``"cuda"``."""

    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True):
        super().__init__("cuda", dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)
