"""What line searches and L-BFGS compute with flat vectors, as primitives that read each vector once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbdl.ops.primitive import Primitive


class TwoLoop(Primitive):
    """H g for the inverse Hessian H that L-BFGS remembers; see the method of the NumPy backend.

    The operands are g (n,), steps s and gradient changes y (m, n) as rings, and s^T y and y^T y (m,) of each
    pair.

    Args:
        oldest: the row of the oldest pair.
        count: how many pairs there are; they follow it, and row 0 follows the last row.
        negative: -H g instead.
    """

    name = "two_loop"
    differentiable = False

    def __init__(self, oldest: int, count: int, negative: bool = False):
        super().__init__(oldest=oldest, count=count, negative=negative)

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


class RememberPair(Primitive):
    """s = x - x', y = g - g', s^T y and y^T y of ``(s, y, s^T y, y^T y, x, x', g, g')``.

    The first four operands are there to be overwritten: the rows of a memory.
    """

    name = "remember_pair"
    differentiable = False

    def __init__(self) -> None:
        super().__init__()

    def check(self, *arrays: Any) -> None:
        """Vectors of one length and one dtype."""
        _check_vectors(self.label, [arrays[k] for k in (0, 1, 4, 5, 6, 7)])


class SlopeAndSize(Primitive):
    """``slope_and_size(x, y)``: x^T y and max |x| as one tensor (2,), so that both are read at once."""

    name = "slope_and_size"
    differentiable = False

    def __init__(self) -> None:
        super().__init__()

    def check(self, *arrays: Any) -> None:
        """Vectors of one length and one dtype."""
        _check_vectors(self.label, arrays)


def _check_vectors(label: str, arrays: Sequence[Any]) -> None:
    first = arrays[0]
    if any(x.ndim != 1 or x.shape != first.shape or x.dtype != first.dtype for x in arrays):
        raise RuntimeError(
            f"{label}: expected vectors of one length and dtype, got "
            f"{', '.join(f'{x.dtype}{list(x.shape)}' for x in arrays)}"
        )
