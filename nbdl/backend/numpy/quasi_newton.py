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
            out: (n,), receives the result.
        """
        newest_first = [(oldest + k) % len(steps) for k in reversed(range(count))]
        result = gradient.copy()
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
