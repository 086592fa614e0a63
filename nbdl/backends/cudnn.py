"""The switches that programs set for cuDNN.

nbdl chooses the same algorithm in every run and never times candidates: ``deterministic`` and ``benchmark``
may be set, and change nothing. TF32 is not used unless :func:`nbdl.set_float32_matmul_precision` allows it.

Attributes:
    enabled (bool): Accepted.
    deterministic (bool): Accepted; runs are reproducible in any case.
    benchmark (bool): Accepted; nothing is timed.
    allow_tf32 (bool): Accepted.
"""

from __future__ import annotations

from nbdl.backend import registry

enabled = True
deterministic = False
benchmark = False
allow_tf32 = False


def is_available() -> bool:
    """Whether there is a GPU to compute on."""
    return any(status.name == "cupy" and status.available for status in registry.status())


def version() -> int | None:
    """The version of cuDNN, None where nvidia-cudnn-frontend does not find it."""
    try:
        import cudnn
    except ImportError:
        return None
    return int(cudnn.backend_version())
