"""Plans in a row, launched by one call: what a recorded program becomes on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.numba import native, threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import Plan, launch
from nbdl.kernels.cpu import launcher
from nbdl.kernels.cpu import replay as kernel

_REGION_ROUNDS, _REGIONS_A_ROUND = 10, 100


class Place(NamedTuple):
    """Where an operand lies.

    Attributes:
        array: number of the array that the call brings; None for memory that stays where it is.
        offset: address of the first element; in bytes from the beginning of the call's array.
    """

    array: int | None
    offset: int


class Sequel:
    """Plans that run one after the other.

    Args:
        steps: for each plan where its operands lie, inputs before outputs.
        arrays: how many arrays a call brings.

    Attributes:
        run: ``run(*arrays)``: bind these arrays, and run all plans, or up to the first that fails.
        regions: how many parallel regions that opens.
    """

    def __init__(self, steps: Sequence[tuple[Plan, Sequence[Place]]], arrays: int):
        self._plans = [plan for plan, _ in steps]  # their scratch memory is referred to by address
        self._blocks = [plan.block.copy() for plan in self._plans]
        uses: list[list[tuple[int, int]]] = [[] for _ in range(arrays)]
        for block, (_, places) in zip(self._blocks, steps, strict=True):
            for k, place in enumerate(places, launcher.HEADER_WORDS):
                if place.array is None:
                    block[k] = place.offset
                else:
                    uses[place.array].append((block.ctypes.data + 8 * k, place.offset))
        self._uses = uses
        state = native.state()
        words = [state.ctypes.data, 0, arrays, len(steps)]
        for entries in uses:
            words.append(len(entries))
            words += [word for entry in entries for word in entry]
        words += [block.ctypes.data for block in self._blocks]
        self._table = np.array(words, np.int64)
        make = _native_replay()
        self.run: Callable[..., None] = self._run_in_python if make is None else make(self._table)
        self.regions = sum(plan.regions for plan in self._plans)

    def take_failure(self) -> int | None:
        """After an exception, once: the position of the plan that failed; None if it was none of these."""
        failed, self._table[kernel.FAILED] = int(self._table[kernel.FAILED]), 0
        return failed - 1 if failed else None

    def _run_in_python(self, *arrays: Any) -> None:
        """The same without builtins."""
        for array, entries in zip(arrays, self._uses, strict=True):
            for word, offset in entries:
                native.store_word(word, array.ctypes.data + offset)
        state = native.state()
        for k, block in enumerate(self._blocks, 1):
            native.run_block(block)
            if state[launcher.STATE_FAILED]:
                self._table[kernel.FAILED] = k
                native.raise_failure()


def region_seconds() -> float:
    """The least time that a parallel region takes on all threads, to begin and to end."""
    count = threads.get_num_threads()
    plan = Plan(_nothing(), inputs=0, rows=count, tasks=count)
    times = []
    for _ in range(_REGION_ROUNDS):
        start = perf_counter()
        for _ in range(_REGIONS_A_ROUND):
            launch(plan.block)
        times.append((perf_counter() - start) / _REGIONS_A_ROUND)
    return min(times)


@cache
def _nothing() -> int:
    return compile_kernel("nothing", lambda: kernel.nothing, "an empty region")


@cache
def _native_replay() -> Callable[[native.Words], Callable[..., Any]] | None:
    """Makes builtins that replay a table; None where only Python can."""
    return native.builtin(kernel.replay) if native.layout_is_known() else None
