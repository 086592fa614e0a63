"""Recurrent networks of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.recurrent`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.cells import CELLS, Cell
from nbdl.backend.numba import threads
from nbdl.backend.numba.codegen import CONTIGUOUS, Operand, formula_body
from nbdl.backend.numba.compiler import FASTMATH_REASSOC, compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.matmul import tile_table
from nbdl.backend.numba.stages import Stage, scratch_memory, staged_plan
from nbdl.formula import Formula
from nbdl.kernels.cpu import math as cpu_math
from nbdl.kernels.cpu import recurrent as kernel
from nbdl.kernels.cpu.aliasing import Block, over_blocks
from nbdl.kernels.cpu.microkernel import tile_shape
from nbdl.kernels.cpu.panels import packed_elements

__all__ = ["plan_recurrent", "plan_recurrent_input"]

Array = NDArray[Any]

_TASK_FLOPS = 4_000_000  # below which a task is not worth its start
_TASK_SEQUENCES = 4  # with fewer, a task reads the weights for too little work


# ---- Planners ----


def plan_recurrent(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    cell: str,
    batch_first: bool,
    reverse: bool,
    has_bias: bool,
    keep: bool,
) -> Plan | None:
    """Plans a layer in one direction, or returns None where NumPy has to do it."""
    kind = CELLS[cell]
    x, hidden, *rest = inputs
    weight = inputs[1 + kind.states]
    sizes = rest[kind.states + has_bias :]
    if outputs is not None or not _is_supported(inputs, sizes):
        return None
    n, dtype = hidden.shape[1], x.dtype
    specs = [OutputSpec((*x.shape[:2], n), dtype), *[OutputSpec(hidden.shape, dtype)] * kind.states]
    if keep:
        widths = [kind.saved, *[1] * kind.states]
        specs += [OutputSpec((*x.shape[:2], width * n), dtype) for width in widths]
    out, cells = len(inputs), kind.states > 1
    places = {kernel.X: 0, kernel.HIDDEN_IN: 1, kernel.WEIGHT: 1 + kind.states}
    places |= {kernel.HIDDEN: out, kernel.HIDDEN_OUT: out + 1}
    if cells:
        places |= {kernel.CELL_IN: 2, kernel.CELL_OUT: out + 2}
    if has_bias:
        places[kernel.BIAS] = 2 + kind.states
    if sizes:
        places[kernel.SIZES] = out - 1
    if keep:
        saved = out + 1 + kind.states
        places |= {kernel.SAVED: saved, kernel.HIDDEN_LOG: saved + 1}
        if cells:
            places[kernel.CELL_LOG] = saved + 2
    return _plan(
        kind, x, weight, batch_first, reverse, places=places, inputs=len(inputs), outputs=specs,
        is_forward=True,
    )  # fmt: skip


def plan_recurrent_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    cell: str,
    batch_first: bool,
    reverse: bool,
) -> Plan | None:
    """Plans the gradient of a layer in one direction, or returns None where NumPy has to do it."""
    kind = CELLS[cell]
    g, hidden = inputs[:2]
    weight_at = 2 + kind.states + (kind.memory is not None)
    weight, *sizes = inputs[weight_at:]
    if outputs is not None or not _is_supported(inputs, sizes):
        return None
    n, dtype = hidden.shape[1], g.dtype
    wide = OutputSpec((*g.shape[:2], kind.blocks * n), dtype)
    specs = [*[wide] * (1 + kind.splits), *[OutputSpec(hidden.shape, dtype)] * kind.states]
    out = len(inputs)
    states = out + 1 + kind.splits
    places = {kernel.X: 0, kernel.HIDDEN_IN: 1, kernel.SAVED: 1 + kind.states, kernel.WEIGHT: weight_at}
    places |= {kernel.X_GRADIENT: out, kernel.HIDDEN_OUT: states}
    if kind.states > 1:
        places |= {kernel.CELL_IN: 2, kernel.CELL_OUT: states + 1}
    if kind.memory is not None:
        places[kernel.MEMORY] = weight_at - 1
    if kind.splits:
        places[kernel.U_GRADIENT] = out + 1
    if sizes:
        places[kernel.SIZES] = out - 1
    return _plan(
        kind, g, weight, batch_first, reverse, places=places, inputs=len(inputs), outputs=specs,
        is_forward=False,
    )  # fmt: skip


def _is_supported(inputs: Sequence[Array], sizes: Sequence[Array]) -> bool:
    dtype = inputs[0].dtype
    reals = inputs[: len(inputs) - len(sizes)]
    return (
        dtype in (np.float32, np.float64)
        and is_plain(reals, dtype)
        and is_plain(sizes, np.dtype(np.int64))
        and all(array.flags.c_contiguous for array in inputs)
    )


def _plan(
    kind: Cell,
    x: Array,
    weight: Array,
    batch_first: bool,
    reverse: bool,
    *,
    places: dict[int, int],
    inputs: int,
    outputs: Iterable[OutputSpec],
    is_forward: bool,
) -> Plan:
    """Two stages: the weights are packed, then every task takes its sequences through all steps."""
    dtype, (wide, n) = x.dtype, weight.shape
    batch, length = x.shape[:2] if batch_first else x.shape[1::-1]
    depth, columns = (n, wide) if is_forward else (wide, n)
    tasks = min(threads.get_num_threads(), batch // _TASK_SEQUENCES)
    tasks = max(1, min(tasks, 2 * length * batch * wide * n // _TASK_FLOPS))
    parts = (packed_elements(depth, columns, dtype), batch * wide, tasks * kind.saved * n)
    bytes_of_parts = [-(-part * dtype.itemsize // 64) * 64 for part in parts]
    scratch, tiles = scratch_memory(sum(bytes_of_parts)), tile_table(dtype)
    packed, product, rows = scratch.ctypes.data + np.cumsum([0, *bytes_of_parts[:-1]])
    words = dict.fromkeys(range(kernel.X, kernel.U_GRADIENT + 1), -1) | places
    words |= {
        kernel.LENGTH: length,
        kernel.UNITS: n,
        kernel.BLOCKS: kind.blocks,
        kernel.SAVED_BLOCKS: kind.saved,
        kernel.TIME_STEP: 1 if batch_first else batch,
        kernel.BATCH_STEP: length if batch_first else 1,
        kernel.REVERSE: int(reverse),
        kernel.IS_FORWARD: int(is_forward),
        kernel.ADDS: int(kind.memory == 0),
        kernel.PACKED: int(packed),
        kernel.PRODUCT: int(product),
        kernel.ROWS: int(rows),
        kernel.TILES: tiles.ctypes.data,
    }
    panels = -(-columns // tile_shape(dtype).columns)
    steps = _forward_kernel if is_forward else _backward_kernel
    stages = [Stage(_pack_kernel(dtype), panels, tasks), Stage(steps(kind, dtype), batch, tasks)]
    return staged_plan(stages, inputs=inputs, outputs=outputs, words=words, keep=(scratch, tiles))


# ---- Kernels ----


@cache
def _pack_kernel(dtype: np.dtype[Any]) -> int:
    return compile_kernel(f"pack_weights_{dtype}", lambda: kernel.make_pack(dtype), f"pack_weights {dtype}")


@cache
def _forward_kernel(cell: Cell, dtype: np.dtype[Any]) -> int:
    blocks = range(cell.blocks)
    states = ["h", "c"][: cell.states]
    memory = [] if cell.memory is None else [(states[cell.memory], 0)]
    operands = [*[("x", k) for k in blocks], *[("u", k) for k in blocks], *memory]
    results = [*[[("saved", k)] for k in range(cell.saved)], *[[(state, 0)] for state in states]]
    row = _row(cell.step, ["x", "u", "h", "c", "saved"], operands, results, dtype)
    name = f"{cell.name}_{dtype}"
    return compile_kernel(name, lambda: kernel.make_forward(dtype, row.function(name, dtype)), row.source)


@cache
def _backward_kernel(cell: Cell, dtype: np.dtype[Any]) -> int:
    blocks = range(cell.blocks)
    states = ["h", "c"][: cell.states]
    memory = [] if cell.memory is None else [("m", 0)]
    operands = [*[("saved", k) for k in range(cell.saved)], *memory]
    operands += [*[(state, 0) for state in states], ("g", 0)]
    if cell.splits:
        results = [*[[("gx", k)] for k in blocks], *[[("gu", k), ("product", k)] for k in blocks]]
    else:
        results = [[("gx", k), ("product", k)] for k in blocks]
    if cell.memory is not None:
        results.append([(states[cell.memory], 0)])
    addresses = ["saved", "m", "g", "h", "c", "gx", "gu", "product"]
    row = _row(cell.gradient, addresses, operands, results, dtype)
    name = f"{cell.name}_gradient_{dtype}"
    return compile_kernel(name, lambda: kernel.make_backward(dtype, row.function(name, dtype)), row.source)


# ---- A formula over one row ----


class _Row(NamedTuple):
    """A formula over rows of n elements, as code.

    Attributes:
        source: of a function of arrays, `elements`.
        blocks: where the arrays are.
        addresses: names of the addresses from which the blocks are counted.
    """

    source: str
    blocks: tuple[Block, ...]
    addresses: tuple[str, ...]

    def function(self, name: str, dtype: np.dtype[Any]) -> Any:
        """The compiled form, for kernels to call: `row(*addresses, n)`."""
        namespace: dict[str, Any] = {"m": cpu_math, "real": dtype.type, "truth": np.bool_}
        exec(compile(self.source, f"<kernel {name}>", "exec"), namespace)
        return over_blocks(namespace["elements"], self.blocks, self.addresses, dtype, FASTMATH_REASSOC)


def _row(
    formula: Formula,
    addresses: Sequence[str],
    operands: Sequence[Block],
    results: Sequence[Sequence[Block]],
    dtype: np.dtype[Any],
) -> _Row:
    """The code of a formula.

    Args:
        formula: the formula.
        addresses: names of the addresses.
        operands: where each operand is.
        results: where each output goes, to one place or several.
        dtype: of all elements.
    """
    names = {block: f"{block[0]}_{block[1]}" for places in ([*operands], *results) for block in places}
    inputs = [Operand(f"x{k}", dtype, CONTIGUOUS) for k in range(formula.arity)]
    body = formula_body(formula, inputs, {f"x{k}": f"x{k}" for k in range(formula.arity)}, dtype)
    lines = [f"def elements({', '.join(names.values())}):", f"    for j in range({names[operands[0]]}.size):"]
    lines += [f"        x{k} = {names[block]}[j]" for k, block in enumerate(operands)]
    lines += [f"        {line}" for line in body.inside]
    for places, result in zip(results, body.results, strict=True):
        lines += [f"        {names[block]}[j] = {result}" for block in places]
    return _Row("\n".join(lines) + "\n", tuple(names), tuple(addresses))
