"""Attention of the Numba backend: plans for the kernels of `nbdl.kernels.cpu.attention`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.backend.numba.layout import is_plain
from nbdl.backend.numba.loops import Strides, element_strides, memory_order, merge, row_major, tasks_for
from nbdl.backend.numba.matmul import tile_table
from nbdl.backend.numba.stages import Stage, block_words, scratch_memory, staged_plan
from nbdl.kernels.cpu import attention as kernel
from nbdl.kernels.cpu import attention_blocks as block

__all__ = ["plan_attention", "plan_attention_input"]

Array = NDArray[Any]

_PRODUCTS_FORWARD, _PRODUCTS_BACKWARD = 2, 5  # matrix products over all scores
_MULTIPLY_WORK, _EXPONENTIAL_WORK = 0.05, 10.0  # of a multiply-add and of an exponential, in additions


# ---- Planners ----


def plan_attention(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    scale: float,
    is_causal: bool,
    has_mask: bool,
) -> Plan | None:
    """Plans attention of (query, key, value, mask?, (seed, draw, p)?); None where NumPy has to do it."""
    problem = _describe(inputs, scale, is_causal, has_mask)
    if problem is None:
        return None
    result, log_sum = (
        (*problem.batch, problem.queries, problem.value_width),
        (*problem.batch, problem.queries),
    )
    specs = [_spec_like(inputs[0], result), OutputSpec(log_sum, problem.dtype)]
    layouts = _layouts(specs, outputs, inputs)
    if layouts is None or (outputs is not None and not outputs[1].flags.c_contiguous):
        return None
    units = problem.entries * problem.blocks
    tasks = tasks_for(problem.work(_PRODUCTS_FORWARD), units)
    words, keep = problem.words({block.RESULT: layouts[0]}, tasks)
    if words is None:
        return None
    words |= {block.RESULTS: len(inputs), block.DRAW: 3 + has_mask if problem.has_dropout else 0}
    return Plan(
        problem.kernel("attention", kernel.make_attention),
        inputs=len(inputs),
        outputs=specs,
        arguments=block_words(words, len(inputs) + 2),
        rows=units,
        tasks=tasks,
        keep=keep,
    )


def plan_attention_input(
    inputs: Sequence[Array],
    outputs: Sequence[Array] | None,
    *,
    scale: float,
    is_causal: bool,
    has_mask: bool,
) -> Plan | None:
    """Plans its gradients from (gradient, query, key, value, result, log-sum-exp, mask?, ...), or None."""
    g, query, key, value, y, log_sum, *rest = inputs
    problem = _describe((query, key, value, *rest), scale, is_causal, has_mask)
    if problem is None or not is_plain([g, y, log_sum], problem.dtype):
        return None
    if not (log_sum.flags.c_contiguous and _has_adjacent_columns(g) and _has_adjacent_columns(y)):
        return None
    # Keys and values that several batch entries share: what each of these contributes
    specs = [_spec_like(x, (*problem.batch, *x.shape[-2:])) for x in (query, key, value)]
    layouts = _layouts(specs, outputs, inputs)
    if layouts is None:
        return None
    roles = block.QUERY_GRADIENT, block.KEY_GRADIENT, block.VALUE_GRADIENT
    strides = dict(zip(roles, layouts, strict=True))
    strides |= {block.RESULT: _strides(y, y.shape), block.GRADIENT: _strides(g, g.shape)}
    work = problem.work(_PRODUCTS_BACKWARD)
    parts = problem.parts(tasks_for(work, problem.entries * problem.blocks))
    units = problem.entries * parts
    tasks = tasks_for(work, units)
    words, keep = problem.words(strides, tasks, parts)
    if words is None:
        return None
    words |= {block.RESULTS: len(inputs), block.DRAW: 6 + has_mask if problem.has_dropout else 0}
    stages = [Stage(problem.kernel("attention_input", kernel.make_attention_input), units, tasks)]
    if parts > 1:
        rows = problem.entries * problem.keys
        stages.append(Stage(problem.kernel("attention_parts", kernel.make_sum_of_parts), rows, tasks))
    return staged_plan(stages, inputs=len(inputs), outputs=specs, words=words, keep=keep)


# ---- Attention as the kernels see it ----


class _Problem(NamedTuple):
    """Sizes, and element strides of the operands by their roles, along the batch axes, rows and columns."""

    batch: tuple[int, ...]
    queries: int
    keys: int
    width: int
    value_width: int
    dtype: np.dtype[Any]
    scale: float
    is_causal: bool
    mask_kind: int
    has_dropout: bool
    input_strides: dict[int, Strides]

    @property
    def entries(self) -> int:
        return math.prod(self.batch)

    @property
    def blocks(self) -> int:
        """Blocks of queries of a batch entry."""
        return -(-self.queries // block.query_block(self.dtype))

    def work(self, products: int) -> float:
        """Cost in additions, of so many matrix products and the exponentials."""
        scores = self.entries * self.queries * self.keys / (2 if self.is_causal else 1)
        return scores * (products * max(self.width, self.value_width) * _MULTIPLY_WORK + _EXPONENTIAL_WORK)

    def parts(self, tasks: int) -> int:
        """Into how many units to split a batch entry, so that all of `tasks` have some to do."""
        is_balanced = self.entries % tasks == 0 or self.entries >= 4 * tasks
        return 1 if is_balanced else min(tasks, self.blocks)

    def words(
        self, strides: dict[int, Strides], tasks: int, parts: int = 1
    ) -> tuple[dict[int, int] | None, Any]:
        """The words of the argument block, None if there are too many loops; and the memory they refer to."""
        strides = self.input_strides | strides
        nest, _ = merge(self.batch, [own[:-2] for own in strides.values()])
        if len(nest.dims) > block.MAX_LOOPS:
            return None, None
        missing = block.MAX_LOOPS - len(nest.dims)
        size = self.dtype.itemsize
        task_bytes = block.scratch_bytes(self.dtype, self.width, self.value_width)
        partial_bytes = parts * self.entries * self.keys * (self.width + self.value_width) * size
        tiles = tile_table(self.dtype)
        scratch = scratch_memory(tasks * task_bytes + (partial_bytes if parts > 1 else 0))
        words = {
            block.QUERIES: self.queries,
            block.KEYS: self.keys,
            block.WIDTH: self.width,
            block.VALUE_WIDTH: self.value_width,
            block.IS_CAUSAL: int(self.is_causal),
            block.SCALE: int(np.float64(self.scale).view(np.int64)),
            block.TILES: tiles.ctypes.data,
            block.SCRATCH: scratch.ctypes.data,
            block.SCRATCH_STRIDE: task_bytes,
            block.PARTS: parts,
            block.PARTIAL: scratch.ctypes.data + tasks * task_bytes,
            block.MASK_KIND: self.mask_kind,
        }
        words |= dict(enumerate((1,) * missing + nest.dims, block.LENGTHS))
        for (role, own), loops in zip(strides.items(), nest.strides, strict=True):
            geometry = (0,) * missing + loops + own[-2:]
            words |= dict(enumerate(geometry, block.geometry_word(role)))
        return words, (scratch, tiles)

    def kernel(self, name: str, make: Callable[..., Callable[..., Any]]) -> int:
        """The compiled kernel for this dtype."""
        name = f"{name}_{self.dtype}"
        return compile_kernel(name, partial(make, self.dtype), name)


def _describe(inputs: Sequence[Array], scale: float, is_causal: bool, has_mask: bool) -> _Problem | None:
    """The problem of (query, key, value, mask?, ...), or None where no kernel computes it."""
    query, key, value, *rest = inputs
    dtype, operands = query.dtype, (query, key, value)
    if dtype not in (np.float32, np.float64) or not is_plain(operands, dtype):
        return None
    if not all(map(_has_adjacent_columns, operands)):
        return None
    batch = np.broadcast_shapes(*[x.shape[:-2] for x in operands])
    strides = {role: _strides(x, (*batch, *x.shape[-2:])) for role, x in enumerate(operands)}
    mask_kind = block.NO_MASK
    if has_mask:
        mask = rest[0]
        if not is_plain([mask], mask.dtype) or mask.dtype not in (dtype, np.bool_):
            return None
        strides[block.MASK] = _strides(mask, (*batch, query.shape[-2], key.shape[-2]))
        mask_kind = block.MASK_OF_BOOLS if mask.dtype == np.bool_ else block.MASK_OF_NUMBERS
    return _Problem(
        batch=batch,
        queries=query.shape[-2],
        keys=key.shape[-2],
        width=query.shape[-1],
        value_width=value.shape[-1],
        dtype=dtype,
        scale=scale,
        is_causal=is_causal,
        mask_kind=mask_kind,
        has_dropout=len(rest) > has_mask,
        input_strides=strides,
    )


def _has_adjacent_columns(x: Array) -> bool:
    return x.shape[-1] == 1 or x.strides[-1] == x.itemsize


def _layouts(
    specs: Sequence[OutputSpec], outputs: Sequence[Array] | None, inputs: Sequence[Array]
) -> list[Strides] | None:
    """Element strides of the outputs, allocated or given; None where no kernel can write to those given."""
    if outputs is None:
        return [_spec_strides(spec) for spec in specs]
    for spec, out in zip(specs, outputs, strict=True):
        if out.shape != spec.shape or not is_plain([out], spec.dtype) or not _has_adjacent_columns(out):
            return None
        if any(out is x for x in inputs):
            return None
    return [_strides(out, out.shape) for out in outputs]


def _strides(x: Array, shape: tuple[int, ...]) -> Strides:
    strides = element_strides(x, shape)
    assert strides is not None  # is_plain: all strides are multiples of the items
    return strides


def _spec_like(x: Array, shape: tuple[int, ...]) -> OutputSpec:
    """A result of a shape with the order of axes that x has in memory, its rows contiguous."""
    if x.ndim != len(shape):
        return OutputSpec(shape, x.dtype)
    outer = memory_order(x.shape[:-1], [_strides(x, x.shape)[:-1]])
    axes = tuple(int(axis) for axis in np.argsort((*outer, len(outer))))
    return OutputSpec(shape, x.dtype, None if axes == tuple(range(x.ndim)) else axes)


def _spec_strides(spec: OutputSpec) -> Strides:
    """Element strides of an output as it will be allocated."""
    axes = spec.axes or tuple(range(len(spec.shape)))
    memory = row_major([spec.shape[k] for k in np.argsort(axes)])
    return tuple(memory[k] for k in axes)
