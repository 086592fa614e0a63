"""Linear operators: matrices that are known by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.backend.device import CPU
from nbdl.ops.creation import eye, from_numpy
from nbdl.ops.joining import cat, stack

_COLUMNS = 64  # of the identity that are multiplied at a time


class LinearOperator:
    """An (m, n) matrix A of which at least the products A v are known.

    A subclass defines :meth:`matvec`, :meth:`rmatvec` if the matrix is not symmetric, and what it can do
    better than by products with unit vectors. Operators add, and are multiplied by numbers.

    Args:
        shape: (m, n).
        dtype: of the vectors.
        device: where they are.

    Attributes:
        is_symmetric: whether A^T = A.

    Example:
        >>> import nbdl
        >>> from nbdl.optim.curvature import FunctionOperator
        >>> twice = FunctionOperator((2, 2), nbdl.float64, lambda v: 2 * v)
        >>> twice @ nbdl.tensor([1.0, 3.0], dtype=nbdl.float64)
        tensor([2., 6.], dtype=float64)
        >>> (twice + 3 * twice).diagonal()
        tensor([8., 8.], dtype=float64)
    """

    is_symmetric = True

    def __init__(self, shape: tuple[int, int], dtype: Any, device: Any = CPU):
        self.shape, self.dtype, self.device = shape, np.dtype(dtype), device

    # ------------------------------------------------------------------------------ what a subclass defines
    def matvec(self, v: Tensor) -> Tensor:
        """A v.

        Args:
            v: (n,).

        Returns:
            (m,)
        """
        raise NotImplementedError(f"{type(self).__name__} defines no matvec")

    def rmatvec(self, v: Tensor) -> Tensor:
        """A^T v.

        Args:
            v: (m,).

        Returns:
            (n,)
        """
        if self.is_symmetric:
            return self.matvec(v)
        raise NotImplementedError(f"{type(self).__name__} defines no rmatvec")

    def matmat(self, v: Tensor) -> Tensor:
        """A times the columns of a matrix.

        Args:
            v: (n, k).

        Returns:
            (m, k)
        """
        return stack([self.matvec(column.contiguous()) for column in v.unbind(1)], 1)

    # ---------------------------------------------------------------------------------------------- products
    def __matmul__(self, other: Tensor) -> Tensor:
        """A times a vector (n,), or times the columns of a matrix (n, k).

        Raises:
            TypeError: ``other`` is no tensor.
            RuntimeError: its shape or dtype does not fit.
        """
        if not isinstance(other, Tensor):
            raise TypeError(f"matmul: an operator multiplies a tensor, got {type(other).__name__}")
        if other.ndim not in (1, 2) or other.shape[0] != self.shape[1]:
            raise RuntimeError(
                f"matmul: an operator of shape {self.shape} multiplies a vector ({self.shape[1]},) or a "
                f"matrix ({self.shape[1]}, k), got shape {tuple(other.shape)}"
            )
        if other.dtype != self.dtype:
            raise RuntimeError(
                f"matmul: an operator of dtype {self.dtype} multiplies tensors of this dtype, got "
                f"{other.dtype}"
            )
        if other.ndim == 1:
            return self.matvec(other)
        return self.matmat(other) if other.shape[1] else other.new_zeros((self.shape[0], 0))

    @property
    def T(self) -> LinearOperator:
        """The transpose; the operator itself if it is symmetric."""
        return self if self.is_symmetric else _Transposed(self)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return _Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, factor: float) -> LinearOperator:
        return _Scaled(self, float(factor)) if isinstance(factor, (int, float)) else NotImplemented

    __rmul__ = __mul__

    # ----------------------------------------------------------------------------------------------- entries
    def to_dense(self) -> Tensor:
        """The matrix (m, n)."""
        n = self.shape[1]
        with no_grad():
            identity = eye(n, dtype=self.dtype, device=self.device)
        pieces = [self @ identity[:, k : k + _COLUMNS].contiguous() for k in range(0, n, _COLUMNS)]
        with no_grad():
            return cat(pieces, 1) if len(pieces) > 1 else pieces[0]

    def diagonal(self) -> Tensor:
        """The diagonal of a square matrix (n,), by products with all unit vectors.

        Raises:
            RuntimeError: the matrix is not square.
        """
        require_square("diagonal", self)
        n, pieces = self.shape[0], []
        for k in range(0, n, _COLUMNS):
            with no_grad():
                units = eye(n, dtype=self.dtype, device=self.device)[:, k : k + _COLUMNS].contiguous()
            columns = self @ units
            with no_grad():
                pieces.append((columns * units).sum(0))
        return cat(pieces)

    def to_scipy(self) -> Any:
        """The same as a ``scipy.sparse.linalg.LinearOperator`` of NumPy arrays."""
        from scipy.sparse.linalg import LinearOperator as SciPyOperator

        def on_arrays(function: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
            def call(array: np.ndarray) -> np.ndarray:
                vector = from_numpy(np.array(array, self.dtype))
                return function(vector.to(device=self.device)).cpu().numpy()

            return call

        return SciPyOperator(
            self.shape,
            on_arrays(lambda v: self @ v.reshape(-1)),
            on_arrays(lambda v: self.T @ v.reshape(-1)),
            on_arrays(self.__matmul__),
            self.dtype,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]}, {self.shape[1]}, dtype={self.dtype})"


def require_square(caller: str, operator: LinearOperator) -> None:
    """Raise RuntimeError unless an operator is a square one."""
    if not isinstance(operator, LinearOperator):
        raise TypeError(f"{caller}: expected a LinearOperator, got {type(operator).__name__}")
    if operator.shape[0] != operator.shape[1]:
        raise RuntimeError(f"{caller}: expected a square operator, got one of shape {operator.shape}")


class FunctionOperator(LinearOperator):
    """An operator given by the function that multiplies it with a vector.

    Args:
        shape: (m, n).
        dtype: of the vectors.
        function: gives A v.
        transposed: gives A^T v; None: A is symmetric.
        device: where the vectors are.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: Any,
        function: Callable[[Tensor], Tensor],
        transposed: Callable[[Tensor], Tensor] | None = None,
        device: Any = CPU,
    ):
        super().__init__(shape, dtype, device)
        self._function, self._transposed = function, transposed or function
        self.is_symmetric = transposed is None

    def matvec(self, v: Tensor) -> Tensor:
        return self._function(v)

    def rmatvec(self, v: Tensor) -> Tensor:
        return self._transposed(v)


