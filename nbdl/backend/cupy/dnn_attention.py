"""Scaled dot-product attention by cuDNN, in half precision: no matrix of scores is ever stored.

It computes what has neither a mask nor dropout. A mask may hide everything from a query, whose result is zero
here and NaN there; and its dropout draws other numbers than this package does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.backend.cupy.dnn import Plan, Sketch, empty_in_order, is_aligned, is_upright, lies, packed, steps_of
from nbdl.backend.cupy.libraries import cudnn, plan_of, state, tell
from nbdl.backend.cupy.placing import overlap
from nbdl.backend.loops import memory_order
from nbdl.backend.windows import Sizes
from nbdl.formula.dtypes import FLOAT32, is_half

# The numbers of the operands in a graph.
_QUERY, _KEY, _VALUE, _RESULT, _STATISTICS, _GRADIENT = range(1, 7)
_OF_QUERY, _OF_KEY, _OF_VALUE = range(7, 10)


def attend(backend: Any, operands: Sequence[Any], scale: float, is_causal: bool, out: Any) -> Any:
    """The result of attention and the logarithms of the sums of exponentials, in float32; None: not by cuDNN.

    Args:
        backend: keeps the plan.
        operands: query (..., L, E), key (..., S, E), value (..., S, V), with the same axes in front.
        scale: of the products of queries and keys.
        is_causal: query i sees keys up to i only.
        out: receives the result if it can.
    """
    arrays = _four_axes(operands)
    if arrays is None:
        return None
    query, value = arrays[0], arrays[2]
    shape = (*query.shape[:-1], value.shape[-1])
    target = _target(backend, out, shape, _order(query), query.dtype, arrays)
    plan = _plan(backend, "attention", arrays, (shape,), (steps_of(target),), scale, is_causal)
    if plan.graph is None:
        return None
    log_sum = backend.xp.empty((*shape[:-1], 1), FLOAT32)
    numbered = dict(
        zip((_QUERY, _KEY, _VALUE, _RESULT, _STATISTICS), (*arrays, target, log_sum), strict=True)
    )
    plan(numbered, backend.xp.cuda.get_current_stream())
    lead = operands[0].shape[:-1]
    result = target.reshape((*lead, shape[-1]))
    is_there = out is not None and result.data.ptr == out.data.ptr
    return out if is_there else result, log_sum.reshape(lead)


def attend_back(backend: Any, operands: Sequence[Any], log_sum: Any, scale: float, is_causal: bool) -> Any:
    """The gradients of query, key and value; None: not by cuDNN.

    Args:
        backend: keeps the plan.
        operands: query, key, value, the result, and its gradient.
        log_sum: (..., L), float32, what :func:`attend` gave.
        scale: as there.
        is_causal: as there.
    """
    arrays = _four_axes(operands)
    if arrays is None:
        return None
    shapes = tuple([x.shape for x in arrays[:3]])
    results = [empty_in_order(backend.xp, x.shape, _order(x), x.dtype) for x in arrays[:3]]
    steps = tuple([steps_of(x) for x in results])
    plan = _plan(backend, "attention_input", arrays, shapes, steps, scale, is_causal)
    if plan.graph is None:
        return None
    log_sum = backend.xp.ascontiguousarray(log_sum).reshape((*arrays[0].shape[:-1], 1))
    numbers = (
        _QUERY, _KEY, _VALUE, _RESULT, _GRADIENT, _STATISTICS, _OF_QUERY, _OF_KEY, _OF_VALUE
    )  # fmt: skip
    plan(dict(zip(numbers, (*arrays, log_sum, *results), strict=True)), backend.xp.cuda.get_current_stream())
    return [result.reshape(x.shape) for result, x in zip(results, operands[:3], strict=True)]


def _four_axes(operands: Sequence[Any]) -> list[Any] | None:
    """The operands as (N, heads, rows, columns) with neighbouring columns; None where cuDNN has no use."""
    first = operands[0]
    if cudnn() is None or not all(x.size for x in operands):
        return None
    if not is_half(first.dtype):
        tell(f"cuDNN does not compute attention of {first.dtype.name}: own kernels do")
        return None
    lead = first.shape[:-2]
    if not 1 <= len(lead) <= 2 or any(x.shape[:-2] != lead or x.dtype != first.dtype for x in operands):
        return None
    return [_upright(x if x.ndim == 4 else x[:, None]) for x in operands]


def _upright(x: Any) -> Any:
    """The array, copied if elements overlap, axes run backwards or columns are no neighbours."""
    return x if x.strides[-1] == x.itemsize and is_upright(x) and is_aligned(x) else x.copy("C")


def _order(x: Any) -> tuple[int, ...]:
    """The axes from the outermost to the innermost in memory."""
    return tuple(memory_order(x.shape, [steps_of(x)]))


def _target(
    backend: Any, out: Any, shape: Sizes, order: Sequence[int], dtype: np.dtype, operands: Sequence[Any]
) -> Any:
    """``out`` where it lies as cuDNN can write it, else a new array in the order of the query."""
    if out is not None and out.dtype == dtype and is_aligned(out):
        target = out if out.ndim == 4 else out[:, None]
        if lies(target, packed(shape, order)) and not any(overlap(x, target) for x in operands):
            return target
    return empty_in_order(backend.xp, shape, order, dtype)


def _plan(
    backend: Any, name: str, operands: Sequence[Any], shapes: Any, steps: Any, scale: float, is_causal: bool
) -> Plan:
    """The plan for operands like these."""
    xp, first = backend.xp, operands[0]
    kind = first.dtype.name
    places = tuple((x.shape, steps_of(x)) for x in operands)
    is_ordered = state.is_deterministic
    key = (name, kind, places, shapes, steps, scale, is_causal, is_ordered, int(first.device.id))

    def make() -> Plan:
        back = functools.partial(_describe_back, is_ordered=is_ordered)
        describe = _describe if name == "attention" else back
        results = tuple(zip(shapes, steps, strict=True))
        label = f"{name} of {kind}, {', '.join(str(x.shape) for x in operands[:3])}"
        described = functools.partial(describe, places, results, scale, is_causal)
        return Plan(cudnn(), xp, kind, label, described)

    plan: Plan = plan_of(backend, key, xp.cuda.get_current_stream(), make)
    return plan


def _masking(sketch: Sketch, scale: float, is_causal: bool) -> dict[str, Any]:
    """The arguments that both directions share: the diagonal begins at the first query and key."""
    found: dict[str, Any] = {"attn_scale": scale}
    if is_causal:
        found["diagonal_alignment"] = sketch.library.diagonal_alignment.TOP_LEFT
        found["diagonal_band_right_bound"] = 0
    return found


def _statistics_of(places: Any) -> tuple[Sizes, Sizes]:
    """Sizes and strides of one number for each query."""
    shape = (*places[0][0][:-1], 1)
    return shape, packed(shape, range(4))


def _describe(places: Any, results: Any, scale: float, is_causal: bool, sketch: Sketch) -> None:
    q, k, v = (
        sketch.operand(number, *place) for number, place in zip((_QUERY, _KEY, _VALUE), places, strict=True)
    )
    o, statistics = sketch.graph.sdpa(
        q=q, k=k, v=v, generate_stats=True, **_masking(sketch, scale, is_causal)
    )
    sketch.result(o, _RESULT, *results[0])
    sketch.result(statistics, _STATISTICS, *_statistics_of(places), "float32")


def _describe_back(
    places: Any, results: Any, scale: float, is_causal: bool, sketch: Sketch, is_ordered: bool = False
) -> None:
    q, k, v, o, g = (
        sketch.operand(number, *place)
        for number, place in zip((_QUERY, _KEY, _VALUE, _RESULT, _GRADIENT), places, strict=True)
    )
    statistics = sketch.operand(_STATISTICS, *_statistics_of(places), "float32")
    found = sketch.graph.sdpa_backward(
        q=q, k=k, v=v, o=o, dO=g, stats=statistics, use_deterministic_algorithm=is_ordered,
        **_masking(sketch, scale, is_causal),
    )  # fmt: skip
    for made, number, place in zip(found, (_OF_QUERY, _OF_KEY, _OF_VALUE), results, strict=True):
        sketch.result(made, number, *place)
