"""Which GPUs there are, which is the current one, and waiting for it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from nbdl import config
from nbdl.backend.cupy.availability import cupy_status, require_device
from nbdl.backend.cupy.waiting import announce
from nbdl.backend.device import Device
from nbdl.random import manual_seed as _seed_all

_SYNC_MODES = ("default", "warn", "error")


def number_of(device: Any) -> int | None:
    """The number of a GPU that is given as a number, a name or a device; None: the current one.

    Raises:
        ValueError: it is no GPU.
    """
    if device is None or isinstance(device, int):
        return device
    place = Device(device)
    if place.type != "cuda":
        raise ValueError(f"cuda: Expected a cuda device, but got: {place}")
    return place.index


def is_available() -> bool:
    """Whether tensors can be made on a GPU; ``python -m nbdl`` says why not."""
    return cupy_status().available


def device_count() -> int:
    """How many GPUs there are."""
    return len(cupy_status().devices) if is_available() else 0


def is_initialized() -> bool:
    """Whether there is a GPU that could be used."""
    return is_available()


def current_device() -> int:
    """The number of the GPU that ``cuda`` without a number means.

    Raises:
        RuntimeError: there is none.
    """
    return int(require_device(None).cuda.Device().id)


def set_device(device: Any) -> None:
    """Choose what ``cuda`` without a number means, in this thread.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = number_of(device)
    if number is not None and number >= 0:
        require_device(number).cuda.Device(number).use()


class device:
    """:func:`set_device` for a ``with`` block; nothing for None or a negative number.

    Args:
        device: a number, a name or a device.

    Raises:
        RuntimeError: there is no such GPU.
    """

    def __init__(self, device: Any):
        number = number_of(device)
        self.idx = -1 if number is None or number < 0 else number
        self._device = None if self.idx < 0 else require_device(self.idx).cuda.Device(self.idx)

    def __enter__(self) -> device:
        if self._device is not None:
            self._device.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device is not None:
            self._device.__exit__(kind, error, trace)


def _properties(device: Any) -> dict[str, Any]:
    number = number_of(device)
    cupy = require_device(number)
    return cupy.cuda.runtime.getDeviceProperties(current_device() if number is None else number)


def get_device_name(device: Any = None) -> str:
    """What the manufacturer calls a GPU.

    Raises:
        RuntimeError: there is no such GPU.
    """
    return _properties(device)["name"].decode()


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU, major and minor.

    Raises:
        RuntimeError: there is no such GPU.
    """
    found = _properties(device)
    return int(found["major"]), int(found["minor"])


def synchronize(device: Any = None) -> None:
    """Wait until a GPU has done everything.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = number_of(device)
    cupy = require_device(number)
    announce("nbdl.cuda.synchronize()")
    cupy.cuda.Device(number).synchronize()


def manual_seed(seed: int) -> None:
    """Seed all default generators, of the CPU too; without a GPU, nothing."""
    if is_available():
        _seed_all(seed)


def manual_seed_all(seed: int) -> None:
    """:func:`manual_seed`."""
    manual_seed(seed)


def set_sync_debug_mode(debug_mode: int | str) -> None:
    """Choose what happens where the program waits for a GPU: at ``.item()``, at printing, or unseen.

    Args:
        debug_mode: ``default`` or 0: nothing; ``warn`` or 1: a warning names the line; ``error`` or 2: a
            RuntimeError does. The environment variable ``NBDL_SYNC_DEBUG`` says the same for a whole process.

    Raises:
        RuntimeError: it is none of these.
    """
    if isinstance(debug_mode, int) and 0 <= debug_mode < len(_SYNC_MODES):
        debug_mode = _SYNC_MODES[debug_mode]
    if debug_mode not in _SYNC_MODES:
        raise RuntimeError(
            f"set_sync_debug_mode: invalid value of debug_mode, expected one of {', '.join(_SYNC_MODES)}, "
            f"got {debug_mode!r}"
        )
    config.SYNC_DEBUG.set(debug_mode)


def get_sync_debug_mode() -> int:
    """The mode: 0 for ``default``, 1 for ``warn``, 2 for ``error``."""
    return _SYNC_MODES.index(config.SYNC_DEBUG.value)