class DenseOperator(LinearOperator):
    """A matrix as an operator.

    Args:
        matrix: (m, n).
    """

    is_symmetric = False

    def __init__(self, matrix: Tensor):
        rows, columns = matrix.shape
        super().__init__((rows, columns), matrix.dtype, matrix.device)
        self.matrix = matrix

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self.matrix @ v

    matmat = matvec

    def rmatvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self.matrix.T @ v

    @property
    def T(self) -> LinearOperator:
        return DenseOperator(self.matrix.T)

    def to_dense(self) -> Tensor:
        return self.matrix

    def diagonal(self) -> Tensor:
        require_square("diagonal", self)
        return self.matrix.diagonal()


class DiagonalOperator(LinearOperator):
    """A diagonal matrix.

    Args:
        entries: its diagonal (n,).
    """

    def __init__(self, entries: Tensor):
        super().__init__((entries.numel(), entries.numel()), entries.dtype, entries.device)
        self.entries = entries

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self.entries * v

    def matmat(self, v: Tensor) -> Tensor:
        with no_grad():
            return self.entries.unsqueeze(1) * v

    def diagonal(self) -> Tensor:
        return self.entries

    def solve(self, v: Tensor, damping: float = 0.0) -> Tensor:
        """(A + damping I)^-1 v."""
        with no_grad():
            return v / (self.entries + damping)


class _Transposed(LinearOperator):
    is_symmetric = False

    def __init__(self, operator: LinearOperator):
        super().__init__(operator.shape[::-1], operator.dtype, operator.device)
        self._operator = operator

    def matvec(self, v: Tensor) -> Tensor:
        return self._operator.rmatvec(v)

    def rmatvec(self, v: Tensor) -> Tensor:
        return self._operator.matvec(v)

    @property
    def T(self) -> LinearOperator:
        return self._operator


class _Sum(LinearOperator):
    def __init__(self, a: LinearOperator, b: LinearOperator):
        for name, x, y in (("shape", a.shape, b.shape), ("dtype", a.dtype, b.dtype)):
            if x != y:
                raise RuntimeError(f"add: expected operators of one {name}, got {x} and {y}")
        super().__init__(a.shape, a.dtype, a.device)
        self._a, self._b = a, b
        self.is_symmetric = a.is_symmetric and b.is_symmetric

    def matvec(self, v: Tensor) -> Tensor:
        return _added(self._a.matvec(v), self._b.matvec(v))

    def rmatvec(self, v: Tensor) -> Tensor:
        return _added(self._a.rmatvec(v), self._b.rmatvec(v))

    def matmat(self, v: Tensor) -> Tensor:
        return _added(self._a.matmat(v), self._b.matmat(v))

    def diagonal(self) -> Tensor:
        return _added(self._a.diagonal(), self._b.diagonal())


class _Scaled(LinearOperator):
    def __init__(self, operator: LinearOperator, factor: float):
        super().__init__(operator.shape, operator.dtype, operator.device)
        self._operator, self._factor = operator, factor
        self.is_symmetric = operator.is_symmetric

    def matvec(self, v: Tensor) -> Tensor:
        return _times(self._operator.matvec(v), self._factor)

    def rmatvec(self, v: Tensor) -> Tensor:
        return _times(self._operator.rmatvec(v), self._factor)

    def matmat(self, v: Tensor) -> Tensor:
        return _times(self._operator.matmat(v), self._factor)

    def diagonal(self) -> Tensor:
        return _times(self._operator.diagonal(), self._factor)


@no_grad()
def _added(a: Tensor, b: Tensor) -> Tensor:
    return a + b


@no_grad()
def _times(a: Tensor, factor: float) -> Tensor:
    return a * factor
