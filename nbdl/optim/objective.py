"""What a method minimizes: values, gradients and curvature at points, counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.operators import DenseOperator, LinearOperator
from nbdl.optim.recorded import pulled_back
from nbdl.optim.vectors import Layout, fetch, max_norm, moved, slope_and_size

_BATCHED_COLUMNS = 5  # fewer are multiplied faster one by one


class NonFiniteError(Exception):
    """Second derivatives are not finite where they are needed."""


class Point:
    """Where the function was evaluated.

    Attributes:
        x: the flat vector.
        value: the function.
        gradient: (n,), or None until :meth:`Objective.differentiate`.
        gradient_norm: its largest magnitude; with bounds, that of the projected gradient.
        slope: the gradient along the direction that was given to :meth:`Objective.evaluate`.
        extra: the values of the scalars that were given to it.
        change: no variable is farther than this from its value at the point before.
        record: what the objective needs to differentiate here.
        hessian: the matrix and its largest magnitude, once it was computed.
    """

    __slots__ = ("change", "extra", "gradient", "gradient_norm", "hessian", "record", "slope", "value", "x")

    gradient: Tensor

    def __init__(self, x: Tensor, record: Any = None):
        self.x, self.record = x, record
        self.value = self.gradient_norm = self.slope = self.change = math.nan
        self.extra: list[float] = []
        self.hessian: tuple[Tensor, Tensor] | None = None

    @property
    def is_finite(self) -> bool:
        """Whether the value, and the gradient as far as it is known, are finite."""
        is_known = hasattr(self, "gradient")
        return math.isfinite(self.value) and (not is_known or math.isfinite(self.gradient_norm))


class Objective:
    """A function of a flat vector, with counts of what was computed.

    A subclass defines :meth:`loss`, :meth:`gradient` and :meth:`curvature`.

    Attributes:
        nfev: evaluations of the function.
        njev: evaluations of the gradient.
        nhev: products of the Hessian with a vector, n for a whole Hessian; 1 for one that the user gives.
        best: the point of the least value of all that were differentiated.
    """

    def __init__(self) -> None:
        self.nfev = self.njev = self.nhev = 0
        self.best: Point | None = None

    # ------------------------------------------------------------------------------ what a subclass defines
    def loss(self, point: Point) -> Tensor:
        """The 0-d value at ``point.x``; whatever :meth:`gradient` needs is left in ``point.record``."""
        raise NotImplementedError

    def gradient(self, point: Point) -> Tensor:
        """The gradient (n,) at a point whose loss was computed."""
        raise NotImplementedError

    def curvature(self, point: Point) -> LinearOperator:
        """The Hessian at a point that was differentiated."""
        raise NotImplementedError

    def free_gradient(self, point: Point) -> Tensor:
        """What is 0 at a stationary point: the gradient (n,), with bounds its projection."""
        return point.gradient

    # ------------------------------------------------------------------------------------- what methods call
    def value_at(self, x: Tensor) -> Point:
        """Only the value at ``x``."""
        point = Point(x)
        loss = self.loss(point)
        self.nfev += 1
        (point.value,) = fetch(loss)
        return point

    def evaluate(self, x: Tensor, along: Tensor | None = None, extra: Sequence[Tensor] = ()) -> Point:
        """Value and gradient at ``x``. The device is waited for once.

        Args:
            x: (n,).
            along: a direction (n,) along which the slope is wanted.
            extra: 0-d tensors that are read at the same time, into ``point.extra``.
        """
        point = Point(x)
        loss = self.loss(point)
        self.nfev += 1
        with no_grad():
            point.gradient = self.gradient(point)
            self.njev += 1
            free = self.free_gradient(point)
            if along is None:
                point.value, point.gradient_norm, *point.extra = fetch(loss, max_norm(free), *extra)
            elif free is point.gradient:
                measured = slope_and_size(free, along)
                point.value, point.slope, point.gradient_norm, *point.extra = fetch(loss, measured, *extra)
            else:
                scalars = loss, dot(point.gradient, along), max_norm(free)
                point.value, point.slope, point.gradient_norm, *point.extra = fetch(*scalars, *extra)
        self._compare(point)
        return point

    def evaluate_along(
        self, start: Tensor, step: float, along: Tensor, extra: Sequence[Tensor] = ()
    ) -> Point:
        """As :meth:`evaluate`, at the end of a step from ``start``."""
        return self.evaluate(moved(start, step, along), along, extra)

    def differentiate(self, point: Point) -> Point:
        """Compute the gradient at a point that has only a value."""
        with no_grad():
            point.gradient = self.gradient(point)
            self.njev += 1
            (point.gradient_norm,) = fetch(max_norm(self.free_gradient(point)))
        self._compare(point)
        return point

    def hessian_operator(self, point: Point) -> LinearOperator:
        """The Hessian at a differentiated point, by its products with vectors."""
        return DenseOperator(point.hessian[0]) if point.hessian is not None else self.curvature(point)

    def hessian(self, point: Point) -> tuple[Tensor, Tensor]:
        """The Hessian (n, n) at a differentiated point, and its largest magnitude, 0-d.

        The matrix is made exactly symmetric. Elements that are not finite become 0, so that it can be
        decomposed before the magnitude is read.
        """
        if point.hessian is None:
            matrix = self.curvature(point).to_dense()
            with no_grad():
                matrix = (matrix + matrix.T) * 0.5
                point.hessian = matrix.nan_to_num(0.0, 0.0, 0.0), max_norm(matrix)
        return point.hessian

    def _compare(self, point: Point) -> None:
        if point.is_finite and (self.best is None or point.value < self.best.value):
            self.best = point


class RecordedHessian(LinearOperator):
    """The Hessian by gradients that are on the tape: a product is one more pass backward.

    That pass has at most twice the operations of a gradient. Forward over reverse evaluates the function, its
    gradient and the tangents of both for every product, which is three times as many:
    ``examples/benchmarks/curvature_products.py`` measures both.

    Args:
        objective: counts the products.
        layout: where the leaves lie in a flat vector.
        leaves: the tensors x is made of.
        gradients: the gradients of the function by them, recorded.
    """

    def __init__(
        self, objective: Objective, layout: Layout, leaves: Sequence[Tensor], gradients: Sequence[Tensor]
    ):
        super().__init__((layout.size, layout.size), layout.dtype, leaves[0].device)
        self._objective, self._layout, self._leaves, self._gradients = objective, layout, leaves, gradients

    def matvec(self, v: Tensor) -> Tensor:
        self._objective.nhev += 1
        products = pulled_back(self._gradients, self._leaves, self._layout.split(v))
        with no_grad():
            return self._layout.flat(products)

    def matmat(self, v: Tensor) -> Tensor:
        if v.shape[1] < _BATCHED_COLUMNS:
            return super().matmat(v)
        self._objective.nhev += v.shape[1]
        products = pulled_back(self._gradients, self._leaves, self._layout.split_columns(v), True)
        with no_grad():
            return self._layout.columns(products)
