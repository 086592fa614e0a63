"""Settings of nbdl, and the only file that reads the environment.

A setting is looked up in this order: a `with flag.using(value)` block around the caller (of this thread or
task only), the value given to `flag.set` (of the whole process), the environment variable, the default. The
environment is read when the setting is asked for, never at import.

Variables:
    NBDL_BACKEND: Array backend: `numpy`, `numba`, `cupy` or `auto` (the default: the fastest that works).
    NBDL_NUM_THREADS: Threads of the CPU kernels; default: the cores that this process may use.
    NBDL_CACHE_DIR: Folder for compiled kernels; default: `nbdl` in the user's cache folder.
    NBDL_REQUIRE_GPU: `1` turns a missing CUDA device into an error where it would be passed over.
    NBDL_SYNC_DEBUG: What happens where the program waits for a GPU: `warn` and `error` name the line.
    NBDL_WINOGRAD: `0` has the CPU kernels compute all convolutions directly (`nbdl.backends.numba`).

Example:
    >>> from nbdl import config
    >>> with config.NUM_THREADS.using(1):
    ...     config.num_threads()
    1
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from operator import index
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class Flag(Generic[T]):
    """One setting: an environment variable that a call or a `with` block may override.

    Args:
        variable: Name of the environment variable.
        parse: Turns the variable's text, or a value given by the program, into the setting; raises
            ValueError with the allowed values otherwise.
        default: The setting where neither the program nor the environment says anything.
    """

    def __init__(self, variable: str, parse: Callable[[object], T], default: T) -> None:
        self.variable = variable
        self.default = default
        self._parse = parse
        self._scoped: ContextVar[tuple[T] | None] = ContextVar(variable, default=None)
        self._process: tuple[T] | None = None

    @property
    def value(self) -> T:
        """The setting in force.

        Raises:
            ValueError: The environment variable holds something that is not allowed.
        """
        override = self._scoped.get() or self._process
        if override is not None:
            return override[0]
        text = os.environ.get(self.variable, "").strip()
        return self._checked(text, "environment variable ") if text else self.default

    def set(self, value: object) -> None:
        """Sets the value for the whole process; `None` returns to the environment's.

        Raises:
            ValueError: The value is not allowed.
        """
        self._process = None if value is None else (self._checked(value),)

    @contextmanager
    def using(self, value: object) -> Iterator[None]:
        """Sets the value within a `with` block, for the calling thread or task.

        Raises:
            ValueError: The value is not allowed.
        """
        token = self._scoped.set((self._checked(value),))
        try:
            yield
        finally:
            self._scoped.reset(token)

    def _checked(self, value: object, origin: str = "") -> T:
        try:
            return self._parse(value)
        except ValueError as error:
            raise ValueError(f"{origin}{self.variable}={value!r}: {error}") from None

    def __repr__(self) -> str:
        return f"Flag({self.variable}={self.value!r})"


def _backend_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected the name of a backend, got {type(value).__name__}")
    return value.strip().lower()


def _thread_count(value: object) -> int:
    try:
        count = int(value) if isinstance(value, str) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise ValueError("expected a whole number of threads, 1 or more")
    return count


def _folder(value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"expected a path, got {type(value).__name__}")
    return Path(value).expanduser().absolute()


def _switch(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(f"expected one of {', '.join(_TRUE)} or {', '.join(_FALSE)}")
    return text in _TRUE


def _sync_mode(value: object) -> str:
    if value not in ("default", "warn", "error"):
        raise ValueError("expected one of default, warn, error")
    return str(value)


BACKEND: Flag[str] = Flag("NBDL_BACKEND", _backend_name, "auto")
NUM_THREADS: Flag[int | None] = Flag("NBDL_NUM_THREADS", _thread_count, None)
CACHE_DIR: Flag[Path | None] = Flag("NBDL_CACHE_DIR", _folder, None)
REQUIRE_GPU: Flag[bool] = Flag("NBDL_REQUIRE_GPU", _switch, False)
SYNC_DEBUG: Flag[str] = Flag("NBDL_SYNC_DEBUG", _sync_mode, "default")
WINOGRAD: Flag[bool] = Flag("NBDL_WINOGRAD", _switch, True)


def backend() -> str:
    """Name of the backend that the user asks for, in lower case; `auto` where nothing is asked.

    `nbdl.backend` judges the name, since it knows what is usable on this machine and why the rest is not.
    """
    return BACKEND.value


def require_gpu() -> bool:
    """Whether a missing CUDA device is an error."""
    return REQUIRE_GPU.value


def num_threads() -> int:
    """Threads for the CPU kernels: `NBDL_NUM_THREADS`, else the cores that this process may use."""
    return NUM_THREADS.value or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use, by its CPU affinity and its container's quota; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _container_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _container_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPU time per wall time that a Linux container (cgroup version 2) may use; None where unlimited."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def cache_dir() -> Path:
    """Folder for compiled kernels: `NBDL_CACHE_DIR`, else `nbdl` in the user's cache folder.

    The folder need not exist yet. Where the user has no home, it is a private temporary folder that lasts as
    long as the machine keeps it.
    """
    return CACHE_DIR.value or _user_cache_dir()


def _user_cache_dir() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        return _private_temporary_dir()
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA", home / "AppData" / "Local") / "nbdl" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "nbdl"
    return _absolute("XDG_CACHE_HOME", home / ".cache") / "nbdl"


def _absolute(variable: str, default: Path) -> Path:
    """The folder that a variable names; relative ones are ignored, as the XDG specification asks."""
    folder = Path(os.environ.get(variable, ""))
    return folder if folder.is_absolute() else default


@cache
def _private_temporary_dir() -> Path:
    # A folder of known name in a shared place would let another user plant machine code in it.
    import tempfile

    return Path(tempfile.mkdtemp(prefix="nbdl-"))


def set_environment_default(variable: str, value: str) -> None:
    """Sets an environment variable for libraries loaded later, unless the user has set it."""
    os.environ.setdefault(variable, value)
