"""Tools around training."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbdl.utils import callbacks, checkpoint, convexity, data, metrics, tensorboard
    from nbdl.utils.loop import Callback, Run, fit
    from nbdl.utils.model_summary import summary
    from nbdl.utils.timing import bench, compare
    from nbdl.utils.warming import warmup

__all__ = [
    "Callback", "Run", "bench", "callbacks", "checkpoint", "compare", "convexity", "data", "fit", "metrics",
    "summary",
    "tensorboard",
    "warmup",
]  # fmt: skip

# Everything is loaded when it is first used: workers of data loaders start often, and need little of it.
_SUBMODULES = ("callbacks", "checkpoint", "convexity", "data", "metrics", "tensorboard")
_HOMES = {
    "Callback": "loop", "Run": "loop", "fit": "loop",
    "summary": "model_summary",
    "bench": "timing", "compare": "timing",
    "warmup": "warming",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return _importlib.import_module(f"nbdl.utils.{name}")
    if name in _HOMES:
        return getattr(_importlib.import_module(f"nbdl.utils.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'nbdl.utils' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
