"""Systems with a triangular matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint
from nbdl.ops.matrices import check_matrices, same_batch, total
from nbdl.ops.primitive import Primitive
from nbdl.ops.triangular import tril, triu

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node


class SolveTriangular(Primitive):
    """X of A X = B, only a triangle of A being read.

    Args:
        upper: which triangle.
        unit: its diagonal counts as 1.
    """

    name = "solve_triangular"
    saved = frozenset((0,))
    saves_output = True

    batch = over_leading_axes

    def __init__(self, upper: bool, unit: bool):
        super().__init__(upper=upper, unit=unit)
        self.upper, self.unit = upper, unit

    def _triangle(self, x: Tensor) -> Tensor:
        """The elements of A that count."""
        return triu(x, int(self.unit)) if self.upper else tril(x, -int(self.unit))

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """gB = A^-H g, gA = -gB X^H in the triangle."""
        assert gradients[0] is not None
        gb = apply(SolveTriangular.of(not self.upper, self.unit), adjoint(node.input(0)), gradients[0])
        ga = self._triangle(-(gb @ adjoint(node.output()))) if node.needs_grad(0) else None
        return ga, gb

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """A^-1 (dB - dA X)."""
        da, db = tangents
        change = total(db, None if da is None else -(self._triangle(da) @ outputs[0]))
        assert change is not None
        return (apply(self, inputs[0], change),)


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X of A X = B with a triangular A. That A is regular is not checked.

    Args:
        A: (..., n, n); the other triangle is not read.
        B: (..., n, k), or (..., k, n) if not ``left``; batches broadcast.
        upper: which triangle of A.
        left: False: X A = B.
        unitriangular: the diagonal of A counts as 1 and is not read.

    Returns:
        X of the shape of B.

    Raises:
        RuntimeError: shapes or dtypes do not fit.

    Example:
        >>> import nbdl
        >>> a = nbdl.tensor([[2.0, 0.0], [1.0, 1.0]])
        >>> nbdl.linalg.solve_triangular(a, nbdl.tensor([[2.0], [3.0]]), upper=False)
        tensor([[1.],
                [2.]])
    """
    check_matrices("linalg.solve_triangular", A, square=True)
    check_matrices("linalg.solve_triangular", B, name="B")
    if A.array.shape[-1] != B.array.shape[-2 if left else -1]:
        raise RuntimeError(
            f"linalg.solve_triangular: Incompatible shapes of A and B for the equation "
            f"{'AX = B' if left else 'XA = B'} ({tuple(A.array.shape[-2:])} and {tuple(B.array.shape[-2:])})"
        )
    A, B = same_batch("linalg.solve_triangular", A, B)
    if left:
        return apply(SolveTriangular.of(upper, unitriangular), A, B)
    transposed = apply(SolveTriangular.of(not upper, unitriangular), A.transpose(-2, -1), B.transpose(-2, -1))
    return transposed.transpose(-2, -1)
