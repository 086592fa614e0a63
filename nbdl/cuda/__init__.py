"""GPUs, under the names of ``torch.cuda``. Nothing is loaded, and no GPU is touched, before something asks.

Example:
    >>> import nbdl
    >>> device = nbdl.device("cuda" if nbdl.cuda.is_available() else "cpu")
    >>> nbdl.zeros(2, device=device).cpu()
    tensor([0., 0.])
"""

from __future__ import annotations

import importlib as _importlib
from typing import Any as _Any

from nbdl.backend.cupy.placing import OutOfMemoryError
from nbdl.cuda.devices import (
    current_device,
    device,
    device_count,
    get_device_capability,
    get_device_name,
    get_sync_debug_mode,
    is_available,
    is_initialized,
    manual_seed,
    manual_seed_all,
    set_device,
    set_sync_debug_mode,
    synchronize,
)
from nbdl.cuda.memory import (
    empty_cache,
    get_per_process_memory_fraction,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    set_per_process_memory_fraction,
)
from nbdl.cuda.streams import Event, Stream, current_stream, default_stream, set_stream, stream

__all__ = [
    "Event", "OutOfMemoryError", "Stream", "current_device", "current_stream", "default_stream", "device",
    "device_count", "empty_cache", "get_device_capability", "get_device_name",
    "get_per_process_memory_fraction", "get_sync_debug_mode", "is_available", "is_initialized", "manual_seed",
    "manual_seed_all", "mem_get_info", "memory_allocated", "memory_reserved", "memory_stats", "set_device",
    "set_per_process_memory_fraction", "set_stream", "set_sync_debug_mode", "stream", "synchronize",
]  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name == "amp":
        return _importlib.import_module("nbdl.cuda.amp")
    raise AttributeError(f"module 'nbdl.cuda' has no attribute {name!r}")
