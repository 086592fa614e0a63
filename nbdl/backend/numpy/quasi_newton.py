"""Quasi-Newton memory on NumPy arrays."""

from __future__ import annotations

from typing import Any

from nbdl.backend.numpy.results import delivered


class QuasiNewton:
    """Primitives of quasi-Newton methods."""

    xp: Any

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
        """The product of the L-BFGS inverse Hessian and the gradient.

        Nocedal & Wright (2006), algorithm 7.4, with the initial matrix (s^T y / y^T y) I of the newest pair,
        eq. (7.20).

        Args:
            gradient: (n,).
            steps: (m, n), the steps s.
            changes: (m, n), the changes y of the gradient.
            curvatures: (m,), s^T y of each pair.
            norms: (m,), y^T y of each pair.
            oldest: the row of the oldest pair.
            count: the number of pairs; they follow each other from there, row 0 after the last.
            negative: gives the direction, the product with the negative gradient.
            out: (n,), receives the result.
        """
        newest_first = [(oldest + k) % len(steps) for k in reversed(range(count))]
        result = -gradient if negative else gradient.copy()
        weights = {}
        for k in newest_first:
            weights[k] = steps[k] @ result / curvatures[k]
            result -= weights[k] * changes[k]
        if newest_first:
            newest = newest_first[0]
            result *= curvatures[newest] / norms[newest]
        for k in reversed(newest_first):
            result += (weights[k] - changes[k] @ result / curvatures[k]) * steps[k]
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
        """The pair s = x - x' and y = g - g' of L-BFGS, with s^T y and y^T y.

        Args:
            step: (n,), a place for s; its values do not matter, nor do those of the next three.
            change: (n,), for y.
            curvature: 0-d, for s^T y.
            norm: 0-d, for y^T y.
            x: (n,).
            old_x: (n,).
            gradient: (n,), at x.
            old_gradient: (n,), at the old x.
            out: receives the results, in general the first four operands.
        """
        s, y = x - old_x, gradient - old_gradient
        return delivered((s, y, s @ y, y @ y), out)

    def slope_and_size(self, x: Any, y: Any, *, out: Any = None) -> Any:
        """x^T y and the largest magnitude in x, as one array (2,).

        Args:
            x: (n,); an empty vector has size 0.
            y: (n,).
            out: receives the result.
        """
        result = self.xp.empty(2, x.dtype)
        result[0], result[1] = x @ y, abs(x).max() if x.size else 0
        return delivered(result, out)
