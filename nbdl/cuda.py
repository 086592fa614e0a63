"""GPUs, under the names of ``torch.cuda``. Nothing is loaded, and no GPU is touched, before something asks.

Example:
    >>> import nbdl
    >>> device = nbdl.device("cuda" if nbdl.cuda.is_available() else "cpu")
    >>> nbdl.zeros(2, device=device).cpu()
    tensor([0., 0.])
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nbdl.backend.device import Device
from nbdl.random import manual_seed as _seed_all

__all__ = [
    "current_device", "device", "device_count", "empty_cache", "get_device_name", "is_available",
    "is_initialized", "manual_seed", "manual_seed_all", "memory_allocated", "memory_reserved", "set_device",
    "synchronize",
]  # fmt: skip


def _cupy(index: int | None = None) -> Any:
    from nbdl.backend.cupy.availability import require_device

    return require_device(index)


def _number(device: Any) -> int | None:
    """The number of a GPU that is given as a number, a name or a device; None: the current one."""
    if device is None or isinstance(device, int):
        return device
    place = Device(device)
    if place.type != "cuda":
        raise ValueError(f"cuda: Expected a cuda device, but got: {place}")
    return place.index


def is_available() -> bool:
    """Whether tensors can be made on a GPU; ``python -m nbdl`` says why not."""
    from nbdl.backend.cupy.availability import cupy_status

    return cupy_status().available


def device_count() -> int:
    """How many GPUs there are."""
    from nbdl.backend.cupy.availability import cupy_status

    return len(cupy_status().devices) if is_available() else 0


def is_initialized() -> bool:
    """Whether there is a GPU that could be used."""
    return is_available()


def current_device() -> int:
    """The number of the GPU that ``cuda`` without a number means.

    Raises:
        RuntimeError: there is none.
    """
    return int(_cupy().cuda.Device().id)


def set_device(device: Any) -> None:
    """Choose what ``cuda`` without a number means.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = _number(device)
    if number is not None and number >= 0:
        _cupy(number).cuda.Device(number).use()


def device(device: Any) -> AbstractContextManager[Any]:
    """:func:`set_device` for a ``with`` block; nothing for None or a negative number."""
    number = _number(device)
    return nullcontext() if number is None or number < 0 else _cupy(number).cuda.Device(number)


def get_device_name(device: Any = None) -> str:
    """What the manufacturer calls a GPU.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = _number(device)
    cupy = _cupy(number)
    return cupy.cuda.runtime.getDeviceProperties(current_device() if number is None else number)[
        "name"
    ].decode()


def synchronize(device: Any = None) -> None:
    """Wait until a GPU has done everything.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = _number(device)
    _cupy(number).cuda.Device(number).synchronize()


def empty_cache() -> None:
    """Give memory that is kept for coming tensors back to the system."""
    if is_available():
        _cupy().get_default_memory_pool().free_all_blocks()


def memory_allocated(device: Any = None) -> int:
    """Bytes of the GPU that tensors occupy."""
    return _pool(device).used_bytes() if is_available() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of the GPU that tensors occupy, or that are kept for coming ones."""
    return _pool(device).total_bytes() if is_available() else 0


def _pool(device: Any) -> Any:
    number = _number(device)
    cupy = _cupy(number)
    with cupy.cuda.Device(number):
        return cupy.get_default_memory_pool()


def manual_seed(seed: int) -> None:
    """Seed all default generators, of the CPU too; without a GPU, nothing."""
    if is_available():
        _seed_all(seed)


def manual_seed_all(seed: int) -> None:
    """:func:`manual_seed`."""
    manual_seed(seed)
