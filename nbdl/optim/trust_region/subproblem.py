"""What all solvers of the trust-region subproblem have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.optim.objective import Objective, Point


class ModelStep(NamedTuple):
    """A step p, and what the model m(p) = g^T p + p^T B p / 2 says of it.

    Scalars may be 0-d tensors, which are read later, together with the function at the end of the step.

    Attributes:
        step: p (n,).
        length: |p|.
        decrease: -m(p).
        at_boundary: whether the radius limits it.
        wrong: not 0 where the step is none.
        note: what the solver wants to know of it, see :meth:`Subproblem.see`.
    """

    step: Tensor
    length: Any
    decrease: Any
    at_boundary: Any
    wrong: Any = 0
    note: Any = 0

    @property
    def unread(self) -> list[Tensor]:
        """The scalars that are tensors."""
        return [entry for entry in self[1:] if isinstance(entry, Tensor)]

    def read(self, values: Sequence[float]) -> ModelStep:
        """The same with the values of :attr:`unread`."""
        known = iter(values)
        return ModelStep(self.step, *[next(known) if isinstance(x, Tensor) else x for x in self[1:]])


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

    def see(self, model: ModelStep) -> None:
        """The last step, with its scalars read."""

    def doubt(self) -> None:
        """The last step was wrong: compute the next one from less."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
