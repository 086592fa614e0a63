"""Which backends are usable here, and which one is in force.

CPU tensors are computed by the CPU backend in force (NumPy or Numba), GPU tensors always by CuPy. Choosing
``cupy`` therefore means that new tensors are made on the GPU; tensors that are on the CPU are then computed
by the fastest CPU backend there is.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbdl import config
from nbdl.autograd.modes import mode
from nbdl.backend.collector import loading

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend

logger = logging.getLogger("nbdl")

NAMES = ("numpy", "numba", "cupy")

# The CPU backend of this process, None until something is computed; `with use_backend` goes before it.
cpu: NumpyBackend | None = None
# The name that was asked for or chosen, and whether new tensors go to the GPU.
_chosen: str | None = None


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend works here.

    Attributes:
        name: ``numpy``, ``numba`` or ``cupy``.
        available: whether it works.
        reason: why it does not work; empty if it does.
        remedy: what to do about it; empty if it works.
        devices: names of the devices it computes on.
    """

    name: str
    available: bool
    reason: str = ""
    remedy: str = ""
    devices: list[str] = field(default_factory=list)


@functools.cache
def _status_of(name: str) -> BackendStatus:
    if name == "numpy":
        return BackendStatus("numpy", True, devices=["cpu"])
    if name == "numba":
        try:
            with loading():
                import numba  # noqa: F401  (does it work?)
        except ImportError as error:
            return BackendStatus("numba", False, str(error), "pip install numba")
        return BackendStatus("numba", True, devices=["cpu"])
    from nbdl.backend.cupy.availability import cupy_status

    return cupy_status()


def status() -> list[BackendStatus]:
    """The state of all backends, with the reason and the remedy for each one that is missing."""
    return [_status_of(name) for name in NAMES]


def available_backends() -> list[str]:
    """Names of the backends that work here."""
    return [entry.name for entry in status() if entry.available]


def _checked(name: str, caller: str) -> str:
    """``name`` resolved (``auto``) and found usable.

    Raises:
        ValueError: the name is unknown.
        RuntimeError: the backend does not work here.
    """
    if not isinstance(name, str):
        raise TypeError(f"{caller}: the backend's name must be a string, got {type(name).__name__}")
    name = name.strip().lower()
    if name == "auto":
        return _automatic()
    if name not in NAMES:
        raise ValueError(
            f"{caller}: unknown backend {name!r}; expected one of {', '.join(NAMES)}, auto.\n{_overview()}"
        )
    entry = _status_of(name)
    if not entry.available:
        raise RuntimeError(
            f"{caller}: backend {name!r} cannot be used: {entry.reason}. {entry.remedy}.\n{_overview()}"
        )
    return name


def _overview() -> str:
    lines = [
        f"  {entry.name}: "
        + ("available" if entry.available else f"missing: {entry.reason} (remedy: {entry.remedy})")
        for entry in status()
    ]
    return "Backends here:\n" + "\n".join(lines)


def _automatic() -> str:
    """cupy where a device works, else numba, else numpy."""
    passed_over = []
    for name in ("cupy", "numba"):
        entry = _status_of(name)
        if entry.available:
            break
        passed_over.append(f"{name}: {entry.reason}")
    else:
        name = "numpy"
    logger.info(
        "backend %s chosen automatically%s", name, f" ({'; '.join(passed_over)})" if passed_over else ""
    )
    return name


_loaded: dict[str, NumpyBackend] = {}


def load(name: str) -> NumpyBackend:
    """The backend object called ``name``, which must be usable."""
    if name not in _loaded:
        if name == "numba":
            with loading():
                from nbdl.backend.numba import NumbaBackend

            _loaded[name] = NumbaBackend()
        elif name == "cupy":
            from nbdl.backend.cupy.backend import CupyBackend

            _loaded[name] = CupyBackend()
        else:
            from nbdl.backend.numpy import NumpyBackend

            _loaded[name] = NumpyBackend()
    return _loaded[name]


def is_loaded(name: str) -> bool:
    """Whether the backend called ``name`` has been used."""
    return name in _loaded


def _cpu_backend_for(name: str) -> NumpyBackend:
    if name == "cupy":
        name = "numba" if _status_of("numba").available else "numpy"
    return load(name)


def select() -> NumpyBackend:
    """The CPU backend in force; at first use the one that ``NBDL_BACKEND`` asks for."""
    if mode.backend is not None:
        return mode.backend
    if cpu is None:
        _set(_checked(config.backend(), "NBDL_BACKEND"))
    assert cpu is not None
    return cpu


def _set(name: str) -> None:
    global cpu, _chosen
    cpu, _chosen = _cpu_backend_for(name), name


def set_backend(name: str) -> None:
    """Choose the backend of the whole process: ``numpy``, ``numba``, ``cupy`` or ``auto``.

    Raises:
        ValueError: the name is unknown.
        RuntimeError: the backend does not work here; the message lists what does, and why the rest does not.
    """
    _set(_checked(name, "set_backend"))


def get_backend() -> str:
    """Name of the backend in force in this thread."""
    if mode.backend_name is not None:
        return mode.backend_name
    if _chosen is None:
        select()
    assert _chosen is not None
    return _chosen


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute with another backend inside a ``with`` block, in this thread only.

    Raises:
        ValueError: the name is unknown.
        RuntimeError: the backend does not work here.

    Example:
        >>> import nbdl
        >>> with nbdl.use_backend("numpy"):
        ...     nbdl.get_backend()
        'numpy'
    """
    checked = _checked(name, "use_backend")
    if mode.recorder is not None:
        mode.recorder.refuse("use_backend()", "choose the backend before the call")
    previous = mode.backend, mode.backend_name
    mode.backend, mode.backend_name = _cpu_backend_for(checked), checked
    try:
        yield
    finally:
        mode.backend, mode.backend_name = previous


def default_device_type() -> str:
    """``cuda`` where the cupy backend is in force, else ``cpu``."""
    return "cuda" if get_backend() == "cupy" else "cpu"
