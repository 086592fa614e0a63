"""The driver of recorded programs: walks a table of plans, nothing of Python between two kernels.

Words of the table (int64):

    STATE    address of the launcher's state
    FAILED   number of the plan at which the run ended, counted from 1; 0 if it did not fail
    ARRAYS   how many arrays a call binds (arguments, then results)
    BLOCKS   how many plans run
    then for each array the number of its uses, and for each use the address of the word of an argument block
    and the byte offset in the array
    then the addresses of the plans' blocks, in the order in which they run
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.launcher import (
    ARRAY_DATA,
    STATE_FAILED,
    STATE_FAILURE,
    STATE_LAUNCH,
    STATE_NONE,
    call_python,
    is_array,
    new_reference,
    run_block,
)
from nbdl.kernels.cpu.memory import load_int64, store_int64

STATE = 0
FAILED = 1
ARRAYS = 2
BLOCKS = 3
USES = 4


@subroutine
def bind(table: int, args: int) -> int:
    """Writes the addresses of the arrays where they are used; gives the address of the list of blocks."""
    word = table + 8 * USES
    for k in range(load_int64(table, ARRAYS)):
        data = load_int64(load_int64(args, k), ARRAY_DATA)
        uses = load_int64(word, 0)
        word += 8
        for _ in range(uses):
            store_int64(load_int64(word, 0), 0, data + load_int64(word, 1))
            word += 16
    return word


def nothing(args: int, lo: int, hi: int, task: int) -> None:
    """The kernel of an empty parallel region."""


def replay(self: int, args: int, nargs: int) -> int:
    """`replay(*arrays) -> None`: binds the arrays and runs all plans; `self` is the array with the table."""
    table = load_int64(self, ARRAY_DATA)
    state = load_int64(table, STATE)
    fits = nargs == load_int64(table, ARRAYS)
    for k in range(nargs):
        fits &= is_array(state, load_int64(args, k))
    if not fits:
        return call_python(state, STATE_LAUNCH, args, nargs)  # which raises TypeError
    blocks = bind(table, args)
    done, count = 0, load_int64(table, BLOCKS)
    while done < count and not load_int64(state, STATE_FAILED):
        run_block(state, load_int64(blocks, done))
        done += 1
    if load_int64(state, STATE_FAILED):
        store_int64(table, FAILED, done)
        return call_python(state, STATE_FAILURE, args, 0)
    return new_reference(state, load_int64(state, STATE_NONE))
