"""What kernels along one axis share: an operand is seen as lines, the elements along the axis.

A line starts where the loops over all other axes lead. Where neighbouring lines are neighbours in memory, in
every operand, a kernel runs across them: a block of lines is computed at once, one vector operation for each
position of the axis. Else it runs along one line after the other.
"""

from __future__ import annotations

from nbdl.kernels.cpu.frontend import subroutine
from nbdl.kernels.cpu.memory import load_int64

MAX_OPERANDS = 4  # the last one may only be operand 0 again, overwritten
MAX_LOOPS = 6
# Words of the argument block behind the addresses of at most MAX_OPERANDS operands; strides count elements.
(
    LENGTH,  # of a line of operand 0
    COLUMNS,  # lines that are neighbours; 1 where a kernel runs along lines
    LOOPS,  # number of loops over the other axes
    SIZE,  # further words, whose meaning the kernel decides
    FAILURE,
    SCRATCH,
    SCRATCH_STRIDE,
    FLAG,
) = range(MAX_OPERANDS, MAX_OPERANDS + 8)
STARTS = FLAG + 1  # elements from the address of an operand to its first line, a word an operand
AXIS_STRIDES = STARTS + MAX_OPERANDS  # a word an operand
LENGTHS = AXIS_STRIDES + MAX_OPERANDS  # of the loops
LOOP_STRIDES = LENGTHS + MAX_LOOPS  # MAX_LOOPS words an operand

BLOCK = 256  # neighbouring lines that are computed at once


@subroutine
def _line_offset(args, operand, line):
    """Elements from the address of an operand to a line."""
    offset = load_int64(args, STARTS + operand)
    strides = LOOP_STRIDES + operand * MAX_LOOPS
    for loop in range(load_int64(args, LOOPS) - 1, -1, -1):
        length = load_int64(args, LENGTHS + loop)
        offset += line % length * load_int64(args, strides + loop)
        line //= length
    return offset


@subroutine
def axis_step(args, operand):
    """Elements from one position of a line to the next."""
    return load_int64(args, AXIS_STRIDES + operand)


def make_line_kernel(sizes, run):
    """A kernel whose rows are lines, or blocks of `BLOCK` neighbouring lines.

    Args:
        sizes: Bytes of an element of each operand, at most three.
        run: Compiled function `(args, x, y, z, width, task)` that computes `width` neighbouring lines; `x`,
            `y`, `z` are the addresses of the operands' first lines.
    """
    x_size, y_size, z_size = (*sizes, 0, 0)[:3]

    def lines(args, lo, hi, task):
        columns = load_int64(args, COLUMNS)
        blocks = (columns + BLOCK - 1) // BLOCK
        for unit in range(lo, hi):
            line = unit // blocks
            first = (unit - line * blocks) * BLOCK
            x = load_int64(args, 0) + (_line_offset(args, 0, line) + first) * x_size
            y = load_int64(args, 1) + (_line_offset(args, 1, line) + first) * y_size
            z = load_int64(args, 2) + (_line_offset(args, 2, line) + first) * z_size
            run(args, x, y, z, min(BLOCK, columns - first), task)

    return lines
