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
# The first CUDA release of a major version that a driver must know, and the driver that does: within a major
# version, programs of later releases run on it too.
_FIRST_DRIVERS = {12: "525", 13: "580"}
NO_DEVICE = 100  # cudaErrorNoDevice


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
    runtime = cupy.cuda.runtime
    major = cuda_major(runtime)
    if major < min(_FIRST_DRIVERS):
        known = " and ".join(map(str, _FIRST_DRIVERS))
        return BackendStatus(
            "cupy", False, f"cupy is made for CUDA {major}, and nbdl for CUDA {known}",
            f"pip uninstall cupy-cuda{major}x and {_INSTALL}",
        )  # fmt: skip
    try:
        count = runtime.getDeviceCount()
        names = [runtime.getDeviceProperties(k)["name"].decode() for k in range(count)]
    except runtime.CUDARuntimeError as error:
        return BackendStatus("cupy", False, *_explained(runtime, error))
    if count == 0:
        return BackendStatus("cupy", False, *_NO_DEVICE)
    return BackendStatus("cupy", True, devices=[f"cuda:{k} {name}" for k, name in enumerate(names)])


def cuda_major(runtime: Any) -> int:
    """The major version of CUDA that CuPy is made for; it takes no driver to know it."""
    return int(runtime.runtimeGetVersion()) // 1000


_NO_DEVICE = (
    "there is no CUDA device",
    "run on a machine with an NVIDIA GPU, and let CUDA_VISIBLE_DEVICES name it, or unset that variable",
)


def _explained(runtime: Any, error: Any) -> tuple[str, str]:
    """Why no device answers, and the remedy."""
    if getattr(error, "status", None) == NO_DEVICE:
        return _NO_DEVICE
    try:
        driver, wanted = runtime.driverGetVersion(), cuda_major(runtime)
    except runtime.CUDARuntimeError:
        driver, wanted = None, 0
    if driver == 0:
        return "no NVIDIA driver is installed", "install the NVIDIA driver (nvidia-smi must find the GPU)"
    if driver is not None and driver // 1000 < wanted:
        known = f"CUDA {driver // 1000}.{driver % 1000 // 10}"
        newer = f"update the driver to {_FIRST_DRIVERS[wanted]} or later" if wanted in _FIRST_DRIVERS else ""
        remedy = newer or "update the driver"
        if driver // 1000 in _FIRST_DRIVERS:
            remedy += f", or pip uninstall cupy-cuda{wanted}x and pip install 'nbdl[cuda{driver // 1000}]'"
        return f"the NVIDIA driver is too old: it knows {known}, and cupy is made for CUDA {wanted}", remedy
    return f"no CUDA device answers: {error}", "install or update the NVIDIA driver"


def require_device(index: int | None) -> Any:
    """The module ``cupy``, after checking that the device exists.

    Raises:
        RuntimeError: there is no CUDA device, or not that many.
    """
    state = cupy_status()
    if not state.available:
        raise RuntimeError(f"device 'cuda' cannot be used: {state.reason}. {state.remedy}")
    if index is not None and not 0 <= index < len(state.devices):
        count = len(state.devices)
        known = "is one CUDA device, cuda:0" if count == 1 else f"are {count} CUDA devices"
        raise RuntimeError(
            f"device 'cuda:{index}' does not exist: there {known}"
            + (f", cuda:0 to cuda:{count - 1}" if count > 1 else "")
        )
    import cupy

    return cupy
