"""Steps of least-squares methods: the Gauss-Newton model r + J p."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbdl import linalg
from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.matmul import dot
from nbdl.optim.bounds import Box
from nbdl.optim.residuals import Loss, cost, jacobian, reweighted
from nbdl.optim.search.interpolation import backtracked
from nbdl.optim.trust_region.secular import trust_region_step
from nbdl.optim.vectors import Layout, fetch, is_on_host, max_norm, moved, norm

_RANK = 1e-14  # singular values below, relative to the largest, count as 0


class ResidualPoint:
    """Where residuals were evaluated.

    Attributes:
        x: the flat vector (n,).
        size: |x|.
        leaves: the tensors it is made of, by which ``residuals`` can be differentiated.
        residuals: r (m,), recorded.
        cost: half the sum of their squares, or of the robust loss.
        jacobian: J (m, n).
        gradient: of the cost (n,).
        optimality: its largest magnitude; with bounds, that of the gradient scaled by the way to them.
        extra: the values of the scalars that were read together with the cost.
        weighted: residuals and Jacobian of the model, in which a robust loss counts.
    """

    __slots__ = (
        "cost", "extra", "gradient", "jacobian", "leaves", "optimality", "residuals", "size", "weighted",
        "x",
    )  # fmt: skip

    gradient: Tensor
    jacobian: Tensor
    weighted: tuple[Tensor, Tensor]

    def __init__(
        self,
        x: Tensor,
        leaves: Sequence[Tensor],
        residuals: Tensor,
        cost: float,
        size: float,
        extra: list[float],
    ):
        self.x, self.leaves, self.residuals = x, leaves, residuals
        self.cost, self.size, self.extra = cost, size, extra
        self.optimality = math.nan


class ResidualObjective:
    """A vector of residuals of a flat vector, with counts.

    Args:
        caller: the name that errors begin with.
        layout: of the variables.
        function: gives the leaves of a flat vector, and the recorded residuals there.
        loss: a name of :data:`~nbdl.optim.residuals.LOSSES`, or a function that gives its values.
        loss_scale: the residual from which a robust loss bends.
        second_order: whether the model of a robust loss contains its second derivative.
        box: bounds, or None.
        matrix: None, or what computes the Jacobian in place of automatic differentiation.

    Attributes:
        nfev: evaluations of the residuals.
        njev: of the Jacobian.
    """

    def __init__(
        self,
        caller: str,
        layout: Layout,
        function: Callable[[Tensor], tuple[Sequence[Tensor], Any]],
        loss: Loss = "linear",
        loss_scale: float = 1.0,
        second_order: bool = True,
        box: Box | None = None,
        matrix: Callable[[ResidualPoint], Tensor] | None = None,
    ):
        self._caller, self.layout, self._function, self.box = caller, layout, function, box
        self._loss, self._scale, self._matrix = loss, loss_scale, matrix
        self._second_order = second_order
        self._unread: tuple[ResidualPoint, Solver, list[Tensor]] | None = None
        self.nfev = self.njev = 0

    def evaluate(self, x: Tensor, extra: Sequence[Tensor] = ()) -> ResidualPoint:
        """Residuals and cost at ``x``; the scalars in ``extra`` are read together with it.

        So is what :meth:`differentiate` has left unread.
        """
        with enable_grad():
            leaves, residuals = self._function(x)
            if not isinstance(residuals, Tensor):
                raise TypeError(
                    f"{self._caller}: the residuals must be a tensor, got {type(residuals).__name__}"
                )
            if residuals.is_complex():
                raise TypeError(f"{self._caller}: the residuals must be real, got dtype {residuals.dtype}")
            residuals = residuals.reshape(-1)
        self.nfev += 1
        with no_grad():
            value, size, *others = self._read(
                cost(residuals.detach(), self._loss, self._scale), norm(x), *extra
            )
        return ResidualPoint(x, leaves, residuals, value, size, others)

    def differentiate(self, point: ResidualPoint, solver: Solver) -> ResidualPoint:
        """Jacobian and gradient at a point, and what a solver makes of them.

        Its scalars are read together with the optimality: at once on the host, on a device together with the
        next evaluation, which so may turn out to have been one too many.
        """
        if self._matrix is not None:
            point.jacobian = self._matrix(point)
        else:
            if not point.residuals.requires_grad:
                remedy = "; or give jac" if self._caller == "least_squares" else ""
                raise RuntimeError(
                    f"{self._caller}: the residuals must depend differentiably on the variables{remedy}"
                )
            point.jacobian = jacobian(point.residuals, point.leaves, self.layout)
        self.njev += 1
        with no_grad():
            point.residuals = point.residuals.detach()
            point.weighted = reweighted(
                point.residuals, point.jacobian, self._loss, self._scale, self._second_order
            )
            residuals, matrix = point.weighted
            point.gradient = matrix.T @ residuals
            optimality = stationarity(point.x, point.gradient, self.box)
            self._unread = point, solver, [optimality, *solver.look(point, self.box)]
            if is_on_host(point.x):
                self.settle()
        return point

    @property
    def is_settled(self) -> bool:
        """Whether the optimality of the last point that was differentiated is known."""
        return self._unread is None

    def settle(self) -> None:
        """Read what :meth:`differentiate` has left unread."""
        if self._unread is not None:
            self._read()

    def _read(self, *scalars: Tensor) -> list[float]:
        """The values of 0-d tensors, and in the same reading whatever is unread."""
        if self._unread is None:
            return fetch(*scalars)
        point, solver, unread = self._unread
        self._unread = None
        values = fetch(*scalars, *unread)
        point.optimality, *others = values[len(scalars) :]
        solver.see(others)
        return values[: len(scalars)]


class Solver:
    """Base of the iterations."""

    def look(self, point: ResidualPoint, box: Box | None) -> list[Tensor]:
        """Compute what steps from a new point are made of; the scalars that :meth:`iterate` wants to know.

        They are known after its first evaluation at the latest.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no look")

    def see(self, values: list[float]) -> None:
        """The values of these scalars."""
        raise NotImplementedError(f"{type(self).__name__} defines no see")

    def iterate(self, objective: ResidualObjective, point: ResidualPoint) -> Trial:
        """One iteration from the point that was looked at."""
        raise NotImplementedError(f"{type(self).__name__} defines no iterate")

    def save(self, state: dict[str, Any]) -> None:
        """Put what a later step needs into the state of an optimizer."""

    def load(self, state: dict[str, Any]) -> None:
        """Take it from there, if it is there."""


