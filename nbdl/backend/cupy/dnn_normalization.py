"""Batch normalisation by cuDNN: forward with the statistics of the batch, and backward.

Running statistics are moved behind it by one small kernel, the same on all backends; and inference is one
pointwise kernel, which the compiler joins with its neighbours. Weights and statistics are float32 for cuDNN,
whatever the images are.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nbdl.backend.cupy.dnn import (
    Plan,
    Sketch,
    empty_in_order,
    image_order,
    is_aligned,
    lies,
    packed,
    placed_in_order,
    planar,
)
from nbdl.backend.cupy.libraries import cudnn, plan_of
from nbdl.backend.cupy.placing import target
from nbdl.backend.windows import Sizes
from nbdl.formula import Formula
from nbdl.formula.dtypes import FLOAT32
from nbdl.formula.functions import reciprocal, rsqrt, square, where

_KINDS = ("float16", "bfloat16", "float32")
# The numbers of the operands in a graph.
_X, _WEIGHT, _BIAS, _Y, _MEAN, _INVERSE, _EPS, _GRADIENT, _OF_X, _OF_WEIGHT, _OF_BIAS = range(1, 12)


def _variance(inverse: Any, eps: Any) -> Any:
    found = square(reciprocal(inverse)) - eps
    return where(found < 0, 0, found)


# cuDNN keeps 1 / sqrt(variance + eps).
_VARIANCE = Formula("variance_of_inverse", _variance, 2)
_INVERSE_OF = Formula("inverse_of_variance", lambda variance, eps: rsqrt(variance + eps), 2)


def is_batch_norm(
    x: Any, axes: tuple[int, ...], centred: bool, has_weight: bool, by_channel: bool, groups: int
) -> bool:
    """Whether these parameters of ``normalize`` are what cuDNN computes."""
    return (
        centred
        and by_channel
        and has_weight
        and groups == 0
        and x.dtype.name in _KINDS
        and 2 <= x.ndim <= 5
        and axes == (0, *range(2, x.ndim))
        and x.size > x.shape[1]  # a batch of one number has no variance
        and cudnn() is not None
    )


def forward(backend: Any, x: Any, weight: Any, bias: Any, eps: float, out: Any = None) -> Any:
    """Result, mean and biased variance, in ``out`` as far as they can be; None where cuDNN has no engine."""
    xp, order = backend.xp, _order(x)
    if order is None:
        return None
    plan = _plan(backend, "batch_norm", x, order, eps)
    if plan.graph is None:
        return None
    y = placed_in_order(xp, out and out[0], x.shape, order, x.dtype, x)
    mean, variance = (target(xp, place, _of_channels(x), FLOAT32, x) for place in (out or (None,) * 3)[1:])
    inverse = xp.empty(_of_channels(x), FLOAT32)
    vectors = _wide(backend, weight), _wide(backend, bias)
    arrays = dict(
        zip((_X, _WEIGHT, _BIAS, _Y, _MEAN, _INVERSE), (x, *vectors, y, mean, inverse), strict=True)
    )
    plan(arrays, xp.cuda.get_current_stream())
    backend.pointwise(inverse, np.array(eps), formula=_VARIANCE, weak=1 << 1, out=variance)
    return y, mean, variance


def backward(
    backend: Any, g: Any, x: Any, weight: Any, mean: Any, variance: Any, eps: float, out: Any = None
) -> Any:
    """The gradients of the operand, weight and bias, the last two in float32; None: no engine."""
    xp, order = backend.xp, _order(x)
    if order is None:
        return None
    plan = _plan(backend, "batch_norm_input", x, order, eps)
    if plan.graph is None:
        return None
    if not (lies(g, packed(x.shape, order)) and is_aligned(g)):
        g = backend._copied_into(empty_in_order(xp, x.shape, order, x.dtype), g)
    gx = placed_in_order(xp, out and out[0], x.shape, order, x.dtype, g, x)
    places = (out or (None,) * 3)[1:]
    of_weight, of_bias = (target(xp, place, x.shape[1:2], FLOAT32, g, x, weight) for place in places)
    inverse = backend.pointwise(variance, np.array(eps), formula=_INVERSE_OF, weak=1 << 1)
    arrays = {
        _GRADIENT: g, _X: x, _WEIGHT: _wide(backend, weight), _MEAN: xp.ascontiguousarray(mean),
        _INVERSE: xp.ascontiguousarray(inverse), _OF_X: gx, _OF_WEIGHT: of_weight, _OF_BIAS: of_bias,
    }  # fmt: skip
    plan(arrays, xp.cuda.get_current_stream())
    return gx, of_weight, of_bias


def _order(x: Any) -> tuple[int, ...] | None:
    """The axes in memory, if channels lie last or first and nothing lies between."""
    for is_last in (True, False):
        order = image_order(x.ndim, is_last)
        if lies(x, packed(x.shape, order)) and is_aligned(x):
            return order
    return None


def _of_channels(x: Any) -> Sizes:
    return (1, x.shape[1], *[1] * (x.ndim - 2))


def _wide(backend: Any, vector: Any) -> Any:
    """A vector along the channels as cuDNN reads it."""
    vector = backend.xp.ascontiguousarray(vector)
    return vector if vector.dtype == FLOAT32 else backend.cast(vector, dtype=FLOAT32)


def _plan(backend: Any, name: str, x: Any, order: tuple[int, ...], eps: float) -> Plan:
    kind, stream = x.dtype.name, backend.xp.cuda.get_current_stream()
    key = (name, kind, x.shape, order, eps, int(x.device.id))

    def make() -> Plan:
        place = planar(x.shape, packed(x.shape, order))
        describe = functools.partial(_describe if name == "batch_norm" else _describe_back, place, eps)
        return Plan(cudnn(), backend.xp, kind, f"{name} of {kind}, {x.shape}", describe)

    plan: Plan = plan_of(backend, key, stream, make)
    return plan


def _vector(place: tuple[Sizes, Sizes]) -> tuple[Sizes, Sizes]:
    """Sizes and strides of one number for each channel."""
    dims, channels = place[0], place[0][1]
    return (1, channels, *[1] * (len(dims) - 2)), (channels, 1, *[channels] * (len(dims) - 2))


def _describe(place: tuple[Sizes, Sizes], eps: float, sketch: Sketch) -> None:
    vector = _vector(place)
    found = sketch.graph.batchnorm(
        input=sketch.operand(_X, *place),
        scale=sketch.operand(_WEIGHT, *vector, "float32"),
        bias=sketch.operand(_BIAS, *vector, "float32"),
        in_running_mean=None,
        in_running_var=None,
        epsilon=sketch.value(_EPS, eps, len(place[0])),
        momentum=None,
    )
    sketch.result(found[0], _Y, *place)
    for made, number in zip(found[1:3], (_MEAN, _INVERSE), strict=True):
        sketch.result(made, number, *vector, "float32")


def _describe_back(place: tuple[Sizes, Sizes], eps: float, sketch: Sketch) -> None:
    vector = _vector(place)
    found = sketch.graph.batchnorm_backward(
        grad=sketch.operand(_GRADIENT, *place),
        input=sketch.operand(_X, *place),
        scale=sketch.operand(_WEIGHT, *vector, "float32"),
        mean=sketch.operand(_MEAN, *vector, "float32"),
        inv_variance=sketch.operand(_INVERSE, *vector, "float32"),
    )
    sketch.result(found[0], _OF_X, *place)
    for made, number in zip(found[1:], (_OF_WEIGHT, _OF_BIAS), strict=True):
        sketch.result(made, number, *vector, "float32")
