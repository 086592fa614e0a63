"""Quasi-Newton memory on the GPU: dot products are reductions of this package, so a graph can hold them."""

from __future__ import annotations

from typing import Any

from nbdl.backend.cupy.placing import target
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula
from nbdl.formula.functions import abs as magnitude

_IDENTITY = Formula("identity", lambda x: x, 1)
_NEGATIVE = Formula("negative", lambda x: -x, 1)
_PRODUCT = Formula("product", lambda x, y: x * y, 2)
_MAGNITUDE = Formula("magnitude", magnitude, 1)
_LESS = Formula("less_part", lambda r, dot, curvature, change: r - dot / curvature * change, 4)
_SCALED = Formula("scaled", lambda r, curvature, norm: r * (curvature / norm), 3)
_MORE = Formula("more_part", lambda r, before, dot, curvature, step: r + (before - dot) / curvature * step, 5)
_DIFFERENCES = Formula("differences", lambda x, old_x, g, old_g: (x - old_x, g - old_g), 4)


class CupyQuasiNewton:
    """See :class:`~nbdl.backend.numpy.quasi_newton.QuasiNewton`."""

    xp: Any
    pointwise: Any
    reduce: Any

    def two_loop(
        self,
        gradient: Any,
        steps: Any,
        changes: Any,
        curvatures: Any,
        norms: Any,
        *,
        oldest: int,
        count: int,
        negative: bool = False,
        out: Any = None,
    ) -> Any:
        """The product of the L-BFGS inverse Hessian and the gradient."""
        newest_first = [(oldest + k) % len(steps) for k in reversed(range(count))]
        memory = gradient, steps, changes, curvatures, norms
        result = target(self.xp, out, gradient.shape, gradient.dtype, *memory)
        self.pointwise(gradient, formula=_NEGATIVE if negative else _IDENTITY, out=result)
        products = {}
        for k in newest_first:
            products[k] = self._dot(steps[k], result)
            self.pointwise(result, products[k], curvatures[k], changes[k], formula=_LESS, out=result)
        if newest_first:
            newest = newest_first[0]
            self.pointwise(result, curvatures[newest], norms[newest], formula=_SCALED, out=result)
        for k in reversed(newest_first):
            dot = self._dot(changes[k], result)
            operands = result, products[k], dot, curvatures[k], steps[k]
            self.pointwise(*operands, formula=_MORE, out=result)
        return delivered(result, out)

    def remember_pair(
        self,
        step: Any,
        change: Any,
        curvature: Any,
        norm: Any,
        x: Any,
        old_x: Any,
        gradient: Any,
        old_gradient: Any,
        *,
        out: Any = None,
    ) -> tuple[Any, Any, Any, Any]:
        """The pair of steps of x and of the gradient, and two of their products."""
        points, places = (x, old_x, gradient, old_gradient), out or (None,) * 4
        s, y = (target(self.xp, place, x.shape, x.dtype, *points) for place in places[:2])
        self.pointwise(*points, formula=_DIFFERENCES, out=(s, y))
        products = [target(self.xp, place, (), x.dtype, s, y) for place in places[2:]]
        for first, product in zip((s, y), products, strict=True):
            self._dot(first, y, product.reshape(1))
        return delivered((s, y, *products), out)

    def slope_and_size(self, x: Any, y: Any, *, out: Any = None) -> Any:
        """x^T y and the largest magnitude in x."""
        result = target(self.xp, out, (2,), x.dtype, x, y)
        self._dot(x, y, result[:1])
        if x.size:
            self._all(_MAGNITUDE, "max", result[1:], x)
        else:
            result.fill(0)
        return delivered(result, out)

    def _dot(self, x: Any, y: Any, out: Any = None) -> Any:
        """x^T y as 0-d array, or in an array (1,)."""
        return self._all(_PRODUCT, "sum", out, x, y)

    def _all(self, formula: Formula, kind: str, out: Any, *operands: Any) -> Any:
        is_kept = out is not None
        return self.reduce(*operands, formula=formula, kind=kind, axes=(0,), keepdims=is_kept, out=out)
