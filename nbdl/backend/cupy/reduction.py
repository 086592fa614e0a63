"""Reductions of formulas as CUDA kernels.

A block computes one or several results: its threads each combine every n-th of the elements in a register,
then each other's totals in a tree in shared memory. Few results of many elements are computed in two stages:
blocks for parts of the elements, then the same kernel over their totals. The order of operations depends on
the shapes only, so results repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.codegen import ARRAY, Operand, c_type
from nbdl.backend.cupy.complex_numbers import ComplexFormula, ComplexReduction
from nbdl.backend.cupy.launch import (
    THREADS,
    Kernels,
    Launch,
    Spec,
    blocks,
    index_type,
    power_of_two,
    strides_of,
)
from nbdl.backend.cupy.pointwise import operand_kind
from nbdl.backend.loops import Nest, Strides, memory_order, merge, row_major
from nbdl.backend.numpy.reduction import reduced_dtype
from nbdl.formula import Formula, dtypes
from nbdl.formula.dtypes import arithmetic_dtype

KEPT, REDUCED = 0, 1
# Elements that a thread combines before another block helps, and blocks that keep a large device busy.
SERIAL = 32
BUSY_BLOCKS = 1024
MAX_PARTS = 65535

# kind -> (the value that changes nothing, how two totals are combined)
COMBINE = {
    "sum": ("total_t(0)", "a + b"),
    "mean": ("total_t(0)", "a + b"),
    "prod": ("total_t(1)", "a * b"),
    "max": ("nbdl::lowest<total_t>()", "nbdl::maximum(a, b)"),
    "min": ("nbdl::highest<total_t>()", "nbdl::minimum(a, b)"),
    "any": ("false", "a || b"),
    "all": ("true", "a && b"),
    "logsumexp": ("-nbdl::infinity<total_t>()", "nbdl::logaddexp(a, b)"),
}
IDENTITY = Formula("identity", lambda x: x, 1)


class Plan(NamedTuple):
    """What to allocate and to launch.

    Attributes:
        shape, dtype: of the result.
        launch: the kernel, or the first of two stages; None where there is no result.
        totals: shape and dtype of what the first stage hands to the second; None for one stage.
        second: the second stage.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    launch: Launch | ComplexReduction | None
    totals: tuple[tuple[int, int], np.dtype] | None = None
    second: Launch | None = None


class Loops(NamedTuple):
    """The loops of a reduction.

    Attributes:
        kept: the loops over the results.
        reduced: the loops over the elements of a result.
        is_row: whether the fastest loop in memory is one of ``reduced``.
    """

    kept: Nest
    reduced: Nest
    is_row: bool

    @property
    def results(self) -> int:
        """Number of results."""
        return math.prod(self.kept.dims)

    @property
    def elements(self) -> int:
        """Number of elements of a result."""
        return math.prod(self.reduced.dims)


def plan_reduce(
    kernels: Kernels,
    inputs: Sequence[Spec],
    output: Spec | None,
    *,
    formula: Formula,
    kind: str,
    axes: tuple[int, ...],
    keepdims: bool,
    weak: int,
) -> Plan:
    """A plan for a reduction of operands like these.

    Args:
        kernels: makes the kernels.
        inputs: the operands.
        output: a given output, or None to allocate.
        formula: what is reduced; one output.
        kind: a key of COMBINE.
        axes: the axes that are reduced, not negative.
        keepdims: leave them with length 1.
        weak: bit k is set where operand k was a Python number.

    Raises:
        ValueError: shapes do not broadcast, or there is nothing to take the maximum or minimum of.
    """
    kinds = tuple(spec.dtype for spec in inputs)
    _, computed, (dtype,) = dtypes.arithmetic(formula, kinds, dtypes.priorities(inputs, weak))
    shape = np.broadcast_shapes(*[spec.shape for spec in inputs])
    result = reduced_dtype(kind, dtype)
    kept_shape = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    out_shape = tuple(1 if axis in axes else n for axis, n in enumerate(shape)) if keepdims else kept_shape
    if math.prod(out_shape) == 0:
        return Plan(out_shape, result, None)
    if kind in ("max", "min") and math.prod(shape) == 0:
        raise ValueError(f"{kind}: there is no element along axes {axes} of shape {shape}")
    if computed.kind == "c":
        values = ComplexFormula(kernels.xp, formula, kinds, computed)
        return Plan(out_shape, result, ComplexReduction(kernels.xp, values, kind, axes, shape))
    loops = _loops(formula, inputs, output, shape, axes, keepdims)
    operands = [Operand(f"x{k}", spec.dtype, operand_kind(spec, shape)) for k, spec in enumerate(inputs)]
    target = Operand("y0", result if output is None else output.dtype)
    total = arithmetic_dtype(result)
    threads, parts = _shape_of_blocks(loops)
    if parts == 1:
        launch = _launch(kernels, formula, [*operands, target], kind, loops, computed, total, threads, 1)
        return Plan(out_shape, result, launch)
    scratch = row_major((parts, loops.results))
    stage = loops._replace(kept=_with_output(loops.kept, row_major(loops.kept.dims)))
    partial_kind = "sum" if kind == "mean" else kind
    first = _launch(
        kernels,
        formula,
        [*operands, Operand("y0", total)],
        partial_kind,
        stage,
        computed,
        total,
        threads,
        parts,
    )
    between = Loops(
        Nest(loops.kept.dims, (row_major(loops.kept.dims), loops.kept.strides[-1])),
        Nest((parts,), ((scratch[0],), (0,))),
        is_row=False,
    )
    threads, _ = _shape_of_blocks(between)
    second = _launch(
        kernels, IDENTITY, [Operand("x0", total), target], kind, between, total, total, threads, 1,
        count=loops.elements,
    )  # fmt: skip
    return Plan(out_shape, result, first, ((parts, loops.results), total), second)


