"""The two-loop recursion of L-BFGS as one primitive."""

from __future__ import annotations

from typing import Any

from nbdl.ops.primitive import Primitive


class TwoLoop(Primitive):
    """H g for the inverse Hessian H that L-BFGS remembers; see the method of the NumPy backend.

    The operands are g (n,), steps s and gradient changes y (m, n) as rings, and s^T y and y^T y (m,) of each
    pair.

    Args:
        oldest: the row of the oldest pair.
        count: how many pairs there are; they follow it, and row 0 follows the last row.
    """

    name = "two_loop"
    differentiable = False

    def __init__(self, oldest: int, count: int):
        super().__init__(oldest=oldest, count=count)

    def check(self, *arrays: Any) -> None:
        """One dtype; (n,), (m, n), (m, n), (m,), (m,)."""
        gradient, _, _, curvatures, _ = arrays
        n, m = gradient.size, len(curvatures)
        shapes = [array.shape for array in arrays]
        if shapes != [(n,), (m, n), (m, n), (m,), (m,)]:
            raise RuntimeError(
                "two_loop: expected operands of shapes (n,), (m, n), (m, n), (m,), (m,), got "
                f"{', '.join(map(str, shapes))}"
            )
        if len({array.dtype for array in arrays}) > 1:
            raise RuntimeError(
                f"two_loop: expected operands of one dtype, got {', '.join(str(a.dtype) for a in arrays)}"
            )
