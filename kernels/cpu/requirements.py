"""The kernel that reports elements which are not allowed."""

from __future__ import annotations

from nbdl.kernels.cpu.memory import load_int64, store_int64

ITEM_BYTES = 8


def requirement(args: int, lo: int, hi: int, task: int) -> None:
    """Reports a failure if a number of violations is not 0: operands number, elements, the same number."""
    violations, result, failed = load_int64(args, 0), load_int64(args, 2), load_int64(args, 3)
    count = load_int64(violations, 0)
    store_int64(result, 0, count)
    if count != 0:
        store_int64(failed, 0, 1)
