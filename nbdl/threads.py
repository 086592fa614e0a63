"""Threads of the CPU kernels."""

from __future__ import annotations

from nbdl import config
from nbdl.backend import registry


def set_num_threads(threads: int) -> None:
    """Set over how many threads the kernels of the Numba backend may be split, in this process.

    Raises:
        TypeError: ``threads`` is no integer.
        ValueError: ``threads`` is less than 1.
    """
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"set_num_threads: threads must be an integer, got {type(threads).__name__}")
    if threads < 1:
        raise ValueError(f"set_num_threads: threads must be 1 or more, got {threads}")
    config.NUM_THREADS.set(threads)
    if registry.is_loaded("numba"):
        from nbdl.backend.numba import threads as pool

        pool.set_num_threads(threads)


def get_num_threads() -> int:
    """Over how many threads a kernel of the Numba backend may be split."""
    return config.num_threads()
