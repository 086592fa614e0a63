"""Epilogues: what is done, element by element, with the rows of a result as soon as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from numpy.typing import NDArray

from nbdl.backend.numba.codegen import cost
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import Plan
from nbdl.backend.numba.native import state
from nbdl.backend.numba.pointwise import plan_pointwise
from nbdl.backend.numba.stages import block_words
from nbdl.kernels.cpu import launcher
from nbdl.kernels.cpu import stages as kernel

__all__ = ["Epilogue", "plan_with_epilogue"]

Array = NDArray[Any]

# Additions an element: what takes longer is bound by arithmetic, and gains nothing from the cache. With relu,
# 1.03 to 1.2 times as fast as after one another, with tanh 0.93 to 1.03 times (Zen 5, outputs of 4 to 25 MB).
_MOST_COST = 6


class Epilogue(NamedTuple):
    """A kernel that is called on finished rows of a result.

    Attributes:
        kernel: its address.
        arguments: the address of its argument block.
        rows: how many of its rows are one position of the result, all axes but the last in memory.
    """

    kernel: int
    arguments: int
    rows: int


def plan_with_epilogue(
    planner: Callable[..., Plan | None],
    inputs: Sequence[Array],
    parameters: dict[str, Any],
    pointwise: dict[str, Any],
    operands: Sequence[Array],
    out: Array,
    by_blocks: bool,
) -> Plan | None:
    """Plans a product and a pointwise operation in place on its result, or returns None.

    The plan's operands are the inputs of the product, those of the pointwise operation but for the result,
    each once, and the result.

    Args:
        planner: of the product; takes `epilogue` beside the parameters.
        inputs: of the product.
        parameters: of the product.
        pointwise: parameters of the pointwise operation.
        operands: of the pointwise operation; some are `out`.
        out: the result.
        by_blocks: the kernel of the product finishes blocks of rows and columns, else whole positions.
    """
    if cost(pointwise["formula"]) > _MOST_COST:
        return None
    step = plan_pointwise(operands, [out], **pointwise, by_blocks=by_blocks)
    if step is None:
        return None
    rows = 1 if by_blocks else _rows_of_a_position(step, len(operands) + 1, out)
    if rows == 0:
        return None
    arguments = step.block.ctypes.data + 8 * launcher.HEADER_WORDS
    product = planner(inputs, None, **parameters, epilogue=Epilogue(step.kernel, arguments, rows))
    if product is None:
        return None
    others = {id(operand): operand for operand in operands if operand is not out}
    count = len(inputs) + len(others)
    if count + 1 > kernel.MAX_OPERANDS:
        return None
    place = {key: k for k, key in enumerate(others, len(inputs))} | {id(out): count}
    table = [state().ctypes.data, 2]
    table += [product.block.ctypes.data, *range(len(inputs)), count]
    table += [step.block.ctypes.data, *[place[id(operand)] for operand in operands], count]
    return Plan(
        _run(),
        inputs=count,
        outputs=product.outputs,
        arguments=block_words(dict(enumerate(table, kernel.STATE)), count + 1),
        rows=1,
        regions=product.regions,
        keep=(state(), product, step),
    )


def _rows_of_a_position(step: Plan, operands: int, out: Array) -> int:
    """Rows of a pointwise kernel for the channels of one position; 0 if it walks through ``out`` otherwise.

    It has one loop if all operands lie alike (then a row is an element), two if rows are positions; see
    `kernel_source` in `nbdl.backend.numba.pointwise` for its arguments.
    """
    channels, words = out.shape[1], step.arguments
    if len(words) == 2 * operands + 1 and step.rows == out.size:
        return channels
    is_position = len(words) == 3 * operands + 1 and words[operands] == words[-1] == channels
    return 1 if is_position and step.rows * channels == out.size else 0


@cache
def _run() -> int:
    return compile_kernel("with_epilogue", lambda: kernel.run_with_epilogue, "product with epilogue")
