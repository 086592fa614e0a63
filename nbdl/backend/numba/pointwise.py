"""Pointwise formulas as compiled loops."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from nbdl.backend.numba.codegen import (
    CONTIGUOUS,
    REVERSED,
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
from nbdl.backend.numba.loops import Nest, domain, element_strides, memory_order, merge, row_major, tasks_for
from nbdl.backend.numba.stages import plans_side_by_side
from nbdl.formula import Formula, dtypes
from nbdl.kernels.cpu.gemm import COLUMN_BITS

# Where in an operand that is seen as an array the j-th element of the inner loop is: vectors can read both.
_INDEX = {CONTIGUOUS: "j", REVERSED: "n - 1 - j"}


def plan_pointwise(
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray] | None,
    by_blocks: bool = False,
    *,
    formula: Formula,
    weak: int,
) -> Plan | None:
    """A plan for ``formula`` on operands like ``inputs``.

    Args:
        inputs: the operands.
        outputs: given outputs; one that is an input is overwritten element by element; None to allocate.
        by_blocks: make the epilogue of a product, which is called on a range of rows and one of columns.
        formula: the formula.
        weak: bit k is set where operand k was a Python number.

    Returns:
        The plan, or None where NumPy has to do it (half precision, odd strides, functions without a kernel);
        by blocks also where rows are not next to each other, or columns.
    """
    _, computed, wanted = dtypes.arithmetic(
        formula, tuple([x.dtype for x in inputs]), dtypes.priorities(inputs, weak)
    )
    if not is_supported(formula, [*[x.dtype for x in inputs], computed, *wanted]):
        return None
    if outputs is not None and not is_supported(formula, [out.dtype for out in outputs]):
        return None
    shape = domain(inputs, outputs)
    if 0 in shape:
        return None  # nothing to compute, and no loop to compile
    strides = [element_strides(x, shape) for x in inputs]
    if outputs is not None:
        strides += [element_strides(out, shape) for out in outputs]
    if any(stride is None for stride in strides) or not all(
        x.flags.aligned for x in (*inputs, *(outputs or ()))
    ):
        return None
    order = memory_order(shape, strides)  # type: ignore[arg-type]
    dims = [shape[axis] for axis in order]
    steps = [[stride[axis] for axis in order] for stride in strides]  # type: ignore[index]
    specs: list[OutputSpec] = []
    if outputs is None:
        axes = None if order == tuple(range(len(order))) else tuple(int(axis) for axis in np.argsort(order))
        specs = [OutputSpec(shape, dtype, axes) for dtype in wanted]
        steps += [list(row_major(dims))] * len(wanted)
        types = list(wanted)
    else:
        types = [out.dtype for out in outputs]
    if by_blocks:
        if order != tuple(range(len(order))) or not _has_blocks(dims, steps):
            return None
        rows, _ = merge(dims[:-1], [step[:-1] for step in steps])
        columns = [step[-1] for step in steps]
        nest = Nest(
            (*rows.dims, dims[-1]),
            tuple((*row, step) for row, step in zip(rows.strides, columns, strict=True)),
        )
        return _plan(
            formula,
            inputs,
            types,
            _aliases(inputs, outputs or ()),
            nest,
            specs,
            computed,
            math.prod(shape),
            True,
        )
    nest, _ = merge(dims, steps)
    if nest.dims == (1,):  # one element: only what is 0-d beside arrays counts as a scalar
        numbers = [x.ndim == 0 and len(shape) > 0 for x in inputs] + [False] * len(types)
        nest = Nest((1,), tuple((0,) if number else (1,) for number in numbers))
    aliases = _aliases(inputs, outputs or ())
    return _plan(formula, inputs, types, aliases, nest, specs, computed, math.prod(shape))


def plan_group(
    rows: Sequence[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]], *, formula: Formula, weak: int
) -> Plan | None:
    """A plan for ``formula`` in place on several rows of operands and outputs, or None.

    It keeps the addresses of the operands, whose rows must be independent of one another.
    """
    plans = []
    for inputs, outputs in rows:
        plan = plan_pointwise(inputs, outputs, formula=formula, weak=weak)
        if plan is None or plan.rows != outputs[0].size:  # rows of several elements are not comparable
            return None
        plans.append((plan, [*inputs, *outputs]))
    size = sum(plan.rows for plan, _ in plans)
    return plans_side_by_side(plans, tasks_for(size * cost(formula), size))


def _has_blocks(dims: Sequence[int], steps: Sequence[Sequence[int]]) -> bool:
    """Whether there are rows, and columns which every operand has side by side or does not have."""
    return len(dims) > 1 and dims[-1] > 1 and all(step[-1] in (0, 1) for step in steps)


def _aliases(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> list[int | None]:
    """For each output the input that it overwrites."""
    return [next((k for k, x in enumerate(inputs) if x is out), None) for out in outputs]


def _plan(
    formula: Formula,
    inputs: Sequence[np.ndarray],
    output_types: list[np.dtype],
    aliases: list[int | None],
    nest: Nest,
    specs: list[OutputSpec],
    computed: np.dtype,
    size: int,
    by_blocks: bool = False,
) -> Plan:
    depth = len(nest.dims) - 1
    names = [f"x{k}" for k in range(len(inputs))] + [f"y{k}" for k in range(len(output_types))]
    types = [x.dtype for x in inputs] + output_types
    alias_of = dict(enumerate(aliases, len(inputs))) if aliases else {}
    operands = []
    for k, (name, dtype, strides) in enumerate(zip(names, types, nest.strides, strict=True)):
        alias = alias_of.get(k)
        operands.append(
            Operand(name, dtype, _pattern(strides, k >= len(inputs)), None if alias is None else f"x{alias}")
        )
    address = _kernel(formula, tuple(operands), depth, computed, by_blocks)
    rows = math.prod(nest.dims[:-1]) if depth else nest.dims[0]
    arguments = [nest.dims[-1]]
    arguments += [strides[-1] for strides in nest.strides]
    if depth > 1:
        arguments += nest.dims[:-1]
    if depth:
        for strides in nest.strides:
            arguments += strides[:-1]
    return Plan(
        address,
        inputs=len(inputs),
        outputs=specs if specs else [OutputSpec((), dtype) for dtype in output_types],
        arguments=arguments,
        rows=rows if size else 0,
        tasks=tasks_for(size * cost(formula), rows),
    )


def _pattern(strides: Sequence[int], is_output: bool) -> str:
    if not is_output:
        if not any(strides):
            return SCALAR
        if strides[-1] == 0:
            return ROW
    return {1: CONTIGUOUS, -1: REVERSED}.get(strides[-1], STRIDED)


@functools.lru_cache(maxsize=4096)
def _kernel(
    formula: Formula, operands: tuple[Operand, ...], depth: int, computed: np.dtype, by_blocks: bool
) -> int:
    """The address of the kernel for operands that move like this."""
    return build(formula.name, kernel_source(formula, operands, depth, computed, by_blocks), computed)


def kernel_source(
    formula: Formula,
    operands: Sequence[Operand],
    depth: int,
    computed: np.dtype,
    by_blocks: bool = False,
) -> str:
    """The Python source of a pointwise kernel.

    Its argument block: addresses of the operands; length of the inner loop; inner stride per operand;
    lengths of the outer loops if there are several; outer strides per operand.

    Args:
        formula: the formula.
        operands: inputs, then outputs.
        depth: number of loops flattened into the rows; 0 for a single loop, split by ``lo`` and ``hi``.
        computed: dtype of the arithmetic.
        by_blocks: a call is told the columns in place of the task, see `nbdl.kernels.cpu.gemm`.
    """
    count = len(operands)
    inputs = [op for op in operands if op.name[0] == "x"]
    outputs = [op for op in operands if op.name[0] == "y"]
    writer = Writer()
    for k, op in enumerate(operands):
        writer.add(1, f"{op.name}_address = load_int64(args, {k})")
    loaded = {}
    for op in inputs:
        if op.pattern == SCALAR:
            writer.add(1, f"{op.name} = {accessor(op.dtype)}({op.name}_address, 1)[0]")
        loaded[op.name] = f"{op.name}[{_INDEX[op.pattern]}]" if op.pattern in _INDEX else op.name
    body = formula_body(formula, inputs, loaded, computed)
    writer.add(1, *body.before)
    inner = {op.name: f"{op.name}_step" for op in operands if op.pattern == STRIDED}
    for k, op in enumerate(operands):
        if op.name in inner:
            writer.add(1, f"{op.name}_step = load_int64(args, {count + 1 + k}) * {op.dtype.itemsize}")
    if depth == 0:
        writer.add(1, "n = hi - lo")
        for op in operands:
            if op.pattern == SCALAR or op.alias is not None:
                continue
            if op.pattern == STRIDED:
                writer.add(1, f"{op.name}_start = {op.name}_address + lo * {op.name}_step")
                continue
            first = "- (hi - 1)" if op.pattern == REVERSED else "+ lo"
            start = f"{op.name}_address {first} * {op.dtype.itemsize}"
            writer.add(1, f"{op.name} = {accessor(op.dtype)}({start}, n)")
        _inner_loop(writer, 1, operands, outputs, body, inner)
        return writer.text()
    if by_blocks:
        writer.add(1, f"first, n = task >> {COLUMN_BITS}, task & {(1 << COLUMN_BITS) - 1}")
    else:
        writer.add(1, f"n = load_int64(args, {count})")
    writer.add(1, "for row in range(lo, hi):")
    dims = 2 * count + 1
    table = dims + (depth if depth > 1 else 0)
    row_offsets(writer, 2, "row", [op.name for op in operands], depth, dims, table)
    for op in operands:
        if op.pattern == SCALAR or op.alias is not None:
            continue
        start = f"{op.name}_address + {op.name}_offset * {op.dtype.itemsize}"
        if op.pattern == ROW:
            writer.add(2, f"{op.name} = {accessor(op.dtype)}({start}, 1)[0]")
        elif op.pattern == CONTIGUOUS:
            column = f" + first * {op.dtype.itemsize}" if by_blocks else ""
            writer.add(2, f"{op.name} = {accessor(op.dtype)}({start}{column}, n)")
        elif op.pattern == REVERSED:
            last = f"{start} - (n - 1) * {op.dtype.itemsize}"
            writer.add(2, f"{op.name} = {accessor(op.dtype)}({last}, n)")
        else:
            writer.add(2, f"{op.name}_start = {start}")
    _inner_loop(writer, 2, operands, outputs, body, inner)
    return writer.text()


def _inner_loop(
    writer: Writer,
    level: int,
    operands: Sequence[Operand],
    outputs: Sequence[Operand],
    body,
    strided: dict[str, str],
) -> None:
    writer.add(level, "for j in range(n):")
    for op in operands:
        if op.name in strided and op.name[0] == "x":
            writer.add(
                level + 1, f"{op.name} = {accessor(op.dtype)}({op.name}_start + j * {strided[op.name]}, 1)[0]"
            )
    writer.add(level + 1, *body.inside)
    # All results are computed before the first is stored: an output may overwrite an operand.
    for op, result in zip(outputs, body.results, strict=True):
        writer.add(level + 1, f"r_{op.name} = {result}")
    for op in outputs:
        target = op.alias or op.name
        if op.name in strided:
            place = f"{accessor(op.dtype)}({target}_start + j * {strided[op.name]}, 1)[0]"
        else:
            place = f"{target}[{_INDEX[op.pattern]}]"
        writer.add(level + 1, f"{place} = {_stored(op, f'r_{op.name}')}")


def _stored(op: Operand, code: str) -> str:
    return f"truth({code})" if op.dtype == bool else code
