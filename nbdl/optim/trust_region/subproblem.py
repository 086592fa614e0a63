"""What all solvers of the trust-region subproblem have in common."""

from __future__ import annotations

from typing import NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.objective import Objective, Point
from nbdl.optim.operators import LinearOperator
from nbdl.optim.vectors import fetch, norm


class ModelStep(NamedTuple):
    """A step p, and what the model m(p) = g^T p + p^T B p / 2 says of it.

    Attributes:
        step: p (n,).
        length: |p|.
        decrease: -m(p).
        at_boundary: whether the radius limits it.
    """

    step: Tensor
    length: float
    decrease: float
    at_boundary: bool


class Subproblem:
    """Base of the solvers: minimizes g^T p + p^T B p / 2 within |p| <= radius, more or less exactly.

    Attributes:
        dense: whether the whole Hessian is computed, rather than products with it.
    """

    dense = False

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        """Solve at a differentiated point.

        Args:
            objective: gives the Hessian B.
            point: gives the gradient g.
            radius: of the trust region.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no solution")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def modelled(operator: LinearOperator, gradient: Tensor, step: Tensor, at_boundary: bool) -> ModelStep:
    """A step with its length and the decrease of the model."""
    slope, bend, length = fetch(dot(gradient, step), dot(step, operator @ step), norm(step))
    return ModelStep(step, length, -slope - bend / 2, at_boundary)


def boundary_factor(dd: float, zd: float, zz: float, radius: float) -> float:
    """The tau >= 0 with |z + tau d| = radius, from d^T d, z^T d and z^T z."""
    rest = max(radius * radius - zz, 0.0)
    root = (zd * zd + dd * rest) ** 0.5
    return rest / (zd + root) if zd > 0 else (root - zd) / dd