class GaussNewtonModel:
    """|r + J p|^2 / 2 at a point, by the singular values of J D^-1 in the variables that are free.

    One decomposition serves all radii. The step for a radius is the one of Levenberg and Marquardt,
    -(J^T J + nu D^2)^-1 J^T r, with the nu that makes |D p| the radius (Moré (1978), The Levenberg-Marquardt
    algorithm: implementation and theory).

    Args:
        residuals: r (m,).
        jacobian: J (m, n).
        scale: D (n,), the unit of each variable.
        free: (n,), 1 for variables that may move; None if all may.
    """

    def __init__(self, residuals: Tensor, jacobian: Tensor, scale: Tensor, free: Tensor | None):
        self._jacobian, self._residuals, self._scale = jacobian, residuals, scale
        scaled = jacobian / scale
        if free is not None:
            scaled = scaled * free
        # What is not finite is noticed when the optimality is read, which is later.
        finite = scaled.nan_to_num(0.0, 0.0, 0.0)
        u, self._singular, self._vh = linalg.svd(finite, full_matrices=False)
        self._projected = u.T @ residuals

    def step(self, radius: float | Tensor) -> Tensor:
        """The Levenberg-Marquardt step for a radius; nothing is read."""
        s, relevant = self._singular, self._relevant
        if not s.numel():
            return self._scale.zeros_like()
        # Directions that do not count get the largest eigenvalue, and no gradient.
        values = where(relevant, s, max_norm(s)).square().flip(0)
        slopes = where(relevant, s * self._projected, 0.0).flip(0)
        coefficients, _ = trust_region_step(values, slopes, radius)
        return (self._vh.T @ coefficients.flip(0).to(dtype=s.dtype)) / self._scale

    def full_step(self) -> Tensor:
        """The Gauss-Newton step of least length, of which nothing is read."""
        s, relevant = self._singular, self._relevant
        coefficients = where(relevant, self._projected / where(relevant, s, 1.0), 0.0)
        return -(self._vh.T @ coefficients) / self._scale

    @property
    def _relevant(self) -> Tensor:
        """The singular values that count."""
        return self._singular > _RANK * max_norm(self._singular)

    def decrease(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """What the model promises for a step, and its scaled length, 0-d."""
        change = self._jacobian @ step
        return -dot(self._residuals, change) - dot(change, change) / 2, norm(step * self._scale)


def limited(step: Tensor, x: Tensor, box: Box | None) -> Tensor:
    """A step cut off at the bounds."""
    return step if box is None else box.project(x + step) - x


def stationarity(x: Tensor, gradient: Tensor, box: Box | None) -> Tensor:
    """The largest magnitude in the gradient, with bounds in the scaled gradient, 0-d."""
    return max_norm(gradient if box is None else box.scaled_gradient(x, gradient))


class Trial(NamedTuple):
    """What an iteration did.

    Attributes:
        point: the next point; the same one if no better was found.
        length: of the step that was tried.
        ratio: the share of the promised decrease that was found.
    """

    point: ResidualPoint
    length: float
    ratio: float


class LevenbergMarquardtIteration(Solver):
    """The Gauss-Newton model within a trust region.

    Where bounds hold variables against the gradient, or against the step, the model is restricted to the
    others, and its step is cut off at the bounds.

    Source: Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory; Nocedal & Wright
        (2006), section
    10.3.

    Args:
        x_scale: D (n,); None for the norms of the columns of J, the largest so far.
        radius: the first radius; None for 100 |D x|, or 100 if x is 0.
    """

    def __init__(self, x_scale: Tensor | None = None, radius: float | None = None):
        self._fixed_scale, self.radius = x_scale, radius
        self._scale: Tensor | None = None
        self._model: GaussNewtonModel
        self._first_radius: Tensor  # where none was given, until it is read

    def look(self, point: ResidualPoint, box: Box | None) -> list[Tensor]:
        scale = self._scale_at(point)
        free = None if box is None else box.free(point.x, point.gradient)
        self._model = GaussNewtonModel(*point.weighted, scale, free)
        if self.radius is not None:
            return []
        size = norm(point.x * scale)
        self._first_radius = where(size > 0, 100 * size, 100.0)
        return [self._first_radius]

    def see(self, values: list[float]) -> None:
        if values:
            (self.radius,) = values

    def iterate(self, objective: ResidualObjective, point: ResidualPoint) -> Trial:
        """One trial."""
        model, radius = self._model, self._first_radius if self.radius is None else self.radius
        step = model.step(radius)
        if objective.box is not None:
            model, step = self._within(objective.box, point, model, step, radius)
        trial = objective.evaluate(point.x + step, model.decrease(step))
        assert self.radius is not None
        decrease, length = trial.extra
        reduction = point.cost - trial.cost
        ratio = reduction / decrease if decrease > 0 and math.isfinite(trial.cost) else -math.inf
        if ratio < 0.25:
            self.radius = 0.25 * min(length, self.radius)
        elif ratio >= 0.75:
            self.radius = max(self.radius, 2 * length)
        return Trial(trial if ratio > 1e-4 and reduction > 0 else point, length, ratio)

    def save(self, state: dict[str, Any]) -> None:
        state["radius"], state["scale"] = self.radius, self._scale

    def load(self, state: dict[str, Any]) -> None:
        self.radius, self._scale = state.get("radius", self.radius), state.get("scale", self._scale)

    def _within(
        self, box: Box, point: ResidualPoint, model: GaussNewtonModel, step: Tensor, radius: float | Tensor
    ) -> tuple[GaussNewtonModel, Tensor]:
        """The step cut off at the bounds, after holding variables that it presses against them."""
        free = box.free(point.x, point.gradient)
        for _ in range(point.x.numel()):
            inward = box.free(point.x, -step)
            (presses,) = fetch((free > inward).any())
            if not presses:
                break
            free = free * inward
            model = GaussNewtonModel(*point.weighted, self._scale_at(point), free)
            step = model.step(radius)
        return model, limited(step, point.x, box)

    def _scale_at(self, point: ResidualPoint) -> Tensor:
        if self._fixed_scale is not None:
            return self._fixed_scale
        columns = (point.jacobian * point.jacobian).sum(0).sqrt()
        if self._scale is None:
            self._scale = where(columns > 0, columns, 1.0)
        self._scale = self._scale.maximum(columns)
        return self._scale


class GaussNewtonIteration(Solver):
    """Full Gauss-Newton steps, shortened until the cost decreases: Nocedal & Wright (2006), section 10.3."""

    _step: Tensor
    _slope = _length = math.nan

    def look(self, point: ResidualPoint, box: Box | None) -> list[Tensor]:
        self._step = GaussNewtonModel(*point.weighted, point.x.ones_like(), None).full_step()
        return [dot(point.gradient, self._step), norm(self._step)]

    def see(self, values: list[float]) -> None:
        self._slope, self._length = values

    def iterate(self, objective: ResidualObjective, point: ResidualPoint) -> Trial:
        """One iteration."""
        step, t, previous = self._step, 1.0, None
        for _ in range(40):
            trial = objective.evaluate(moved(point.x, t, step))
            slope, length = self._slope, self._length
            if trial.cost <= point.cost + 1e-4 * t * slope:
                return Trial(trial, t * length, t)
            if math.isfinite(trial.cost):
                t, previous = backtracked(point.cost, slope, t, trial.cost, previous), (t, trial.cost)
            else:
                t, previous = 0.1 * t, None
        return Trial(point, t * length, 0.0)
