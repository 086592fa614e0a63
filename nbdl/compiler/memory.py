"""Where the temporaries of a program lie: one arena, shared by those that are never alive at once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nbdl.compiler.program import TEMPORARY, Buffer, Operation, Program, Window
from nbdl.ops.pointwise import Pointwise

ALIGNMENT = 64  # a cache line, and the widest vector


class Layout(NamedTuple):
    """The places of the temporaries.

    Attributes:
        offsets: of each temporary in the arena.
        size: bytes of the arena.
    """

    offsets: dict[Buffer, int]
    size: int


class Lifetime(NamedTuple):
    """The operations from the first to the last that touches a buffer."""

    first: int
    last: int


def lifetimes(program: Program) -> dict[Buffer, Lifetime]:
    """Of every temporary, but for numbers on the host in a program of a GPU."""
    found: dict[Buffer, Lifetime] = {}
    on_host = not program.on_device
    for k, operation in enumerate(program.operations):
        for window in (*operation.inputs, *operation.outputs):
            if window.buffer.kind == TEMPORARY and window.buffer.on_host is on_host:
                first = found[window.buffer].first if window.buffer in found else k
                found[window.buffer] = Lifetime(first, k)
    return found


def plan_memory(program: Program) -> Layout:
    """Greedy by size: every temporary at the lowest offset that is free while it lives.

    Results of pointwise operations overwrite an operand of the same layout that dies there.
    """
    alive = lifetimes(program)
    merged = _overwriting(program, alive)
    roots = [buffer for buffer in alive if buffer not in merged]
    for buffer in merged:  # in the order of the program, so that chains end at their root
        root = _root(buffer, merged)
        alive[root] = Lifetime(
            min(alive[root].first, alive[buffer].first), max(alive[root].last, alive[buffer].last)
        )
    offsets: dict[Buffer, int] = {}
    placed = np.empty((4, len(roots)), np.int64)  # first, last, start, stop of those that have a place
    for k, buffer in enumerate(sorted(roots, key=lambda buffer: (-buffer.nbytes, alive[buffer].first))):
        life, length = alive[buffer], _aligned(buffer.nbytes)
        first, last, start, stop = placed[:, :k]
        together = (first <= life.last) & (life.first <= last)
        offset = _lowest_gap(start[together], stop[together], length)
        offsets[buffer] = offset
        placed[:, k] = life.first, life.last, offset, offset + length
    for buffer in merged:
        offsets[buffer] = offsets[_root(buffer, merged)]
    return Layout(offsets, int(placed[3].max(initial=0)))


def _lowest_gap(start: np.ndarray, stop: np.ndarray, length: int) -> int:
    """The lowest offset with ``length`` free bytes between the intervals [start, stop)."""
    order = np.argsort(start)
    reached = np.maximum.accumulate(np.concatenate([[0], stop[order]]))
    fits = np.flatnonzero(reached[:-1] + length <= start[order])
    return int(reached[fits[0]] if fits.size else reached[-1])


def _aligned(nbytes: int) -> int:
    return max(1, -(-nbytes // ALIGNMENT)) * ALIGNMENT


def _root(buffer: Buffer, merged: dict[Buffer, Buffer]) -> Buffer:
    while buffer in merged:
        buffer = merged[buffer]
    return buffer


def _overwriting(program: Program, alive: dict[Buffer, Lifetime]) -> dict[Buffer, Buffer]:
    """Which temporaries take the place of which: outputs of pointwise operations, of dying operands."""
    merged: dict[Buffer, Buffer] = {}
    for k, operation in enumerate(program.operations):
        if operation.into or not isinstance(operation.primitive, Pointwise):
            continue
        taken: set[Buffer] = set()
        for out in operation.outputs:
            if out.buffer not in alive or alive[out.buffer].first != k or not _fills(out):
                continue
            for x in operation.inputs:
                if x.buffer not in taken and _may_give_way(x, out, operation, k, alive):
                    merged[out.buffer] = x.buffer
                    taken.add(x.buffer)
                    break
    return merged


def _may_give_way(
    x: Window, out: Window, operation: Operation, k: int, alive: dict[Buffer, Lifetime]
) -> bool:
    """Whether operand ``x`` dies here and lies exactly as ``out`` will."""
    same_layout = x.shape == out.shape and x.strides == out.strides and x.dtype.itemsize == out.dtype.itemsize
    if not same_layout or x.buffer not in alive or not _fills(x) or x.dtype != out.dtype:
        return False
    uses = [window for window in operation.inputs if window.buffer is x.buffer]
    return alive[x.buffer].last == k and alive[x.buffer].first < k and all(use == x for use in uses)


def _fills(window: Window) -> bool:
    return window.offset == 0 and window.nbytes == window.buffer.nbytes


@contextlib.contextmanager
def without_idle_memory() -> Iterator[None]:
    """Give back what runs so far needed, and at once what is freed within the block.

    So a recorded run, beside which the recorder and its program need memory, needs no more than others.
    """
    pool = sys.modules.get("nbdl.backend.numba.pool")
    if pool is None:
        yield
        return
    pool.clear()
    with pool.keeping_nothing():
        yield
    pool.clear()
