"""Matrix products of the Numba backend: NumPy's semantics, planned for the kernel of `nbdl.kernels.cpu.gemm`.

A plan sees the operands as up to two batch axes of matrices with any strides. Batch axes that all operands
walk alike are merged, a batch that shares its right operand becomes rows of one product, and a product of one
row is computed as its transpose. What the kernel does not do (integers, half precision, empty operands, a
batch of more axes) is NumPy's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.epilogues import Epilogue
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.reduction import plan_reduce
from nbdl.backend.numba.stages import plans_in_a_row, scratch_memory
from nbdl.formula import IDENTITY
from nbdl.kernels.cpu import gemm
from nbdl.kernels.cpu.microkernel import make_tile_table, tile_shape, tile_table_words

__all__ = [
    "Epilogue",
    "plan_ending_linear",
    "plan_ending_matmul",
    "plan_linear",
    "plan_linear_gradients",
    "plan_matmul",
    "plan_product",
    "tile_table",
]

Array = NDArray[Any]

_TASK_NANOSECONDS = 25_000  # a task must take that long: waking a thread that sleeps takes twice as long
_FLOPS_PER_NANOSECOND = {4: 200, 8: 100}  # of one core, by itemsize
_BYTES_PER_NANOSECOND = 30
_PACKING = 8  # cost of packing an element, in multiply-adds
_BATCH_AXES = 2
_LONG_SUM, _MUCH_PADDING = 256, 1.25  # from where a transposed product pays


# ---- Planners ----


def plan_matmul(inputs: Sequence[Array], outs: Sequence[Array] | None = None) -> Plan | None:
    """Plans `a @ b` for the inputs (a, b), see `plan_product`."""
    a, b = inputs
    return _plan_into(a, b, None, inputs, outs)


def plan_linear(inputs: Sequence[Array], outs: Sequence[Array] | None = None) -> Plan | None:
    """Plans `x @ weight.T + bias` for the inputs (x, weight) or (x, weight, bias), see `plan_product`.

    Shapes: x (..., inputs), weight (outputs, inputs), bias (outputs,).
    """
    x, weight, *bias = inputs
    return _plan_into(x, weight.T, bias[0] if bias else None, inputs, outs)


def plan_ending_matmul(
    inputs: Sequence[Array],
    outs: Sequence[Array] | None,
    *,
    transpose_a: bool,
    transpose_b: bool,
    epilogue: Epilogue,
) -> Plan | None:
    """Plans a product with an epilogue; None also where its kernel cannot call one."""
    a, b = inputs
    a, b = a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b
    return plan_product(a, b, epilogue=epilogue) if outs is None else None


def plan_ending_linear(
    inputs: Sequence[Array], outs: Sequence[Array] | None, *, epilogue: Epilogue
) -> Plan | None:
    """Plans a linear layer with an epilogue; None also where its kernel cannot call one."""
    x, weight, *bias = inputs
    return plan_product(x, weight.T, bias[0] if bias else None, epilogue=epilogue) if outs is None else None


def plan_linear_gradients(
    inputs: Sequence[Array], outs: Sequence[Array] | None = None, *, needs: int
) -> Plan | None:
    """Plans the gradients of `linear`: the products and the sum in a row, as one plan."""
    gradient = inputs[0]
    if outs is not None:
        return None
    parts: list[tuple[Plan | None, tuple[int, ...]]] = []
    remaining = iter(range(1, len(inputs)))
    if needs & 1:
        k = next(remaining)
        parts.append((plan_product(gradient, inputs[k]), (0, k)))
    if needs & 2:
        k = next(remaining)
        parts.append((plan_product(gradient.T, inputs[k]), (0, k)))
    if needs & 4:
        total = plan_reduce([gradient], None, formula=IDENTITY, kind="sum", axes=(0,), keepdims=False, weak=0)
        parts.append((total, (0,)))
    plans = [(plan, positions) for plan, positions in parts if plan is not None]
    return plans_in_a_row(plans, len(inputs)) if len(plans) == len(parts) else None


def _plan_into(
    a: Array, b: Array, bias: Array | None, inputs: Sequence[Array], outs: Sequence[Array] | None
) -> Plan | None:
    if outs is None:
        return plan_product(a, b, bias)
    (out,) = outs
    if any(x is out for x in inputs):
        return None  # NumPy computes the product elsewhere first
    return plan_product(a, b, bias, out=out)


def plan_product(
    a: Array,
    b: Array,
    bias: Array | None = None,
    *,
    out: Array | None = None,
    accumulate: bool = False,
    epilogue: Epilogue | None = None,
    keep: Any = None,
) -> Plan | None:
    """A plan of `a @ b + bias`, to be launched with (a, b, result) or (a, b, bias, result).

    Args:
        a: Shape (..., m, k), or (k,); any strides. Only dtype, shape and strides matter, not the values.
        b: Shape (..., k, n), or (k,).
        bias: Shape (n,), contiguous, or None.
        out: Array like the result, if it is not to be allocated in C order.
        accumulate: Add to the result what it holds; needs `out`, excludes `bias`.
        epilogue: What is called on finished blocks of the result, all axes but the last counted as one.
        keep: Objects that must live as long as the plan.

    Returns:
        The plan, or None where NumPy has to compute the product: dtypes other than one of float32 and
        float64, shapes that do not fit or are empty, strides that are no multiples of the item, a batch with
        more than two axes after merging; with an epilogue also vectors, and what is computed transposed.
    """
    operands = [operand for operand in (a, b, bias, out) if operand is not None]
    if not _is_supported(operands) or a.ndim == 0 or b.ndim == 0:
        return None
    shape = _result_shape(a, b)
    if shape is None or 0 in shape or a.shape[-1] == 0:
        return None
    if bias is not None and (bias.shape != shape[-1:] or b.ndim == 1 or bias.strides != (bias.itemsize,)):
        return None
    if out is not None and out.shape != shape:
        return None
    c_strides = _elements(out) if out is not None else _contiguous_strides(shape)
    product = _simplify(_describe(a, b, shape, c_strides))
    if len(product.batch) > _BATCH_AXES or (product.c_column != 1 < product.columns and product.rows > 1):
        return None
    dtype, is_plain = a.dtype, bias is None and not accumulate
    lanes = tile_shape(dtype).lanes
    if _is_better_transposed(product, lanes, is_plain):
        product = _transposed(product)
    if epilogue is not None and (product.is_transposed or product.is_gemv):
        return None
    tasks = _tasks(product, dtype.itemsize)
    rows, columns = _steps(product, tasks, lanes)
    units = product.matrices * -(-product.rows // rows) * -(-product.columns // columns)
    task_bytes = gemm.scratch_bytes(dtype)
    if product.c_column != 1:
        task_bytes += -(-rows * columns * dtype.itemsize // 64) * 64
    tiles, scratch = tile_table(dtype), scratch_memory(tasks * task_bytes)
    start = gemm.START_BIAS if bias is not None else gemm.START_C if accumulate else gemm.START_ZERO
    words = {
        gemm.START: start,
        gemm.START_ROW: int(product.is_transposed),  # the bias, which becomes a column
        gemm.SWAPPED: int(product.is_transposed),
        gemm.ROWS: product.rows,
        gemm.COLUMNS: product.columns,
        gemm.DEPTH: product.depth,
        gemm.A_ROW: product.a_row,
        gemm.A_DEPTH: product.a_depth,
        gemm.B_DEPTH: product.b_depth,
        gemm.B_COLUMN: product.b_column,
        gemm.C_ROW: product.c_row,
        gemm.C_COLUMN: product.c_column,
        gemm.ROW_STEP: rows,
        gemm.COLUMN_STEP: columns,
        gemm.SCRATCH: scratch.ctypes.data,
        gemm.SCRATCH_STRIDE: task_bytes,
        gemm.TILES: tiles.ctypes.data,
        gemm.EPILOGUE: epilogue.kernel if epilogue else 0,
        gemm.EPILOGUE_ARGS: epilogue.arguments if epilogue else 0,
    }
    outer, inner = ((_Axis(1, 0, 0, 0),) * _BATCH_AXES + product.batch)[-_BATCH_AXES:]
    words |= {gemm.INNER_BATCH: inner.length}
    words |= {gemm.A_OUTER: outer.a, gemm.B_OUTER: outer.b, gemm.C_OUTER: outer.c}
    words |= {gemm.A_INNER: inner.a, gemm.B_INNER: inner.b, gemm.C_INNER: inner.c}
    inputs = 2 if bias is None else 3
    return Plan(
        _kernel(dtype, product.is_gemv),
        inputs=inputs,
        outputs=(OutputSpec(shape, dtype),),
        arguments=[words.get(k, 0) for k in range(inputs + 1, gemm.WORDS)],
        rows=units,
        tasks=tasks,
        keep=(scratch, tiles, keep),
    )


# ---- Products as the kernel sees them ----


class _Axis(NamedTuple):
    """A batch axis: its length and the strides of the operands, in elements."""

    length: int
    a: int
    b: int
    c: int


@dataclass(frozen=True)
class _Product:
    """C[rows, columns] = A[rows, depth] @ B[depth, columns] for a batch; strides in elements."""

    rows: int
    columns: int
    depth: int
    a_row: int
    a_depth: int
    b_depth: int
    b_column: int
    c_row: int
    c_column: int
    is_transposed: bool
    batch: tuple[_Axis, ...]

    @property
    def is_gemv(self) -> bool:
        return gemm.is_gemv(self.columns, self.a_row, self.a_depth, self.b_depth, self.c_row)

    @property
    def matrices(self) -> int:
        return int(np.prod([axis.length for axis in self.batch], dtype=np.int64))


def _is_supported(operands: list[Array]) -> bool:
    dtype = operands[0].dtype
    return dtype in (np.float32, np.float64) and all(
        type(x) is np.ndarray
        and x.dtype == dtype
        and x.dtype.isnative
        and x.flags.aligned
        and all(stride % x.itemsize == 0 for stride in x.strides)
        for x in operands
    )


def _result_shape(a: Array, b: Array) -> tuple[int, ...] | None:
    if a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        return None
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return None
    return batch + a.shape[-2:-1] + (b.shape[-1:] if b.ndim > 1 else ())


def _elements(x: Array) -> tuple[int, ...]:
    return tuple(stride // x.itemsize for stride in x.strides)


def _contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape)))


def _describe(a: Array, b: Array, shape: tuple[int, ...], c_strides: tuple[int, ...]) -> _Product:
    """The product as NumPy defines it: vectors get an axis of length 1, batches are broadcast."""
    a_strides, b_strides = _elements(a), _elements(b)
    a_shape = a.shape
    if a.ndim == 1:
        a_shape, a_strides = (1,) + a_shape, (0,) + a_strides
    b_shape = b.shape
    if b.ndim == 1:
        b_shape, b_strides = b_shape + (1,), b_strides + (1,)
    c_matrix = list(c_strides[len(c_strides) - (a.ndim > 1) - (b.ndim > 1) :])
    c_batch = c_strides[: len(c_strides) - len(c_matrix)]
    c_row = c_matrix.pop(0) if a.ndim > 1 else 0
    c_column = c_matrix.pop(0) if b.ndim > 1 else 1
    lengths = shape[: len(c_batch)]
    a_batch, b_batch = _broadcast(a_shape, a_strides, lengths), _broadcast(b_shape, b_strides, lengths)
    return _Product(
        rows=a_shape[-2],
        columns=b_shape[-1],
        depth=a_shape[-1],
        a_row=a_strides[-2],
        a_depth=a_strides[-1],
        b_depth=b_strides[-2],
        b_column=b_strides[-1] if b_shape[-1] > 1 else 1,
        c_row=c_row,
        c_column=c_column if b_shape[-1] > 1 else 1,
        is_transposed=False,
        batch=tuple(_Axis(*axis) for axis in zip(lengths, a_batch, b_batch, c_batch)),
    )


def _broadcast(shape: tuple[int, ...], strides: tuple[int, ...], lengths: tuple[int, ...]) -> list[int]:
    """Strides of the batch axes; 0 where the operand has length 1 or lacks the axis."""
    own = [0 if n == 1 else stride for n, stride in zip(shape[:-2], strides[:-2])]
    return [0] * (len(lengths) - len(own)) + own


def _simplify(product: _Product) -> _Product:
    """Merges batch axes and turns a batch into rows, where the strides allow it."""
    axes: list[_Axis] = []
    for axis in product.batch:
        if axis.length == 1:
            continue
        if axes and all(axes[-1][k] == axis.length * axis[k] for k in (1, 2, 3)):
            axis = _Axis(axes.pop().length * axis.length, *axis[1:])
        axes.append(axis)
    while axes and axes[-1].b == 0:
        last = axes[-1]
        if product.rows == 1:
            product = replace(product, rows=last.length, a_row=last.a, c_row=last.c)
        elif (last.a, last.c) == (product.rows * product.a_row, product.rows * product.c_row):
            product = replace(product, rows=product.rows * last.length)
        else:
            break
        axes.pop()
    return replace(product, batch=tuple(axes))


def _is_better_transposed(product: _Product, lanes: int, is_plain: bool) -> bool:
    """Whether C^T = B^T A^T is quicker: C is one row, or its rows leave lanes idle and its columns do not.

    In the second case C^T is computed in scratch memory, which long sums make up for.
    """
    if product.rows == 1:
        return product.columns > 1
    if not is_plain or product.a_row != 1 or product.depth < _LONG_SUM:
        return False
    return _padding(product.columns, lanes) > _MUCH_PADDING * _padding(product.rows, lanes)


def _padding(n: int, lanes: int) -> float:
    """Lanes that a row of n elements takes, relative to n."""
    return -(-n // lanes) * lanes / n


def _transposed(product: _Product) -> _Product:
    """The transpose of a product; of one row: a matrix times a vector."""
    is_row = product.rows == 1
    return replace(
        product,
        rows=product.columns,
        columns=product.rows,
        a_row=product.b_column,
        a_depth=product.b_depth,
        b_depth=product.a_depth,
        b_column=1 if is_row else product.a_row,
        c_row=product.c_column,
        c_column=1 if is_row else product.c_row,
        is_transposed=True,
        batch=tuple(_Axis(axis.length, axis.b, axis.a, axis.c) for axis in product.batch),
    )


# ---- Splitting the work ----


def _tasks(product: _Product, itemsize: int) -> int:
    """How many tasks are worth their start."""
    m, n, k = product.rows, product.columns, product.depth
    flops = 2 * product.matrices * m * n * k
    moved = product.matrices * (m * k + k * n + m * n) * itemsize
    nanoseconds = max(flops / _FLOPS_PER_NANOSECOND[itemsize], moved / _BYTES_PER_NANOSECOND)
    return max(1, min(threads.get_num_threads(), int(nanoseconds // _TASK_NANOSECONDS)))


def _steps(product: _Product, tasks: int, lanes: int) -> tuple[int, int]:
    """Rows and columns of a unit such that the busiest of `tasks` has the least to do."""
    m, n, k = product.rows, product.columns, product.depth

    def cost(row_blocks: int) -> tuple[float, int, int]:
        return min(map(partial(cost_of_grid, row_blocks), range(1, 1 + column_limit(row_blocks))))

    def column_limit(row_blocks: int) -> int:
        return max(1, 2 * tasks // row_blocks)

    def cost_of_grid(row_blocks: int, column_blocks: int) -> tuple[float, int, int]:
        height = -(-m // row_blocks)
        width = n if column_blocks == 1 else -(-n // (column_blocks * lanes)) * lanes
        units = product.matrices * -(-m // height) * -(-n // width)
        work = k * (max(height, 4) * max(width, lanes) + _PACKING * (height + width))
        return -(-units // tasks) * work, height, width

    _, height, width = min(cost(row_blocks) for row_blocks in range(1, tasks + 1))
    return height, width


# ---- Kernels ----


@cache
def _kernel(dtype: np.dtype[Any], is_gemv: bool) -> int:
    name, make = ("gemv", gemm.make_gemv) if is_gemv else ("gemm", gemm.make_gemm)
    return compile_kernel(f"{name}_{dtype}", lambda: make(dtype), f"{name} {dtype}")


@cache
def tile_table(dtype: DTypeLike) -> NDArray[np.int64]:
    """The table of micro-kernels of a dtype (`nbdl.kernels.cpu.microkernel.make_tile_table`); lives for ever.

    Raises:
        TypeError: The dtype is not float32 or float64.
    """
    dtype = np.dtype(dtype)
    address = compile_kernel(f"tiles_{dtype}", lambda: make_tile_table(dtype), f"tiles {dtype}")
    table = np.zeros(tile_table_words(dtype), np.int64)
    fill = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(address)
    fill(table.ctypes.data, 0, 1, 0)
    return table
