"""What masks the gradient of a maximum over windows is computed on the windows, before it is spread.

The gradient of ``max_pool(z)`` is 0 but at the positions of the maxima. An operation on it that maps 0 to 0,
such as the gradient of the relu that made ``z``, needs to be computed at these positions only: there the
gradient is that of the window, and ``z`` is the maximum. So are its sums over whole images, such as the
gradient of a bias. With windows of 2x2, that is a quarter of the elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from nbdl.compiler.program import TEMPORARY, Buffer, Operation, Program, Window, read_counts, write_counts
from nbdl.formula.expr import Expr, var
from nbdl.ops.copying import COPY
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.reduction import Reduce


def work_on_windows(program: Program) -> Program:
    """Do on the windows what can be done there, see above."""
    writes, readers = write_counts(program.operations), read_counts(program)
    numbers = count(1 + max((buffer.number for buffer in program.buffers), default=0))
    pools: dict[Buffer, Operation] = {}  # by the buffer of the positions
    scatters: dict[Buffer, Operation] = {}  # by the buffer of the result
    spread: dict[Window, Window] = {}  # what was computed on windows, by the image that is made of it
    operations: list[Operation] = []
    for operation in program.operations:
        primitive = operation.primitive
        if primitive.name == "max_pool" and _is_disjoint(operation) and not operation.into:
            pools[operation.outputs[1].buffer] = operation
        elif primitive.name == "window_scatter" and not operation.into:
            scatters[operation.outputs[0].buffer] = operation
        elif isinstance(primitive, Pointwise):
            for scatter in [scatters[w.buffer] for w in operation.inputs if w.buffer in scatters]:
                pool = pools.get(scatter.inputs[1].buffer)
                if pool is None or not _can_be_swapped(pool, scatter, operation, writes, readers):
                    continue
                operations.remove(scatter)
                *before, operation = _swapped(pool, scatter, operation, numbers)
                operations += before
                spread[operation.outputs[0]] = operation.inputs[0]
                break
        elif isinstance(primitive, Reduce) and _sums_images(primitive, operation.inputs[0].shape):
            inputs = [spread.get(window, window) for window in operation.inputs]
            operation = Operation(primitive, inputs, operation.outputs, operation.into)
        operations.append(operation)
    return program.with_operations(operations)


def _is_disjoint(pool: Operation) -> bool:
    """Whether every element is in one window at most."""
    parameters = pool.primitive.params
    steps = zip(parameters["stride"], parameters["kernel"], parameters["dilation"], strict=True)
    return all(stride >= kernel and dilation == 1 for stride, kernel, dilation in steps)


def _can_be_swapped(
    pool: Operation,
    scatter: Operation,
    operation: Operation,
    writes: dict[Buffer, int],
    readers: dict[Buffer, int],
) -> bool:
    """Whether ``operation`` may be computed before ``scatter``."""
    (z,), (value, positions), (image,) = pool.inputs, pool.outputs, scatter.outputs
    if operation.into or len(operation.outputs) > 1 or readers[image.buffer] > 1:
        return False
    (result,) = operation.outputs
    if any(window not in (z, image) and window.shape for window in operation.inputs):
        return False  # numbers may be anywhere
    touched = (z, value, positions, image, result, scatter.inputs[0])
    if any(writes.get(window.buffer, 0) > 1 for window in touched):
        return False
    same_layout = result.shape == image.shape and result.place[2:] == image.place[2:]
    is_whole = value.offset == 0 and value.nbytes == value.buffer.nbytes
    if not same_layout or not is_whole or image.buffer.kind != TEMPORARY:
        return False
    if not value.dtype == result.dtype == scatter.inputs[0].dtype:
        return False
    zeros = {var(f"x{k}") for k, window in enumerate(operation.inputs) if window == image}
    assert isinstance(operation.primitive, Pointwise)
    return _is_zero(operation.primitive.formula.outputs[0], zeros)


def _swapped(
    pool: Operation, scatter: Operation, operation: Operation, numbers: Iterator[int]
) -> list[Operation]:
    """``operation`` on the windows, then ``scatter``."""
    value, gradient = pool.outputs[0], scatter.inputs[0]
    swapped = []
    if gradient.place[2:] != value.place[2:]:  # a loop over two layouts is slower than a copy
        gradient = value.on(_like(value.buffer, next(numbers)))
        swapped.append(Operation(COPY, scatter.inputs[:1], [gradient]))
    small = value.on(_like(value.buffer, next(numbers)))
    replaced = {pool.inputs[0]: value, scatter.outputs[0]: gradient}
    inputs = [replaced.get(window, window) for window in operation.inputs]
    swapped.append(Operation(operation.primitive, inputs, [small]))
    swapped.append(Operation(scatter.primitive, [small, scatter.inputs[1]], operation.outputs))
    return swapped


def _like(buffer: Buffer, number: int) -> Buffer:
    """A temporary as large as another buffer, in the same memory."""
    return Buffer(TEMPORARY, buffer.nbytes, number, on_host=buffer.on_host)


def _is_zero(value: Expr, zeros: set[Expr]) -> bool:
    """Whether an expression is certainly 0 where these variables are."""
    if value in zeros or (value.value is not None and value.value == 0):
        return True
    if value.function is None:
        return False
    if value.function.name == "where":
        return _is_zero(value.args[1], zeros) and _is_zero(value.args[2], zeros)
    return value.function.name in ("negative", "positive") and _is_zero(value.args[0], zeros)


def _sums_images(reduction: Reduce, shape: tuple[int, ...]) -> bool:
    """Whether it adds up whole images, so that zeros between the windows do not matter."""
    is_sum = reduction.kind == "sum" and reduction.formula.is_identity
    return is_sum and set(reduction.axes) >= set(range(2, len(shape)))
