"""Loop nests of the CPU kernels, and into how many tasks they are split."""

from __future__ import annotations

from nbdl.backend.loops import Nest, Strides, domain, element_strides, memory_order, merge, row_major
from nbdl.backend.numba import threads

__all__ = ["Nest", "Strides", "domain", "element_strides", "memory_order", "merge", "row_major", "tasks_for"]

# Work, in units of one addition, below which one thread is faster than waking the others.
SERIAL_WORK = 500_000


def tasks_for(work: float, rows: int) -> int:
    """Into how many tasks to split ``rows`` rows that cost ``work`` additions in all."""
    if work < SERIAL_WORK:
        return 1
    return max(1, min(threads.get_num_threads(), rows))
