"""The matrices that quasi-Newton methods remember, as operators."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from nbdl import linalg
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.joining import cat
from nbdl.ops.matmul import dot
from nbdl.optim.directions import LimitedMemory, updated_inverse
from nbdl.optim.operators import DenseOperator, LinearOperator
from nbdl.optim.vectors import fetch


def compact(steps: Tensor, changes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """theta, W and M of the matrix theta I - W M W^T that L-BFGS builds; see :class:`LBFGSMemory`.

    The fourth, 0-d, is not 0 where the pairs depend on each other, so that there is no M.
    """
    products = steps @ changes.T
    curvatures, lower = products.diagonal(), products.tril(-1)
    theta = dot(changes[-1], changes[-1]) / curvatures[-1]
    middle = cat(
        [
            cat([-curvatures.diag(), lower.T], 1),
            cat([lower, theta * (steps @ steps.T)], 1),
        ]
    )
    inverse, singular = linalg.inv_ex(middle)
    return theta, cat([changes, theta * steps]).T, inverse, singular


class LBFGSMemory(LinearOperator):
    """The matrix B that L-BFGS builds from its last steps: theta I - W M W^T, the compact representation.

        S, Y: steps and changes of the gradient as columns (n, m), the oldest first
        theta = y^T y / s^T y of the last pair,  W = [Y, theta S]
        M = [[-D, L^T], [L, theta S^T S]]^-1,  with D and L the diagonal and strictly lower part of S^T Y

    Args:
        steps: s (m, n), the oldest first.
        changes: y (m, n).

    Attributes:
        theta: a 0-d tensor.
        W: (n, 2 m).
        M: (2 m, 2 m).

    Raises:
        RuntimeError: the shapes differ.
        ValueError: a pair has no positive curvature s^T y, or the pairs depend on each other.

    Source: Byrd, Nocedal, Schnabel (1994), Representations of quasi-Newton matrices and their use in limited
        memory methods, theorem 2.3; Nocedal & Wright (2006), theorem 7.4.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> s, y = nbdl.tensor([[1.0, 0.0]]), nbdl.tensor([[4.0, 0.0]])
        >>> curvature.LBFGSMemory(s, y) @ nbdl.tensor([1.0, 1.0])
        tensor([4., 4.])
    """

    def __init__(self, steps: Tensor, changes: Tensor):
        if steps.ndim != 2 or steps.shape != changes.shape or not len(steps):
            raise RuntimeError(
                "LBFGSMemory: steps and changes must have one shape (m, n) with m > 0, got "
                f"{tuple(steps.shape)} and {tuple(changes.shape)}"
            )
        n = steps.shape[1]
        super().__init__((n, n), steps.dtype, steps.device)
        with no_grad():
            steps, changes = steps.detach(), changes.detach()
            (least,) = fetch((steps * changes).sum(1).amin())
            if not least > 0:
                raise ValueError(f"LBFGSMemory: every pair needs s^T y > 0, got {least}")
            self.theta, self.W, self.M, singular = compact(steps, changes)
            if singular:
                raise ValueError("LBFGSMemory: steps and changes must not depend on each other linearly")
        self._pairs = steps, changes

    @classmethod
    def of(cls, optimizer: Any) -> LBFGSMemory:
        """The matrix of an :class:`nbdl.optim.LBFGS` or :class:`nbdl.optim.StochasticLBFGS`.

        Raises:
            ValueError: it has remembered nothing so far.
        """
        state = optimizer.state[optimizer.param_groups[0]["params"][0]]
        memory = LimitedMemory(optimizer.param_groups[0]["history_size"])
        memory.load(state)
        if not memory.count:
            raise ValueError("LBFGSMemory: the optimizer has remembered no pair so far")
        return cls(*memory.pairs())

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self.theta * v - self.W @ (self.M @ (self.W.T @ v))

    matmat = matvec

    def diagonal(self) -> Tensor:
        with no_grad():
            return self.theta - (self.W @ self.M * self.W).sum(1)

    def solve(self, v: Tensor, damping: float = 0.0) -> Tensor:
        """(B + damping I)^-1 v by the formula of Sherman, Morrison and Woodbury."""
        with no_grad():
            sigma = self.theta + damping
            inner = linalg.inv(self.M) - self.W.T @ self.W / sigma
            return (v + self.W @ linalg.solve(inner, self.W.T @ v) / sigma) / sigma

    @property
    def inverse(self) -> LinearOperator:
        """B^-1, by the two-loop recursion."""
        return _InverseMemory(*self._pairs)


class _InverseMemory(LinearOperator):
    def __init__(self, steps: Tensor, changes: Tensor):
        n = steps.shape[1]
        super().__init__((n, n), steps.dtype, steps.device)
        self._memory = LimitedMemory.from_pairs(steps, changes)

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self._memory.multiply(v)


class BFGSMatrix(LinearOperator):
    """The matrix B that BFGS builds, and its inverse H, which the method updates.

    Args:
        inverse: H (n, n), symmetric positive definite.

    Attributes:
        H: as given.

    Source: Nocedal & Wright (2006), eqs. (6.17) and (6.19).

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> b = curvature.BFGSMatrix(nbdl.eye(2)).updated(nbdl.tensor([1.0, 0.0]), nbdl.tensor([4.0, 0.0]))
        >>> b @ nbdl.tensor([1.0, 1.0])
        tensor([4., 1.])
    """

    def __init__(self, inverse: Tensor):
        n = inverse.shape[0]
        if tuple(inverse.shape) != (n, n):
            raise RuntimeError(
                f"BFGSMatrix: inverse must be a square matrix, got shape {tuple(inverse.shape)}"
            )
        super().__init__((n, n), inverse.dtype, inverse.device)
        self.H = inverse.detach()

    @classmethod
    def of(cls, optimizer: Any) -> BFGSMatrix:
        """The matrix of an :class:`nbdl.optim.BFGS`.

        Raises:
            ValueError: it has learned nothing so far.
        """
        inverse = optimizer.state[optimizer.param_groups[0]["params"][0]].get("inverse_hessian")
        if inverse is None:
            raise ValueError("BFGSMatrix: the optimizer has learned nothing so far")
        return cls(inverse)

    def updated(self, step: Tensor, change: Tensor) -> BFGSMatrix:
        """The matrix after one more pair s, y.

        Raises:
            ValueError: s^T y is not positive.
        """
        with no_grad():
            (curvature,) = fetch(dot(step, change))
            if not curvature > 0:
                raise ValueError(f"BFGSMatrix: a pair needs s^T y > 0, got {curvature}")
            return BFGSMatrix(updated_inverse(self.H.clone(), step, change, "bfgs"))

    @cached_property
    def _matrix(self) -> Tensor:
        with no_grad():
            return linalg.inv(self.H)

    def matvec(self, v: Tensor) -> Tensor:
        with no_grad():
            return self._matrix @ v

    matmat = matvec

    def to_dense(self) -> Tensor:
        return self._matrix

    def solve(self, v: Tensor) -> Tensor:
        """B^-1 v."""
        with no_grad():
            return self.H @ v

    @property
    def inverse(self) -> LinearOperator:
        """H as an operator."""
        return DenseOperator(self.H)
