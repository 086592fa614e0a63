"""Normalisation on NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


def spread_out(
    x: Any, vectors: Sequence[Any], axes: tuple[int, ...], by_channel: bool, groups: int
) -> tuple[Any, list[Any], tuple[int, ...]]:
    """Operand, weight and bias of one rank, so that they broadcast, and the axes that are averaged.

    Args:
        x: the operand; an array or a tensor, as the others.
        vectors: weight, bias, each optional.
        axes: the axes over which mean and variance are taken.
        by_channel: the vectors run along axis 1 of x, not along its last axes.
        groups: where it is not 0, axis 1 is split into so many groups, each averaged over all axes behind;
            the operand becomes (N, groups, channels of a group, elements of a channel).
    """
    shape = tuple(x.shape)
    if groups:
        channels = shape[1] // groups
        x = x.reshape((shape[0], groups, channels, math.prod(shape[2:])))
        return x, [vector.reshape((1, groups, channels, 1)) for vector in vectors], (2, 3)
    if by_channel:
        return x, [vector.reshape((1, shape[1], *[1] * (len(shape) - 2))) for vector in vectors], axes
    ranks = [len(shape) - len(vector.shape) for vector in vectors]
    return (
        x,
        [vector.reshape((*[1] * n, *vector.shape)) if n else vector for vector, n in zip(vectors, ranks)],
        axes,
    )


class Normalization:
    """Batch, layer, group, instance and RMS normalisation: one computation over different axes."""

    xp: Any

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
        """(x - mean) / sqrt(variance + eps) * weight + bias.

        Args:
            x: the operand.
            affine: weight and bias, each optional, broadcast over x.
            axes: the axes over which mean and variance are taken.
            eps: added to the variance.
            centred: subtract the mean; without it, the variance is the mean square (RMS normalisation).
            has_weight: whether the first of ``affine`` is the weight.
            by_channel: weight and bias run along axis 1.
            groups: see :func:`spread_out`.
            out: receives the results.

        Returns:
            The result in the dtype of x; mean (only if ``centred``) and variance (biased) with the reduced
            axes left at length 1, in at least float32.
        """
        if any(array.dtype != x.dtype for array in affine):
            raise ValueError("weight and bias need the dtype of the operand")
        wide, vectors, axes = spread_out(widened(x), affine, axes, by_channel, groups)
        with np.errstate(all="ignore"):
            statistics = self._statistics(wide, axes, centred)
            result = self._normalized(wide, statistics, eps)
            weight, bias = _affine(vectors, has_weight)
            if weight is not None:
                result = result * weight
            if bias is not None:
                result = result + bias
        return delivered((narrowed(result.reshape(x.shape), x.dtype), *statistics), out)

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
        """The gradients of :meth:`normalize` by x, and by a weight and a bias of the shape of the weight.

        With n the normalised operand and m the mean over ``axes``: (g w - m(g w) - n m(g w n)) /
        sqrt(variance + eps).

        Args:
            g: gradient of the result.
            x: the operand.
            rest: the weight if ``has_weight``, then mean (if ``centred``) and variance.
            axes: of :meth:`normalize`.
            eps: of :meth:`normalize`.
            centred: of :meth:`normalize`.
            has_weight: of :meth:`normalize`.
            by_channel: of :meth:`normalize`.
            groups: of :meth:`normalize`.
            out: receives the results.

        Returns:
            The gradient of x, and with a weight g * n and g summed to its shape.
        """
        statistics = rest[has_weight:]
        wide_x, vectors, axes = spread_out(widened(x), rest[:has_weight], axes, by_channel, groups)
        wide, weight = widened(g).reshape(wide_x.shape), vectors[0] if vectors else None
        with np.errstate(all="ignore"):
            normalized = self._normalized(wide_x, statistics, eps)
            scaled = wide if weight is None else wide * weight
            inner = normalized * (scaled * normalized).mean(axes, keepdims=True)
            if centred:
                inner = inner + scaled.mean(axes, keepdims=True)
            gx = (scaled - inner) / self.xp.sqrt(statistics[-1] + statistics[-1].dtype.type(eps))
            results = [narrowed(gx.reshape(x.shape), x.dtype)]
            if weight is not None:
                shared = tuple(k for k, n in enumerate(weight.shape) if n == 1)
                for product in (wide * normalized, wide):
                    total = product.sum(shared, keepdims=True).reshape(rest[0].shape)
                    results.append(narrowed(total, weight.dtype))
        return delivered(tuple(results), out)

    def _statistics(self, x: Any, axes: tuple[int, ...], centred: bool) -> tuple[Any, ...]:
        """Mean (if centred) and variance; in two passes, so that a large mean does not cost digits."""
        if not centred:
            return (self.xp.square(x).mean(axes, keepdims=True),)
        mean = x.mean(axes, keepdims=True)
        return mean, self.xp.square(x - mean).mean(axes, keepdims=True)

    def _normalized(self, x: Any, statistics: tuple[Any, ...], eps: float) -> Any:
        centred = x if len(statistics) == 1 else x - statistics[0]
        return centred / self.xp.sqrt(statistics[-1] + statistics[-1].dtype.type(eps))


def _affine(affine: Sequence[Any], has_weight: bool) -> tuple[Any, Any]:
    """(weight, bias), None where absent."""
    weight = affine[0] if has_weight else None
    bias = affine[-1] if len(affine) > has_weight else None
    return weight, bias
