"""Pointwise formulas as CUDA kernels.

Operands are walked as rows x columns: one thread a column, or a pack of neighbouring columns where all
operands are contiguous and aligned. A flat loop is a single row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.codegen import ARRAY, SCALAR, VALUE, Operand, c_type
from nbdl.backend.cupy.complex_numbers import ComplexFormula
from nbdl.backend.cupy.launch import (
    MAX_BLOCKS,
    MAX_BLOCKS_Y,
    THREADS,
    Kernels,
    Launch,
    Spec,
    blocks,
    index_type,
    power_of_two,
    strides_of,
)
from nbdl.backend.loops import Nest, domain, memory_order, merge, row_major
from nbdl.formula import Formula, dtypes

# Bytes that one instruction moves at most.
PACK_BYTES = 16

BROADCAST, CONTIGUOUS, STRIDED = "broadcast", "contiguous", "strided"


class Output(NamedTuple):
    """How to allocate an output: a row-major array of ``shape`` transposed by ``axes`` (None: as it is)."""

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[int, ...] | None


class Plan(NamedTuple):
    """What to allocate and to launch; ``launch`` is None where there is no element."""

    outputs: tuple[Output, ...]
    launch: Launch | ComplexFormula | None


def plan_pointwise(
    kernels: Kernels,
    formula: Formula,
    weak: int,
    inputs: Sequence[Spec],
    outputs: Sequence[Spec] | None,
    is_shared: Sequence[bool],
) -> Plan:
    """A plan for ``formula`` on operands like these.

    Args:
        kernels: makes the kernel.
        formula: the formula.
        weak: bit k is set where operand k was a Python number.
        inputs: the operands.
        outputs: given outputs, or None to allocate.
        is_shared: for each input whether an output is written through its memory.

    Raises:
        ValueError: shapes do not broadcast.
        TypeError: the formula is not defined for the dtypes.
    """
    kinds = tuple(spec.dtype for spec in inputs)
    _, computed, wanted = dtypes.arithmetic(formula, kinds, dtypes.priorities(inputs, weak))
    shape = domain(inputs, outputs)
    if any(dtype.kind == "c" for dtype in (*kinds, *[spec.dtype for spec in outputs or ()])):
        made = () if outputs is not None else tuple(Output(shape, dtype, None) for dtype in wanted)
        return Plan(made, ComplexFormula(kernels.xp, formula, kinds, computed))
    steps = strides_of(formula.name, [*inputs, *(outputs or ())], shape)
    order = memory_order(shape, steps)
    dims = [shape[axis] for axis in order]
    steps = [tuple(step[axis] for axis in order) for step in steps]
    if outputs is None:
        axes = None if order == tuple(range(len(order))) else tuple(int(axis) for axis in np.argsort(order))
        made = tuple(Output(shape, dtype, axes) for dtype in wanted)
        steps += [row_major(dims)] * len(made)
        results = [Spec(shape, (), dtype, PACK_BYTES) for dtype in wanted]
    else:
        made, results = (), list(outputs)
    if math.prod(shape) == 0:
        return Plan(made, None)
    operands = [
        Operand(f"x{k}", spec.dtype, operand_kind(spec, shape), shared)
        for k, (spec, shared) in enumerate(zip(inputs, is_shared, strict=True))
    ]
    operands += [Operand(f"y{k}", spec.dtype, ARRAY, any(is_shared)) for k, spec in enumerate(results)]
    arrays = [k for k, op in enumerate(operands) if op.kind == ARRAY]
    nest, _ = merge(dims, [steps[k] for k in arrays])
    specs = [*inputs, *results]
    launch = _launch(kernels, formula, operands, [specs[k] for k in arrays], nest, computed)
    return Plan(made, launch)


def operand_kind(spec: Spec, shape: tuple[int, ...]) -> str:
    """How an operand is read where operands broadcast to ``shape``."""
    if spec.is_value:
        return VALUE
    return SCALAR if spec.ndim == 0 and shape else ARRAY


def _launch(
    kernels: Kernels,
    formula: Formula,
    operands: Sequence[Operand],
    arrays: Sequence[Spec],
    nest: Nest,
    computed: np.dtype,
) -> Launch:
    """Choose the kernel's variant and the grid."""
    columns, rows, depth = nest.dims[-1], math.prod(nest.dims[:-1]), len(nest.dims) - 1
    patterns = tuple(_pattern(steps[-1], columns) for steps in nest.strides)
    pack = _pack(arrays, nest, patterns)
    index = index_type(nest.dims, nest.strides)
    name = f"nbdl_{formula.name}"
    text = kernel_source(name, formula, operands, patterns, depth, pack, index, computed)
    kernel = kernels.get(name, text, codegen.headers([op.dtype for op in operands]))
    threads = min(THREADS, power_of_two(-(-columns // pack)))
    block = (threads, min(THREADS // threads, power_of_two(rows)))
    grid = (blocks(columns, threads * pack, MAX_BLOCKS), blocks(rows, block[1], MAX_BLOCKS_Y))
    sizes = [columns]
    sizes += [steps[-1] for steps, pattern in zip(nest.strides, patterns, strict=True) if pattern == STRIDED]
    if depth:
        sizes += [rows, *nest.dims[1:-1]]
        for steps in nest.strides:
            sizes += steps[:-1]
    return Launch(kernel, grid, block, tuple(index(size) for size in sizes))


def _pattern(step: int, columns: int) -> str:
    if step == 0:
        return BROADCAST if columns > 1 else CONTIGUOUS
    return CONTIGUOUS if step == 1 else STRIDED


def _pack(arrays: Sequence[Spec], nest: Nest, patterns: Sequence[str]) -> int:
    """How many neighbouring columns a thread moves at once."""
    pack = PACK_BYTES // max(spec.itemsize for spec in arrays)
    for spec, steps, pattern in zip(arrays, nest.strides, patterns, strict=True):
        if pattern == STRIDED:
            return 1
        aligned = all(step % pack == 0 for step in steps[:-1]) and spec.alignment >= pack * spec.itemsize
        if pattern == CONTIGUOUS and not aligned:
            return 1
    return pack if nest.dims[-1] >= pack else 1


def kernel_source(
    name: str,
    formula: Formula,
    operands: Sequence[Operand],
    patterns: Sequence[str],
    depth: int,
    pack: int,
    index: type,
    computed: np.dtype,
) -> str:
    """The CUDA C source of a pointwise kernel.

    Its parameters: the operands; the number of columns; the column step of every STRIDED array; and if
    ``depth`` is not 0 the number of rows, the lengths of the loops but the outermost and the innermost, and
    the row steps of every array.

    Args:
        name: of the kernel.
        formula: the formula.
        operands: inputs, then outputs.
        patterns: how each operand of kind ARRAY moves along the columns.
        depth: number of loops flattened into the rows.
        pack: columns moved at once.
        index: type of the indices.
        computed: dtype of the arithmetic.
    """
    inputs = [op for op in operands if op.name[0] == "x"]
    arrays = [op for op in operands if op.kind == ARRAY]
    pattern_of = dict(zip([op.name for op in arrays], patterns, strict=True))
    body = codegen.element(formula, inputs, computed)
    parameters = [op.parameter for op in operands] + ["const index_t columns"]
    parameters += [f"const index_t {op.name}_step" for op in arrays if pattern_of[op.name] == STRIDED]
    lines = [f"    {line}" for line in body.before]
    where = {op.name: op.name for op in arrays}
    indent = "    "
    if depth:
        parameters += ["const index_t rows", *[f"const index_t length{loop}" for loop in range(1, depth)]]
        parameters += [f"const index_t {op.name}_row{loop}" for op in arrays for loop in range(depth)]
        indent = "        "
        lines += [
            "    for (index_t row = (index_t)blockIdx.y * blockDim.y + threadIdx.y; row < rows;"
            " row += (index_t)gridDim.y * blockDim.y) {"
        ]
        offsets = {f"{op.name}_offset": f"{op.name}_row" for op in arrays}
        lines += codegen.decompose("row", depth, "length", offsets, indent)
        where = {op.name: f"({op.name} + {op.name}_offset)" for op in arrays}
    lines += [
        f"{indent}const index_t first = (index_t)blockIdx.x * blockDim.x + threadIdx.x;",
        f"{indent}const index_t stride = (index_t)gridDim.x * blockDim.x;",
    ]
    tail = "first"
    if pack > 1:
        lines += _packed_loop(formula, operands, body, pattern_of, where, pack, indent)
        tail = f"columns / {pack} * {pack} + first"
    lines.append(f"{indent}for (index_t j = {tail}; j < columns; j += stride) {{")
    places = {op.name: _place(op, pattern_of[op.name], where[op.name]) for op in arrays}
    lines += _element_call(formula, operands, body, places, indent + "    ")
    lines.append(f"{indent}}}")
    lines += ["    }"] if depth else []
    return codegen.source(formula, computed, index, body.function, codegen.kernel(name, parameters, lines))


def _place(op: Operand, pattern: str, where: str) -> str:
    """Code of the element of an array in column ``j``."""
    if pattern == BROADCAST:
        return f"*{where}"
    return f"{where}[j]" if pattern == CONTIGUOUS else f"{where}[j * {op.name}_step]"


def _packed_loop(
    formula: Formula,
    operands: Sequence[Operand],
    body: codegen.Element,
    pattern_of: dict[str, str],
    where: dict[str, str],
    pack: int,
    indent: str,
) -> list[str]:
    lines = [f"{indent}for (index_t j = first; j < columns / {pack}; j += stride) {{"]
    inner = indent + "    "
    places = {}
    for op in operands:
        if op.kind != ARRAY:
            continue
        is_packed = pattern_of[op.name] == CONTIGUOUS
        places[op.name] = f"{op.name}_pack[k]" if is_packed else f"*{where[op.name]}"
        if is_packed and op.name[0] == "x":
            lines.append(f"{inner}const auto {op.name}_pack = nbdl::load_pack<{pack}>({where[op.name]}, j);")
        elif is_packed:
            lines.append(f"{inner}nbdl::Pack<{c_type(op.dtype)}, {pack}> {op.name}_pack;")
    lines += ["#pragma unroll", f"{inner}for (int k = 0; k < {pack}; ++k) {{"]
    lines += _element_call(formula, operands, body, places, inner + "    ")
    lines.append(f"{inner}}}")
    lines += [
        f"{inner}nbdl::store_pack({where[op.name]}, j, {op.name}_pack);"
        for op in operands
        if op.name[0] == "y"
    ]
    return [*lines, f"{indent}}}"]


def _element_call(
    formula: Formula, operands: Sequence[Operand], body: codegen.Element, places: dict[str, str], indent: str
) -> list[str]:
    """Compute one element, then store all its results: an output may overwrite an operand."""
    inputs = [op for op in operands if op.name[0] == "x"]
    outputs = [op for op in operands if op.name[0] == "y"]
    read = [codegen.loaded(formula, k, places[op.name]) for k, op in enumerate(inputs) if op.kind == ARRAY]
    results = [f"r{k}" for k in range(len(outputs))]
    lines = [f"{kind} {result};" for kind, result in zip(body.results, results, strict=True)]
    lines.append(f"element({', '.join([*read, *body.arguments, *results])});")
    lines += [
        f"{places[op.name]} = nbdl::cast<{c_type(op.dtype)}>({result});"
        for op, result in zip(outputs, results, strict=True)
    ]
    return [indent + line for line in lines]
