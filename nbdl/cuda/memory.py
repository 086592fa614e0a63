"""The memory of GPUs: what is used, what is kept for coming tensors, and how much may be taken.

Memory of a tensor that is gone is kept by CuPy's pool, since giving it back makes the device wait.
"""

from __future__ import annotations

from typing import Any

from nbdl.backend.cupy.availability import require_device
from nbdl.backend.cupy.lending import collect
from nbdl.backend.cupy.placing import private_bytes
from nbdl.cuda.devices import device as device_block
from nbdl.cuda.devices import is_available, number_of


def empty_cache() -> None:
    """Give memory that is kept for coming tensors back to the system."""
    if is_available():
        collect()
        require_device(None).get_default_memory_pool().free_all_blocks()


def memory_allocated(device: Any = None) -> int:
    """Bytes of the GPU that tensors and compiled programs occupy."""
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def memory_reserved(device: Any = None) -> int:
    """Bytes of the GPU that tensors and compiled programs occupy, or that are kept for coming ones."""
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def memory_stats(device: Any = None) -> dict[str, int]:
    """What the memory pool counts, by PyTorch's names; empty where there is no GPU.

    Returns:
        ``allocated_bytes.all.current``: bytes of tensors and programs. ``reserved_bytes.all.current``: these
        and what is kept for coming ones. ``inactive_split_bytes.all.current``: what is kept.
        ``inactive_split.all.current``: in how many blocks. ``program_bytes``: of the pools in which the
        graphs of compiled programs work. ``limit_bytes``: how much tensors may take, 0 for all there is.
        ``free_bytes`` and ``total_bytes``: of the device.
    """
    if not is_available():
        return {}
    collect()
    pool = require_device(number_of(device)).get_default_memory_pool()
    free, total = mem_get_info(device)
    with device_block(number_of(device)):
        programs = private_bytes()
        return {
            "allocated_bytes.all.current": pool.used_bytes() + programs,
            "reserved_bytes.all.current": pool.total_bytes() + programs,
            "inactive_split_bytes.all.current": pool.free_bytes(),
            "inactive_split.all.current": pool.n_free_blocks(),
            "program_bytes": programs,
            "limit_bytes": pool.get_limit(),
            "free_bytes": free,
            "total_bytes": total,
        }


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, all) bytes of a GPU, whoever uses it.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = number_of(device)
    free, total = require_device(number).cuda.Device(number).mem_info
    return int(free), int(total)


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Limit what the tensors of this process may take of a GPU.

    Args:
        fraction: of all its memory, between 0 and 1; 0 and 1 take the limit away.
        device: the GPU.

    Raises:
        TypeError: the fraction is no float.
        ValueError: it is not between 0 and 1.
        RuntimeError: there is no such GPU.
    """
    if not isinstance(fraction, float):
        raise TypeError(
            "set_per_process_memory_fraction: Invalid type for fraction argument, must be `float`, "
            f"got {type(fraction).__name__}"
        )
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(
            f"set_per_process_memory_fraction: Invalid fraction value: {fraction}. Allowed range: 0~1"
        )
    number = number_of(device)
    pool = require_device(number).get_default_memory_pool()
    with device_block(number):
        if fraction in (0.0, 1.0):
            pool.set_limit(size=0)
        else:
            pool.set_limit(fraction=fraction)


def get_per_process_memory_fraction(device: Any = None) -> float:
    """The share of a GPU's memory that the tensors of this process may take.

    Raises:
        RuntimeError: there is no such GPU.
    """
    number = number_of(device)
    pool = require_device(number).get_default_memory_pool()
    with device_block(number):
        limit = pool.get_limit()
    return limit / mem_get_info(number)[1] if limit else 1.0
