"""Reductions as compiled loops: sums and means of formulas; products, extrema, any and all of arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.numba.codegen import (
    CONTIGUOUS,
    ROW,
    SCALAR,
    STRIDED,
    Operand,
    Writer,
    accessor,
    build,
    cost,
    formula_body,
    is_supported,
    row_offsets,
)
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import (
    SERIAL_WORK,
    Nest,
    element_strides,
    memory_order,
    merge,
    row_major,
    tasks_for,
)
from nbdl.backend.numba.stages import plans_in_a_row, scratch_memory
from nbdl.backend.numpy.reduction import reduced_dtype
from nbdl.formula import IDENTITY, Formula, dtypes
from nbdl.kernels.cpu import stages as kernel

KEPT, REDUCED = 0, 1


class _Rule(NamedTuple):
    """How a kernel accumulates.

    Attributes:
        start: Code of the value before anything is accumulated.
        step: Code of the new total, with places for the total and the next value.
        accumulator: Dtype of the total; None: that of the result.
    """

    start: str
    step: str
    accumulator: np.dtype[Any] | None


def _rule(kind: str, dtype: np.dtype[Any]) -> _Rule:
    """The rule for a result of ``dtype``; float32 is summed and multiplied in float64."""
    wide = np.dtype(np.float64) if dtype.kind == "f" else np.dtype(np.int64)
    if kind in ("sum", "mean"):
        return _Rule("0", "{total} + accumulate({value})", wide)
    if kind == "prod":
        return _Rule("1", "{total} * accumulate({value})", wide)
    if kind in ("any", "all"):
        symbol, start = ("|", "0") if kind == "any" else ("&", "1")
        return _Rule(start, f"{{total}} {symbol} accumulate(truth({{value}}))", np.dtype(np.uint8))
    rising = kind == "max"
    if dtype.kind == "f":
        start = "float('-inf')" if rising else "float('inf')"
    else:
        start = str(np.iinfo(dtype).min if rising else np.iinfo(dtype).max)
    return _Rule(start, f"m.{kind}imum({{total}}, accumulate({{value}}))", None)


# Columns that are accumulated together when rows are summed: their float64 sums stay in the L1 cache.
TILE = 256
PARTS = 64  # into which what has one result is divided
_FOLDS = 2  # so many times as many rows as are folded, at least


def plan_reduce(
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray] | None,
    *,
    formula: Formula,
    kind: str,
    axes: tuple[int, ...],
    keepdims: bool,
    weak: int,
) -> Plan | None:
    """A plan for the reduction of ``formula`` over ``axes``, or None where NumPy has to do it.

    Sums and products of float32 are accumulated in float64, those of integers in int64.
    """
    _, computed, (dtype,) = dtypes.arithmetic(
        formula, tuple([x.dtype for x in inputs]), dtypes.priorities(inputs, weak)
    )
    result = reduced_dtype(kind, dtype)
    shape = np.broadcast_shapes(*[x.shape for x in inputs])
    if math.prod(shape) == 0 or (dtype == dtypes.BOOL and kind in ("max", "min", "mean")):
        return None
    if not is_supported(formula, [*[x.dtype for x in inputs], computed, result]):
        return None
    strides = [element_strides(x, shape) for x in inputs]
    if any(stride is None for stride in strides) or not all(x.flags.aligned for x in inputs):
        return None
    kept_shape = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    out_shape = tuple(1 if axis in axes else n for axis, n in enumerate(shape)) if keepdims else kept_shape
    written = _output_strides(outputs, out_shape, result)
    if written is None:
        return None
    # Loops in memory order, but kept axes of the output in their own order.
    order = memory_order(shape, strides)  # type: ignore[arg-type]
    steps_of_kept = iter(
        written if not keepdims else [written[k] for k in range(len(shape)) if k not in axes]
    )
    by_axis = [0 if axis in axes else next(steps_of_kept) for axis in range(len(shape))]
    groups = [REDUCED if axis in axes else KEPT for axis in order]
    dims = [shape[axis] for axis in order]
    steps = [[stride[axis] for axis in order] for stride in [*strides, by_axis]]  # type: ignore[index]
    nest, merged_groups = merge(dims, steps, groups)
    scale = 1.0 / math.prod(shape[axis] for axis in axes) if kind == "mean" else 1.0
    spec = OutputSpec(out_shape, result)
    is_long = math.prod(nest.dims) * cost(formula) >= SERIAL_WORK
    if is_long and KEPT not in merged_groups and len(inputs) < kernel.SCRATCH:
        return _plan_of_parts(formula, kind, inputs, nest, spec, computed, scale)
    return _plan(formula, kind, inputs, nest, merged_groups, spec, computed, scale)


def _plan_of_parts(formula, kind, inputs, nest, spec, computed, scale) -> Plan:
    """One result of many elements: parts are reduced side by side, then their results.

    There are as many parts for any number of threads, so that sums are the same.
    """
    elements = None
    if len(nest.dims) > 1:
        (count, *inner), strides = nest.dims, nest.strides[:-1]
    else:
        (elements,) = nest.dims
        inner = [-(-elements // PARTS)]
        count = -(-elements // inner[0])
        strides = [(step * inner[0], step) for (step,) in nest.strides[:-1]]
    accumulator = _rule(kind, spec.dtype).accumulator
    dtype = spec.dtype if accumulator is None or spec.dtype == dtypes.BOOL else accumulator
    size = count * dtype.itemsize
    scratch = scratch_memory(size)
    divided = Nest((count, *inner), (*strides, (1, *[0] * len(inner))))
    groups = [KEPT] + [REDUCED] * len(inner)
    partial, found = "sum" if kind == "mean" else kind, OutputSpec((count,), dtype)
    parts = _plan(formula, partial, inputs, divided, groups, found, computed, 1.0, length=elements)
    results, whole = scratch[:size].view(dtype), Nest((count,), ((1,), (0,)))
    total = _plan(IDENTITY, kind, [results], whole, [REDUCED], spec, dtype, scale)
    positions = [*range(len(inputs)), kernel.SCRATCH]
    return plans_in_a_row([(parts, positions), (total, [kernel.SCRATCH])], len(inputs), scratch)


def _output_strides(
    outputs: Sequence[np.ndarray] | None, shape: tuple[int, ...], dtype: np.dtype
) -> Sequence[int] | None:
    """Element strides of the output; None if kernels cannot write there."""
    if outputs is None:
        return row_major(shape)
    (out,) = outputs
    return element_strides(out, shape) if is_plain([out], dtype) else None


def _plan(formula, kind, inputs, nest, groups, spec, computed, scale, length=None) -> Plan:
    """Kept loops outside, reduced loops inside; the innermost loop in memory stays innermost.

    Rows are parts of a vector of ``length``, if that is given: the last one may be shorter.
    """
    last = len(groups) - 1
    kept = [loop for loop in range(last) if groups[loop] == KEPT]
    reduced = [loop for loop in range(last) if groups[loop] == REDUCED]
    by_columns = groups[last] == KEPT
    names = [f"x{k}" for k in range(len(inputs))] + ["y0"]
    types = [x.dtype for x in inputs] + [spec.dtype]
    operands = tuple(
        Operand(name, dtype, _pattern(strides, name))
        for name, dtype, strides in zip(names, types, nest.strides, strict=True)
    )
    rule = _rule(kind, spec.dtype)
    fold = _fold(nest, operands) if list(groups) == [REDUCED, KEPT] else 1
    if fold > 1:
        source = columns_source(formula, rule, operands, 0, 1, computed, folded=True)
    elif by_columns:
        source = columns_source(formula, rule, operands, len(kept), len(reduced), computed)
    else:
        divided = length is not None
        source = rows_source(formula, rule, operands, len(kept), len(reduced), computed, divided)
    name = f"{'sum' if kind == 'mean' else kind}_{formula.name}"
    address = _kernel(name, source, computed, rule.accumulator or spec.dtype)
    n = nest.dims[last] * fold
    tiles = -(-n // TILE) if by_columns else 1
    rows = math.prod(nest.dims[loop] for loop in kept) * tiles
    arguments = [n, *[strides[last] for strides in nest.strides]]
    arguments += [-(-math.prod(nest.dims[loop] for loop in reduced) // fold), _bits(scale), tiles]
    for loops in (kept, reduced):
        if len(loops) > 1:
            arguments += [nest.dims[loop] for loop in loops]
        for strides in nest.strides:
            arguments += [strides[loop] * fold for loop in loops]
    if fold > 1:
        arguments += [nest.dims[last], math.prod(nest.dims)]
    if length is not None:
        arguments.append(length)
    work = math.prod(nest.dims) * cost(formula)
    return Plan(
        address,
        inputs=len(inputs),
        outputs=[spec],
        arguments=arguments,
        rows=rows,
        tasks=tasks_for(work, rows),
    )


def _fold(nest: Any, operands: Sequence[Operand]) -> int:
    """How many short rows, one behind the other in memory, are added up as if they were one row."""
    reduced, n = nest.dims
    for op, strides in zip(operands[:-1], nest.strides, strict=False):
        if op.pattern != SCALAR and tuple(strides) != (n, 1):
            return 1
    fold = max(1, TILE // n)
    return fold if reduced >= _FOLDS * fold else 1


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def _pattern(strides: Sequence[int], name: str) -> str:
    if name[0] == "x" and not any(strides):
        return SCALAR
    if strides[-1] == 0:
        return ROW
    return CONTIGUOUS if strides[-1] == 1 else STRIDED


@functools.lru_cache(maxsize=4096)
def _kernel(name: str, source: str, computed: np.dtype, accumulator: np.dtype) -> int:
    return build(name, source, computed, accumulator, reassociate=True)


def _layout(count: int, kept: int, reduced: int) -> tuple[int, int, int, int, int]:
    """Positions in the argument block.

    Returns:
        Those of the facts (reduced rows, scale, tiles), of the lengths and strides of the kept loops, and of
        the lengths and strides of the reduced loops.
    """
    facts = 2 * count + 1
    kept_dims = facts + 3
    kept_strides = kept_dims + (kept if kept > 1 else 0)
    reduced_dims = kept_strides + kept * count
    return facts, kept_dims, kept_strides, reduced_dims, reduced_dims + (reduced if reduced > 1 else 0)


def _prologue(writer: Writer, operands: Sequence[Operand], facts: int) -> dict[str, str]:
    """Addresses, steps and scalars; gives the code that reads each input."""
    count = len(operands)
    loaded = {}
    for k, op in enumerate(operands):
        writer.add(1, f"{op.name}_address = load_int64(args, {k})")
        if op.pattern == SCALAR:
            writer.add(1, f"{op.name} = {accessor(op.dtype)}({op.name}_address, 1)[0]")
        if op.pattern == STRIDED or op is operands[-1]:
            writer.add(1, f"{op.name}_step = load_int64(args, {count + 1 + k}) * {op.dtype.itemsize}")
        loaded[op.name] = f"{op.name}[j]" if op.pattern == CONTIGUOUS else op.name
    writer.add(1, f"n = load_int64(args, {count})", f"reduced = load_int64(args, {facts})")
    writer.add(
        1, f"scale = float64_at(args + {8 * (facts + 1)}, 1)[0]", f"tiles = load_int64(args, {facts + 2})"
    )
    return loaded


def _offsets(
    writer: Writer, level: int, row: str, names: Sequence[str], depth: int, dims: int, table: int, suffix: str
) -> None:
    if depth == 0:
        writer.add(level, *[f"{name}_{suffix} = 0" for name in names])
        return
    row_offsets(writer, level, row, names, depth, dims, table)
    writer.add(level, *[f"{name}_{suffix} = {name}_offset" for name in names])


def _open_row(writer: Writer, level: int, inputs: Sequence[Operand], extra: str, length: str) -> None:
    """The inputs of one row of the inner loop."""
    for op in inputs:
        start = f"{op.name}_address + ({op.name}_outer + {op.name}_inner) * {op.dtype.itemsize}"
        if op.pattern == ROW:
            writer.add(level, f"{op.name} = {accessor(op.dtype)}({start}, 1)[0]")
        elif op.pattern == CONTIGUOUS:
            writer.add(
                level, f"{op.name} = {accessor(op.dtype)}({start} + {extra} * {op.dtype.itemsize}, {length})"
            )
        elif op.pattern == STRIDED:
            writer.add(level, f"{op.name}_start = {start} + {extra} * {op.name}_step")


def _read_strided(writer: Writer, level: int, inputs: Sequence[Operand]) -> None:
    for op in inputs:
        if op.pattern == STRIDED:
            writer.add(level, f"{op.name} = {accessor(op.dtype)}({op.name}_start + j * {op.name}_step, 1)[0]")


def rows_source(
    formula: Formula,
    rule: _Rule,
    operands: Sequence[Operand],
    kept: int,
    reduced: int,
    computed: np.dtype,
    divided: bool = False,
) -> str:
    """A kernel whose innermost loop is reduced: one result a row.

    If ``divided``, rows are parts of a vector, and the last one may be shorter.
    """
    count, inputs, output = len(operands), operands[:-1], operands[-1]
    facts, kept_dims, kept_strides, reduced_dims, reduced_strides = _layout(count, kept, reduced)
    names = [op.name for op in operands]
    writer = Writer()
    loaded = _prologue(writer, operands, facts)
    body = formula_body(formula, inputs, loaded, computed)
    writer.add(1, *body.before, "for row in range(lo, hi):")
    _offsets(writer, 2, "row", names, kept, kept_dims, kept_strides, "outer")
    width = "width" if divided else "n"
    if divided:
        writer.add(2, f"width = min(n, load_int64(args, {reduced_strides + reduced * count}) - row * n)")
    writer.add(2, f"total = accumulate({rule.start})", "for step in range(reduced):")
    _offsets(writer, 3, "step", names, reduced, reduced_dims, reduced_strides, "inner")
    _open_row(writer, 3, inputs, "0", width)
    writer.add(3, f"for j in range({width}):")
    _read_strided(writer, 4, inputs)
    writer.add(4, *body.inside, f"total = {rule.step.format(total='total', value=body.results[0])}")
    place = f"y0_address + y0_outer * {output.dtype.itemsize}"
    writer.add(2, f"{accessor(output.dtype)}({place}, 1)[0] = {_scaled('total', output)}")
    return writer.text()


def columns_source(
    formula: Formula,
    rule: _Rule,
    operands: Sequence[Operand],
    kept: int,
    reduced: int,
    computed: np.dtype,
    folded: bool = False,
) -> str:
    """A kernel whose innermost loop is kept: rows are added up, a tile of columns at a time.

    If ``folded``, a row stands for several short ones, whose totals are combined in the end.
    """
    count, inputs, output = len(operands), operands[:-1], operands[-1]
    facts, kept_dims, kept_strides, reduced_dims, reduced_strides = _layout(count, kept, reduced)
    names = [op.name for op in operands]
    totals = accessor(rule.accumulator or output.dtype)
    writer = Writer()
    loaded = _prologue(writer, operands, facts)
    body = formula_body(formula, inputs, loaded, computed)
    writer.add(1, *body.before, f"totals = {totals}(stack_int64({TILE}), {TILE})")
    writer.add(
        1,
        "for unit in range(lo, hi):",
        "    row = unit // tiles",
        f"    first = (unit - row * tiles) * {TILE}",
    )
    writer.add(2, f"width = min({TILE}, n - first)")
    _offsets(writer, 2, "row", names, kept, kept_dims, kept_strides, "outer")
    writer.add(2, "for j in range(width):", f"    totals[j] = accumulate({rule.start})")
    writer.add(2, "for step in range(reduced):")
    _offsets(writer, 3, "step", names, reduced, reduced_dims, reduced_strides, "inner")
    if folded:
        words = reduced_strides + reduced * count
        writer.add(3, f"width = min(n, load_int64(args, {words + 1}) - step * n)")  # the last one is shorter
    _open_row(writer, 3, inputs, "first", "width")
    writer.add(3, "for j in range(width):")
    _read_strided(writer, 4, inputs)
    writer.add(4, *body.inside, f"totals[j] = {rule.step.format(total='totals[j]', value=body.results[0])}")
    if folded:
        again = rule.step.format(total="totals[j]", value="totals[k + j]")
        writer.add(2, f"width = load_int64(args, {words})", "for k in range(width, n, width):")
        writer.add(3, "for j in range(width):", f"    totals[j] = {again}")
    size = output.dtype.itemsize
    if output.pattern == CONTIGUOUS:
        writer.add(2, f"y0 = {accessor(output.dtype)}(y0_address + (y0_outer + first) * {size}, width)")
        writer.add(2, "for j in range(width):", f"    y0[j] = {_scaled('totals[j]', output)}")
    else:
        writer.add(
            2, f"y0_start = y0_address + y0_outer * {size} + first * y0_step", "for j in range(width):"
        )
        writer.add(
            3, f"{accessor(output.dtype)}(y0_start + j * y0_step, 1)[0] = {_scaled('totals[j]', output)}"
        )
    return writer.text()


def _scaled(code: str, output: Operand) -> str:
    if output.dtype == bool:
        return f"{code} != 0"
    return code if output.dtype.kind in "iu" else f"{code} * scale"
