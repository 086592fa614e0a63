"""Whether CuPy and a CUDA device are here; the reason is kept and told with its remedy.

CuPy is imported by :func:`cupy_status` only, so nothing of it is loaded before the GPU backend is asked for.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbdl.backend.registry import BackendStatus

_INSTALL = "pip install 'nbdl[cuda12]' (or [cuda13]) on a machine with an NVIDIA GPU"


@functools.cache
def cupy_status() -> BackendStatus:
    """The state of the cupy backend."""
    from nbdl.backend.registry import BackendStatus

    spec = importlib.util.find_spec("cupy")
    if spec is None or spec.origin is None:  # a folder that happens to be called cupy is no package
        return BackendStatus("cupy", False, "the package cupy is not installed", _INSTALL)
    try:
        import cupy
    except ImportError as error:
        return BackendStatus("cupy", False, f"cupy cannot be imported: {error}", _INSTALL)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        names = [cupy.cuda.runtime.getDeviceProperties(k)["name"].decode() for k in range(count)]
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return BackendStatus(
            "cupy", False, f"no CUDA device answers: {error}", "install or update the NVIDIA driver"
        )
    if count == 0:
        return BackendStatus("cupy", False, "there is no CUDA device", "run on a machine with an NVIDIA GPU")
    return BackendStatus("cupy", True, devices=[f"cuda:{k} {name}" for k, name in enumerate(names)])


def require_device(index: int | None) -> Any:
    """The module ``cupy``, after checking that the device exists.

    Raises:
        RuntimeError: there is no CUDA device, or not that many.
    """
    state = cupy_status()
    if not state.available:
        raise RuntimeError(f"device 'cuda' cannot be used: {state.reason}. {state.remedy}")
    if index is not None and index >= len(state.devices):
        raise RuntimeError(
            f"device 'cuda:{index}' does not exist: there are {len(state.devices)} CUDA devices"
        )
    import cupy

    return cupy