def _loops(
    formula: Formula,
    inputs: Sequence[Spec],
    output: Spec | None,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    keepdims: bool,
) -> Loops:
    """The loop nest of a reduction, split into kept and reduced loops. The last operand is the output."""
    label = formula.name
    strides = strides_of(label, inputs, shape)
    kept_axes = [axis for axis in range(len(shape)) if axis not in axes]
    if output is None:
        steps = iter(row_major([shape[axis] for axis in kept_axes]))
    else:
        own = strides_of(label, [output], output.shape)[0]
        steps = iter([own[axis] for axis in kept_axes] if keepdims else own)
    by_axis = tuple(0 if axis in axes else next(steps) for axis in range(len(shape)))
    order = memory_order(shape, strides)
    groups = [REDUCED if axis in axes else KEPT for axis in order]
    nest, merged = merge(
        [shape[axis] for axis in order],
        [tuple(step[axis] for axis in order) for step in [*strides, by_axis]],
        groups,
    )
    arrays = [k for k, spec in enumerate(inputs) if operand_kind(spec, shape) == ARRAY] + [len(inputs)]

    def part(group: int) -> Nest:
        loops = [loop for loop, its in enumerate(merged) if its == group]
        dims = tuple(nest.dims[loop] for loop in loops)
        return Nest(dims, tuple(tuple(nest.strides[k][loop] for loop in loops) for k in arrays))

    return Loops(part(KEPT), part(REDUCED), is_row=merged[-1] == REDUCED)


def _with_output(nest: Nest, strides: Strides) -> Nest:
    return Nest(nest.dims, (*nest.strides[:-1], strides))


