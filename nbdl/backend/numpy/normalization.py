"""Normalisation on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


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
        out: Any = None,
    ) -> tuple[Any, ...]:
        """(x - mean) / sqrt(variance + eps) * weight + bias.

        Args:
            x: the operand.
            affine: weight and bias, each optional, of the rank of x, broadcast over it.
            axes: the axes over which mean and variance are taken.
            eps: added to the variance.
            centred: subtract the mean; without it, the variance is the mean square (RMS normalisation).
            has_weight: whether the first of ``affine`` is the weight.
            out: receives the results.

        Returns:
            The result in the dtype of x; mean (only if ``centred``) and variance (biased) with the reduced
            axes left at length 1, in at least float32.
        """
        if any(array.ndim != x.ndim or array.dtype != x.dtype for array in affine):
            raise ValueError("weight and bias need the rank and the dtype of the operand")
        wide = widened(x)
        with np.errstate(all="ignore"):
            statistics = self._statistics(wide, axes, centred)
            result = self._normalized(wide, statistics, eps)
            weight, bias = _affine(affine, has_weight)
            if weight is not None:
                result = result * weight
            if bias is not None:
                result = result + bias
        return delivered((narrowed(result, x.dtype), *statistics), out)

    def normalize_input(
        self,
        g: Any,
        x: Any,
        *rest: Any,
        axes: tuple[int, ...],
        eps: float,
        centred: bool,
        has_weight: bool,
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
            out: receives the results.

        Returns:
            The gradient of x, and with a weight g * n and g summed to its shape.
        """
        weight, statistics = (rest[0], rest[1:]) if has_weight else (None, rest)
        wide = widened(g)
        with np.errstate(all="ignore"):
            normalized = self._normalized(widened(x), statistics, eps)
            scaled = wide if weight is None else wide * weight
            inner = normalized * (scaled * normalized).mean(axes, keepdims=True)
            if centred:
                inner = inner + scaled.mean(axes, keepdims=True)
            gx = (scaled - inner) / self.xp.sqrt(statistics[-1] + statistics[-1].dtype.type(eps))
            results = [narrowed(gx, x.dtype)]
            if weight is not None:
                shared = tuple(k for k, n in enumerate(weight.shape) if n == 1)
                for product in (wide * normalized, wide):
                    results.append(narrowed(product.sum(shared, keepdims=True), weight.dtype))
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


def _affine(affine: tuple[Any, ...], has_weight: bool) -> tuple[Any, Any]:
    """(weight, bias), None where absent."""
    weight = affine[0] if has_weight else None
    bias = affine[-1] if len(affine) > has_weight else None
    return weight, bias
