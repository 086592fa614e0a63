"""Linear operators: matrices that are known by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import eye
from nbdl.ops.joining import stack


class LinearOperator:
    """An (m, n) matrix A of which at least the products A v are known.

    A subclass defines :meth:`matvec`, and what it can do better than by products with unit vectors.

    Args:
        shape: (m, n).
        dtype: of the vectors.

    Example:
        >>> import nbdl
        >>> from nbdl.optim.operators import FunctionOperator
        >>> twice = FunctionOperator((2, 2), nbdl.float64, lambda v: 2 * v)
        >>> twice @ nbdl.tensor([1.0, 3.0], dtype=nbdl.float64)
        tensor([2., 6.], dtype=float64)
    """

    def __init__(self, shape: tuple[int, int], dtype: Any):
        self.shape, self.dtype = shape, np.dtype(dtype)

    def matvec(self, v: Tensor) -> Tensor:
        """A v.

        Args:
            v: (n,).

        Returns:
            (m,)
        """
        raise NotImplementedError(f"{type(self).__name__} defines no matvec")

    def __matmul__(self, other: Tensor) -> Tensor:
        """A times a vector (n,), or times the columns of a matrix (n, k)."""
        if other.ndim not in (1, 2) or other.shape[0] != self.shape[1]:
            raise RuntimeError(
                f"matmul: an operator of shape {self.shape} multiplies a vector ({self.shape[1]},) or a "
                f"matrix ({self.shape[1]}, k), got shape {tuple(other.shape)}"
            )
        if other.ndim == 1:
            return self.matvec(other)
        return stack([self.matvec(column.contiguous()) for column in other.unbind(1)], 1)

    def to_dense(self, like: Tensor) -> Tensor:
        """The matrix.

        Args:
            like: a tensor on the device where it shall be.
        """
        return self @ eye(self.shape[1], dtype=self.dtype, device=like.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]}, {self.shape[1]}, dtype={self.dtype})"


class FunctionOperator(LinearOperator):
    """An operator given by the function that multiplies it with a vector."""

    def __init__(self, shape: tuple[int, int], dtype: Any, function: Callable[[Tensor], Tensor]):
        super().__init__(shape, dtype)
        self._function = function

    def matvec(self, v: Tensor) -> Tensor:
        return self._function(v)


class DenseOperator(LinearOperator):
    """A matrix as an operator.

    Args:
        matrix: (m, n).
    """

    def __init__(self, matrix: Tensor):
        rows, columns = matrix.shape
        super().__init__((rows, columns), matrix.dtype)
        self.matrix = matrix

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self.matrix @ v

    def to_dense(self, like: Tensor) -> Tensor:
        return self.matrix
