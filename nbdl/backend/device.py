"""Devices: where the memory of a tensor is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np


class Device:
    """``Device("cpu")``, ``Device("cuda")``, ``Device("cuda:1")`` or ``Device("cuda", 1)``.

    Attributes:
        type: ``cpu`` or ``cuda``.
        index: number of the GPU; None for the CPU or the current GPU.
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: str | Device, index: int | None = None):
        if isinstance(type, Device):
            index = type.index if index is None else index
            type = type.type
        if not isinstance(type, str):
            raise TypeError(f"device: expected a name such as 'cpu' or 'cuda:0', got {type!r}")
        kind, _, number = type.partition(":")
        if kind not in ("cpu", "cuda"):
            raise RuntimeError(
                f"device: expected one of cpu, cuda device type at start of device string: {type}"
            )
        if number:
            if not number.isdigit() or index is not None:
                raise RuntimeError(f"device: invalid device string: {type!r}")
            index = int(number)
        if index is not None and index < 0:
            raise RuntimeError(f"device: the index must not be negative, got {index}")
        self.type, self.index = kind, index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (f", index={self.index})" if self.index is not None else ")")


CPU = Device("cpu")


_default: Device | None = None


def set_default_device(device: str | Device | None) -> None:
    """Choose where new tensors are made if nothing else is said; None: as the backend in force says.

    Raises:
        RuntimeError: there is no such kind of device.
    """
    global _default
    _default = None if device is None else Device(device)


def get_default_device() -> Device:
    """Where new tensors are made if nothing else is said."""
    return current_device(None)


def device_of(array: Any) -> Device:
    """Where an array lives."""
    return CPU if isinstance(array, np.ndarray) else Device("cuda", int(array.device.id))


def current_device(device: str | Device | None) -> Device:
    """``device``, or the default one where it is None."""
    if device is not None:
        return Device(device)
    if _default is not None:
        return _default
    from nbdl.backend.registry import default_device_type

    return CPU if default_device_type() == "cpu" else Device("cuda")


def transfer(array: Any, device: Device) -> Any:
    """``array`` on ``device``, itself if it is there.

    Raises:
        RuntimeError: there is no such device.
    """
    if isinstance(array, np.ndarray):
        if device.type == "cpu":
            return array
        return _cupy_on(device).asarray(array)
    if device.type == "cpu":
        from nbdl.backend.cupy.waiting import to_host

        return to_host(array, "cpu() copies a tensor")
    if device.index is None or int(array.device.id) == device.index:
        return array
    return _cupy_on(device).asarray(array)


def module_for(device: Device) -> Any:
    """The array module of a device: ``numpy`` or ``cupy``."""
    return np if device.type == "cpu" else _cupy_on(device)


def using(device: Device) -> AbstractContextManager[Any]:
    """Makes a GPU with a number the current one for a ``with`` block, as CuPy's operators want it."""
    if device.index is None:
        return nullcontext()
    return _cupy_on(device).cuda.Device(device.index)


def _cupy_on(device: Device) -> Any:
    from nbdl.backend.cupy.availability import require_device
    from nbdl.backend.cupy.placing import Placed

    return Placed(require_device(device.index), device.index)
