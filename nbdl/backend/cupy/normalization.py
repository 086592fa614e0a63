"""Normalisation on the GPU: formulas and fused reductions, without a temporary of the size of the operand.

Batches are normalised by cuDNN where it is there and has an engine.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nbdl.backend.cupy import dnn_normalization as dnn
from nbdl.backend.cupy.placing import overlap, target
from nbdl.backend.numpy.normalization import spread_out
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import rsqrt, square

_MEAN = Formula("identity", lambda x: x, 1)
_SQUARE = Formula("square", square, 1)
_SQUARED_DISTANCE = Formula("squared_distance", lambda x, mean: square(x - mean), 2)


def _normalized(x: Any, statistics: tuple[Any, ...]) -> Any:
    """(x - mean) / sqrt(variance + eps) of (mean?, variance, eps)."""
    *mean, variance, eps = statistics
    return (x - mean[0] if mean else x) * rsqrt(variance + eps)


@functools.cache
def _result(centred: bool, has_weight: bool, has_bias: bool) -> Formula:
    """Of x, mean?, variance, weight?, bias?, eps."""

    def rule(x: Any, *rest: Any) -> Any:
        *statistics, eps = rest
        count = 1 + centred
        affine = statistics[count:]
        y = _normalized(x, (*statistics[:count], eps))
        if has_weight:
            y = y * affine[0]
        return y + affine[-1] if has_bias else y

    return Formula("normalize", rule, 3 + centred + has_weight + has_bias)


@functools.cache
def _slope_of_weight(centred: bool) -> Formula:
    """Of g, x, mean?, variance, eps: g times the normalised x."""
    return Formula("weight_slope", lambda g, x, *rest: g * _normalized(x, rest), 4 + centred)


@functools.cache
def _slopes(centred: bool, has_weight: bool) -> tuple[Formula, Formula, Formula]:
    """g w; g w times the normalised x; and the gradient by x of these, their means, and x.

    The operands are g, x, weight?, mean?, variance, eps; those of the last one end with the mean of the
    products and, if centred, the mean of g w.
    """

    def scaled(g: Any, *rest: Any) -> Any:
        return g * rest[1] if has_weight else g

    def product(g: Any, *rest: Any) -> Any:
        return scaled(g, *rest) * _normalized(rest[0], rest[1 + has_weight :])

    def gradient(g: Any, *rest: Any) -> Any:
        means = rest[-1 - centred :]
        statistics = rest[1 + has_weight : len(rest) - 1 - centred]
        inner = _normalized(rest[0], statistics) * means[0]
        *_, variance, eps = statistics
        return (scaled(g, *rest) - (inner + means[1] if centred else inner)) * rsqrt(variance + eps)

    arity = 4 + centred + has_weight
    return (
        Formula("scaled_slope", scaled, arity),
        Formula("product_slope", product, arity),
        Formula("normalize_input", gradient, arity + 1 + centred),
    )


class CupyNormalization:
    """See :class:`~nbdl.backend.numpy.normalization.Normalization`."""

    xp: Any
    cast: Any
    pointwise: Any
    reduce: Any

    def normalize(
        self,
        x: Any,
        *affine: Any,
        axes: tuple[int, ...],
        eps: float,
        centred: bool,
        has_weight: bool,
        by_channel: bool = False,
        groups: int = 0,
        out: Any = None,
    ) -> tuple[Any, ...]:
        """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance."""
        if any(array.dtype != x.dtype for array in affine):
            raise ValueError("weight and bias need the dtype of the operand")
        if len(affine) == 2 and dnn.is_batch_norm(x, axes, centred, has_weight, by_channel, groups):
            found = dnn.forward(self, x, *affine, eps, out)
            if found is not None:
                return delivered(found, out)
        shape = x.shape
        x, vectors, axes = spread_out(x, affine, axes, by_channel, groups)
        place, *places = out or (None,) * (2 + centred)
        if centred:
            mean = self._mean(_MEAN, axes, x, place=places[0])
            statistics = [mean, self._mean(_SQUARED_DISTANCE, axes, x, mean, place=places[1])]
        else:
            statistics = [self._mean(_SQUARE, axes, x, place=places[0])]
        formula = _result(centred, has_weight, len(affine) > has_weight)
        y = self._written(formula, shape, place, x, x, *statistics, *vectors, np.array(float(eps)))
        return delivered((y, *statistics), out)

    def normalize_input(
        self,
        g: Any,
        x: Any,
        *rest: Any,
        axes: tuple[int, ...],
        eps: float,
        centred: bool,
        has_weight: bool,
        by_channel: bool = False,
        groups: int = 0,
        out: Any = None,
    ) -> tuple[Any, ...]:
        """The gradients of :meth:`normalize` by x, and by a weight and a bias of the shape of the weight."""
        if dnn.is_batch_norm(x, axes, centred, has_weight, by_channel, groups) and g.dtype == x.dtype:
            weight, mean, variance = rest
            found = dnn.backward(self, g, x, weight, mean, variance, eps, out)
            if found is not None:
                of_x, *others = found
                kind = rest[0].dtype
                others = [v if v.dtype == kind else self.cast(v, dtype=kind) for v in others]
                return delivered((of_x, *others), out)
        scaled, product, gradient = _slopes(centred, has_weight)
        shape, shape_of_weight = x.shape, rest[0].shape
        x, vectors, axes = spread_out(x, rest[:has_weight], axes, by_channel, groups)
        g, rest = g.reshape(x.shape), (*vectors, *rest[has_weight:])
        operands = (g, x, *rest, np.array(float(eps)))
        means = [self._mean(product, axes, *operands)]
        if centred:
            means.append(self._mean(scaled, axes, *operands))
        out = out if out is None or isinstance(out, tuple) else (out,)
        place, *places = out or (None,) * (1 + 2 * has_weight)
        results = [self._written(gradient, shape, place, x, *operands, *means)]
        if has_weight:
            weight, *statistics = rest
            shared = tuple([k for k, n in enumerate(weight.shape) if n == 1])
            of_weight = (g, x, *statistics, operands[-1])
            terms = (_slope_of_weight(centred), of_weight), (_MEAN, (g,))
            for (formula, inputs), given in zip(terms, places, strict=True):
                total = target(self.xp, given, shape_of_weight, weight.dtype, *inputs, weight)
                self._reduced("sum", formula, shared, total.reshape(weight.shape), *inputs)
                results.append(total)
        return delivered(tuple(results), out)

    def _mean(self, formula: Formula, axes: tuple[int, ...], *operands: Any, place: Any = None) -> Any:
        """The mean of a formula over ``axes``, kept with length 1, in at least float32."""
        shape = np.broadcast_shapes(*[x.shape for x in operands])
        kept = tuple([1 if axis in axes else n for axis, n in enumerate(shape)])
        kind = dtypes.arithmetic_dtype(operands[0].dtype)
        return self._reduced("mean", formula, axes, target(self.xp, place, kept, kind, *operands), *operands)

    def _reduced(self, kind: str, formula: Formula, axes: tuple[int, ...], out: Any, *operands: Any) -> Any:
        return self.reduce(
            *operands,
            formula=formula, kind=kind, axes=axes, keepdims=True, weak=_weak(operands), out=out,
        )  # fmt: skip

    def _written(self, formula: Formula, shape: tuple[int, ...], place: Any, x: Any, *operands: Any) -> Any:
        """A formula as an array of this shape: in ``place`` if it can be, else in the layout of ``x``."""
        is_apart = place is not None and not any(overlap(operand, place) for operand in operands)
        is_direct = is_apart and place.dtype == x.dtype and (x.shape == shape or place.flags.c_contiguous)
        if is_direct:
            result = place if x.shape == shape else place.reshape(x.shape)
        else:
            result = self.xp.empty_like(x)
        self.pointwise(*operands, formula=formula, weak=_weak(operands), out=result)
        return place if is_direct else result.reshape(shape)


def _weak(operands: tuple[Any, ...]) -> int:
    """The bits of the operands that are numbers on the host."""
    return sum([1 << k for k, x in enumerate(operands) if isinstance(x, np.ndarray)])
