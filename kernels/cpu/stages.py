"""Several kernels or plans in a row as one plan.

Kernels in a row, each split over the threads, are where a result needs a barrier.

A staged kernel sums in parallel, then finishes in parallel what needs the whole sum. Its stages share one
argument block, laid out as

    words [0, MAX_OPERANDS)          data addresses of the operands
    words [STATE, FIRST_WORD)        what `run_stages` reads
    words [FIRST_WORD, ...)          the integers of the kernels

Plans in a row are what one call should do although their kernels know nothing of each other, such as all
gradients of a layer. Behind STATE and COUNT stand, for each plan, the address of its block and the positions
of its operands among the shared ones.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.launcher import HEADER_OPERANDS, HEADER_WORDS, run_block, split
from nbdl.kernels.cpu.memory import call_kernel, load_int64, store_int64

MAX_OPERANDS = 16
MAX_STAGES = 3
STATE = MAX_OPERANDS  # address of the launcher's state
COUNT = STATE + 1  # number of stages
SCRATCH = STATE - 1  # address of memory that plans in a row share, or an operand
TABLE = STATE + 2  # kernel, rows and tasks of each stage
FIRST_WORD = TABLE + 3 * MAX_STAGES


def run_stages(args: int, lo: int, hi: int, task: int) -> None:
    """The kernel that runs the stages; it has a single row and does not care about it."""
    state = load_int64(args, STATE)
    for stage in range(load_int64(args, COUNT)):
        kernel, rows = load_int64(args, TABLE + 3 * stage), load_int64(args, TABLE + 3 * stage + 1)
        split(state, kernel, args, rows, load_int64(args, TABLE + 3 * stage + 2))


@subroutine
def _bind(args: int, plan: int) -> int:
    """Writes the addresses of the operands into the block of a plan; where the next plan stands."""
    block = load_int64(plan, 0)
    operands = load_int64(block, HEADER_OPERANDS)
    for i in range(operands):
        store_int64(block, HEADER_WORDS + i, load_int64(args, load_int64(plan, 1 + i)))
    return plan + 8 * (1 + operands)


def run_plans(args: int, lo: int, hi: int, task: int) -> None:
    """The kernel that runs plans in a row; it has a single row and does not care about it."""
    state, plan = load_int64(args, STATE), args + 8 * TABLE
    for _ in range(load_int64(args, COUNT)):
        block = load_int64(plan, 0)
        plan = _bind(args, plan)
        run_block(state, block)


def run_with_epilogue(args: int, lo: int, hi: int, task: int) -> None:
    """The kernel that runs the first of two plans, whose kernel calls that of the second."""
    product = args + 8 * TABLE
    _bind(args, _bind(args, product))
    run_block(load_int64(args, STATE), load_int64(product, 0))


SEGMENTS = 1  # behind their count: kernel, argument block and first row of each; the last one only has a row
SEGMENT_WORDS = 3


def run_side_by_side(args: int, lo: int, hi: int, task: int) -> None:
    """The kernel that computes rows of several plans, numbered through from the first plan to the last."""
    for k in range(load_int64(args, 0)):
        segment = args + 8 * (SEGMENTS + SEGMENT_WORDS * k)
        first = load_int64(segment, 2)
        start, stop = max(lo, first), min(hi, load_int64(segment, SEGMENT_WORDS + 2))
        if start < stop:
            call_kernel(load_int64(segment, 0), load_int64(segment, 1), start - first, stop - first, task)
