"""Several kernels in a row, each split over the threads: one plan where a result needs a barrier.

A staged kernel sums in parallel, then finishes in parallel what needs the whole sum. Its stages share one
argument block, laid out as

    words [0, MAX_OPERANDS)          data addresses of the operands
    words [STATE, FIRST_WORD)        what `run_stages` reads
    words [FIRST_WORD, ...)          the integers of the kernels
"""

from __future__ import annotations

from nbdl.kernels.cpu.launcher import run_region
from nbdl.kernels.cpu.memory import load_int64, stack_int64, store_int64

MAX_OPERANDS = 8
MAX_STAGES = 3
STATE = MAX_OPERANDS  # address of the launcher's state
COUNT = STATE + 1  # number of stages
TABLE = STATE + 2  # kernel, rows and tasks of each stage
FIRST_WORD = TABLE + 3 * MAX_STAGES


def run_stages(args: int, lo: int, hi: int, task: int) -> None:
    """The kernel that runs the stages; it has a single row and does not care about it."""
    instruction = stack_int64(2)
    store_int64(instruction, 1, args)
    state = load_int64(args, STATE)
    for stage in range(load_int64(args, COUNT)):
        store_int64(instruction, 0, load_int64(args, TABLE + 3 * stage))
        rows, tasks = load_int64(args, TABLE + 3 * stage + 1), load_int64(args, TABLE + 3 * stage + 2)
        run_region(state, instruction, 1, rows, tasks)