def _shape_of_blocks(loops: Loops) -> tuple[tuple[int, int], int]:
    """((threads a result, results a block), parts that the elements are split into)."""
    neighbours = 1 if loops.is_row else min(32, power_of_two(loops.results))
    lanes = min(THREADS // neighbours, power_of_two(loops.elements))
    slots = min(THREADS // lanes, power_of_two(loops.results))
    wanted = -(-loops.elements // (lanes * SERIAL))
    parts = min(wanted, -(-BUSY_BLOCKS // blocks(loops.results, slots, BUSY_BLOCKS)), MAX_PARTS)
    return (lanes, slots), max(1, parts)


def _launch(
    kernels: Kernels,
    formula: Formula,
    operands: Sequence[Operand],
    kind: str,
    loops: Loops,
    computed: np.dtype,
    total: np.dtype,
    threads: tuple[int, int],
    parts: int,
    count: int | None = None,
) -> Launch:
    """One kernel.

    Args:
        kernels: makes it.
        formula: what is reduced.
        operands: inputs, then the output.
        kind: a key of COMBINE.
        loops: over the operands of kind ARRAY.
        computed: dtype of the formula.
        total: dtype of the accumulator.
        threads: (threads a result, results a block).
        parts: into how many parts the elements are split.
        count: what a mean divides by; None for the number of elements.
    """
    dims = (*loops.kept.dims, *loops.reduced.dims)
    strides = [(*a, *b) for a, b in zip(loops.kept.strides, loops.reduced.strides, strict=True)]
    index = index_type(dims, strides)
    name = f"nbdl_{kind}_{formula.name}"
    depths = len(loops.kept.dims), len(loops.reduced.dims)
    text = kernel_source(name, formula, operands, kind, depths, loops.is_row, index, computed, total)
    kernel = kernels.get(name, text, codegen.headers([op.dtype for op in operands]))
    lanes, slots = threads
    part = -(-loops.elements // parts)
    sizes = [loops.results, loops.elements, part, loops.elements if count is None else count]
    sizes += [*loops.kept.dims[1:], *loops.reduced.dims[1:]]
    for kept, reduced in zip(loops.kept.strides, loops.reduced.strides, strict=True):
        sizes += [*kept, *reduced]
    sizes = sizes[: len(sizes) - depths[1]]  # the output does not move along the elements
    return Launch(
        kernel,
        (-(-loops.results // slots), parts),
        (lanes, slots) if loops.is_row else (slots, lanes),
        tuple(index(size) for size in sizes),
    )


def kernel_source(
    name: str,
    formula: Formula,
    operands: Sequence[Operand],
    kind: str,
    depths: tuple[int, int],
    is_row: bool,
    index: type,
    computed: np.dtype,
    total: np.dtype,
) -> str:
    """The CUDA C source of a reduction.

    Its parameters: the operands; numbers of results, of elements of a result, of elements of a part, and what
    a mean divides by; lengths of the loops over results and over elements, without the outermost; and their
    strides for every array, the output having none over elements. Block (i, p) computes results i * slots ...
    of part p.

    Args:
        name: of the kernel.
        formula: what is reduced.
        operands: inputs, then the output.
        kind: a key of COMBINE.
        depths: number of loops over results, and over the elements of one.
        is_row: whether neighbouring threads take neighbouring elements of one result, or neighbouring
            results.
        index: type of the indices.
        computed: dtype of the formula.
        total: dtype of the accumulator.
    """
    kept_depth, depth = depths
    inputs, output = operands[:-1], operands[-1]
    arrays = [op for op in inputs if op.kind == ARRAY]
    body = codegen.element(formula, inputs, computed)
    neutral, combined = COMBINE[kind]
    parameters = [op.parameter for op in operands]
    parameters += [f"const index_t {size}" for size in ("results", "elements", "part", "count")]
    parameters += [f"const index_t kept_length{loop}" for loop in range(1, kept_depth)]
    parameters += [f"const index_t length{loop}" for loop in range(1, depth)]
    for op in arrays:
        parameters += [f"const index_t {op.name}_kept{loop}" for loop in range(kept_depth)]
        parameters += [f"const index_t {op.name}_step{loop}" for loop in range(depth)]
    parameters += [f"const index_t y0_kept{loop}" for loop in range(kept_depth)]
    starts = {f"{op.name}_start": f"{op.name}_kept" for op in arrays}
    offsets = {f"{op.name}_offset": f"{op.name}_step" for op in arrays}
    lane, slot = ("x", "y") if is_row else ("y", "x")
    read = [
        codegen.loaded(formula, k, f"{op.name}[{op.name}_start + {op.name}_offset]")
        for k, op in enumerate(inputs)
        if op.kind == ARRAY
    ]
    stored = "partial[mine] / total_t(count)" if kind == "mean" else "partial[mine]"
    lines = [
        f"__shared__ total_t partial[{THREADS}];",
        *body.before,
        f"const int lane = threadIdx.{lane}, lanes = blockDim.{lane};",
        f"const index_t result = (index_t)blockIdx.x * blockDim.{slot} + threadIdx.{slot};",
        "const index_t begin = blockIdx.y * part;",
        "const index_t end = begin + part < elements ? begin + part : elements;",
        f"total_t total = {neutral};",
        "if (result < results) {",
        *codegen.decompose("result", kept_depth, "kept_length", starts, "    "),
        "    for (index_t i = begin + lane; i < end; i += lanes) {",
        *codegen.decompose("i", depth, "length", offsets, "        "),
        f"        {body.results[0]} r0;",
        f"        element({', '.join([*read, *body.arguments, 'r0'])});",
        "        total = combine(total, nbdl::cast<total_t>(r0));",
        "    }",
        "}",
        "// A tree over the threads of a result.",
        "const int mine = threadIdx.y * blockDim.x + threadIdx.x;",
        f"const int next = {'1' if is_row else 'blockDim.x'};",
        "partial[mine] = total;",
        "for (int half = lanes / 2; half > 0; half /= 2) {",
        "    __syncthreads();",
        "    if (lane < half) partial[mine] = combine(partial[mine], partial[mine + half * next]);",
        "}",
        "if (lane == 0 && result < results) {",
        *codegen.decompose("result", kept_depth, "kept_length", {"y0_start": "y0_kept"}, "    "),
        f"    y0[blockIdx.y * results + y0_start] = nbdl::cast<{c_type(output.dtype)}>({stored});",
        "}",
    ]
    functions = [
        f"typedef {c_type(total)} total_t;",
        "",
        *body.function,
        f"static __device__ __forceinline__ total_t combine(total_t a, total_t b) {{ return {combined}; }}",
    ]
    entry = codegen.kernel(name, parameters, [f"    {line}" for line in lines])
    return codegen.source(formula, computed, index, functions, entry)
