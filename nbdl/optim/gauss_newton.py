"""Steps of least-squares methods: the Gauss-Newton model r + J p."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl import linalg
from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import from_numpy
from nbdl.ops.matmul import dot
from nbdl.optim.bounds import Box
from nbdl.optim.residuals import cost, jacobian, reweighted
from nbdl.optim.search.interpolation import backtracked
from nbdl.optim.trust_region.secular import trust_region_step
from nbdl.optim.vectors import Layout, fetch, max_norm, moved, norm


class ResidualPoint:
    """Where residuals were evaluated.

    Attributes:
        x: the flat vector (n,).
        leaves: the tensors it is made of, by which ``residuals`` can be differentiated.
        residuals: r (m,), recorded.
        cost: half the sum of their squares, or of the robust loss.
        jacobian: J (m, n).
        gradient: of the cost (n,).
        optimality: its largest magnitude; with bounds, that of the gradient scaled by the way to them.
        weighted: residuals and Jacobian of the model, in which a robust loss counts.
    """

    __slots__ = ("cost", "gradient", "jacobian", "leaves", "optimality", "residuals", "weighted", "x")

    gradient: Tensor
    jacobian: Tensor
    weighted: tuple[Tensor, Tensor]

    def __init__(self, x: Tensor, leaves: Sequence[Tensor], residuals: Tensor, cost: float):
        self.x, self.leaves, self.residuals, self.cost = x, leaves, residuals, cost
        self.optimality = math.nan


class ResidualObjective:
    """A vector of residuals of a flat vector, with counts.

    Args:
        caller: the name that errors begin with.
        layout: of the variables.
        function: gives the leaves of a flat vector, and the recorded residuals there.
        loss: a name of :data:`~nbdl.optim.residuals.LOSSES`.
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
        loss: str = "linear",
        loss_scale: float = 1.0,
        second_order: bool = True,
        box: Box | None = None,
        matrix: Callable[[ResidualPoint], Tensor] | None = None,
    ):
        self._caller, self.layout, self._function, self.box = caller, layout, function, box
        self._loss, self._scale, self._matrix = loss, loss_scale, matrix
        self._second_order = second_order
        self.nfev = self.njev = 0

    def evaluate(self, x: Tensor) -> ResidualPoint:
        """Residuals and cost at ``x``."""
        with enable_grad():
            leaves, residuals = self._function(x)
            if not isinstance(residuals, Tensor):
                raise TypeError(
                    f"{self._caller}: the residuals must be a tensor, got {type(residuals).__name__}"
                )
            residuals = residuals.reshape(-1)
        self.nfev += 1
        with no_grad():
            (value,) = fetch(cost(residuals.detach(), self._loss, self._scale))
        return ResidualPoint(x, leaves, residuals, value)

    def differentiate(self, point: ResidualPoint) -> ResidualPoint:
        """Jacobian and gradient at a point."""
        if self._matrix is not None:
            point.jacobian = self._matrix(point)
        else:
            if not point.residuals.requires_grad:
                raise RuntimeError(
                    f"{self._caller}: the residuals must depend differentiably on the variables; or give jac"
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
            (point.optimality,) = fetch(stationarity(point.x, point.gradient, self.box))
        return point


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
        u, s, vh = linalg.svd(scaled, full_matrices=False)
        self._vh = vh
        ascending = slice(None, None, -1)
        self._singular = s.to(np.float64).cpu().numpy()[ascending]
        self._projected = (u.T @ residuals).to(np.float64).cpu().numpy()[ascending]

    def step(self, radius: float) -> Tensor:
        """The Levenberg-Marquardt step for a radius; infinite: the Gauss-Newton step of least length."""
        s, c = self._singular, self._projected
        relevant = s > 1e-14 * (s[-1] if s.size else 0.0)
        coefficients = np.zeros_like(s)
        if math.isinf(radius):
            coefficients[relevant] = -c[relevant] / s[relevant]
        elif relevant.any():
            values, slopes = s[relevant] ** 2, (s * c)[relevant]
            coefficients[relevant] = trust_region_step(values, slopes, radius)[0]
        descending = from_numpy(np.ascontiguousarray(coefficients[::-1]))
        vh = self._vh
        return (vh.T @ descending.to(dtype=vh.dtype, device=vh.device)) / self._scale

    def decrease(self, step: Tensor) -> tuple[float, float]:
        """What the model promises for a step, and its scaled length."""
        change = self._jacobian @ step
        slope, bend, length = fetch(
            dot(self._residuals, change), dot(change, change), norm(step * self._scale)
        )
        return -slope - bend / 2, length


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


class LevenbergMarquardtIteration:
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
        self._model: tuple[ResidualPoint, GaussNewtonModel] | None = None

    def iterate(self, objective: ResidualObjective, point: ResidualPoint) -> Trial:
        """One trial."""
        model = self._model_at(point, objective.box)
        assert self.radius is not None
        step = model.step(self.radius)
        if objective.box is not None:
            model, step = self._within(objective.box, point, model, step)
        decrease, length = model.decrease(step)
        trial = objective.evaluate(point.x + step)
        reduction = point.cost - trial.cost
        ratio = reduction / decrease if decrease > 0 and math.isfinite(trial.cost) else -math.inf
        if ratio < 0.25:
            self.radius = 0.25 * min(length, self.radius)
        elif ratio >= 0.75:
            self.radius = max(self.radius, 2 * length)
        return Trial(trial if ratio > 1e-4 and reduction > 0 else point, length, ratio)

    def save(self, state: dict[str, Any]) -> None:
        """Put what a later step needs into the state of an optimizer."""
        state["radius"], state["scale"] = self.radius, self._scale

    def load(self, state: dict[str, Any]) -> None:
        """Take it from there, if it is there."""
        self.radius, self._scale = state.get("radius", self.radius), state.get("scale", self._scale)

    def _model_at(self, point: ResidualPoint, box: Box | None) -> GaussNewtonModel:
        if self._model is None or self._model[0] is not point:
            scale = self._scale_at(point)
            free = None if box is None else box.free(point.x, point.gradient)
            self._model = point, GaussNewtonModel(*point.weighted, scale, free)
            if self.radius is None:
                (size,) = fetch(norm(point.x * scale))
                self.radius = 100 * (size or 1.0)
        return self._model[1]

    def _within(
        self, box: Box, point: ResidualPoint, model: GaussNewtonModel, step: Tensor
    ) -> tuple[GaussNewtonModel, Tensor]:
        """The step cut off at the bounds, after holding variables that it presses against them."""
        assert self.radius is not None
        free = box.free(point.x, point.gradient)
        for _ in range(point.x.numel()):
            inward = box.free(point.x, -step)
            if not bool((free > inward).any()):
                break
            free = free * inward
            model = GaussNewtonModel(*point.weighted, self._scale_at(point), free)
            step = model.step(self.radius)
        return model, limited(step, point.x, box)

    def _scale_at(self, point: ResidualPoint) -> Tensor:
        if self._fixed_scale is not None:
            return self._fixed_scale
        columns = (point.jacobian * point.jacobian).sum(0).sqrt()
        if self._scale is None:
            self._scale = where(columns > 0, columns, 1.0)
        self._scale = self._scale.maximum(columns)
        return self._scale


class GaussNewtonIteration:
    """Full Gauss-Newton steps, shortened until the cost decreases: Nocedal & Wright (2006), section 10.3."""

    def iterate(self, objective: ResidualObjective, point: ResidualPoint) -> Trial:
        """One iteration."""
        step = GaussNewtonModel(*point.weighted, point.x.ones_like(), None).step(math.inf)
        slope, length = fetch(dot(point.gradient, step), norm(step))
        t, previous = 1.0, None
        for _ in range(40):
            trial = objective.evaluate(moved(point.x, t, step))
            if trial.cost <= point.cost + 1e-4 * t * slope:
                return Trial(trial, t * length, t)
            if math.isfinite(trial.cost):
                t, previous = backtracked(point.cost, slope, t, trial.cost, previous), (t, trial.cost)
            else:
                t, previous = 0.1 * t, None
        return Trial(point, t * length, 0.0)

    def save(self, state: dict[str, Any]) -> None:
        """There is nothing to keep."""

    def load(self, state: dict[str, Any]) -> None:
        """There is nothing to take."""
