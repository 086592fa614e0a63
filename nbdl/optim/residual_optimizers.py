"""Least squares, and L-BFGS on mini-batches, as optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.checks import count, number, one_of
from nbdl.optim.closure import ClosureObjective, place
from nbdl.optim.directions import LimitedMemory
from nbdl.optim.gauss_newton import GaussNewtonIteration, LevenbergMarquardtIteration, ResidualObjective
from nbdl.optim.objective import Point
from nbdl.optim.optimizer import check_at_least_zero
from nbdl.optim.residuals import LOSSES
from nbdl.optim.result import Status, reported
from nbdl.optim.second_order import ClosureOptimizer, limits
from nbdl.optim.vectors import Layout, fetch, moved


class LevenbergMarquardt(ClosureOptimizer):
    """Levenberg-Marquardt for a closure that returns residuals.

    The whole Jacobian is computed: for fits of few parameters, or networks of some thousand.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when the step is shorter; 0: not tested.
        loss: "linear", or a robust loss of :func:`nbdl.optim.least_squares`.
        f_scale: the residual from which a robust loss bends.

    Raises:
        ValueError: a number is negative, or the loss unknown.

    Source: Moré (1978); see :class:`nbdl.optim.gauss_newton.LevenbergMarquardtIteration`.

    Example:
        >>> import nbdl
        >>> t = nbdl.linspace(0, 1, 20, dtype=nbdl.float64)
        >>> rate = nbdl.ones((), dtype=nbdl.float64, requires_grad=True)
        >>> optimizer = nbdl.optim.LevenbergMarquardt([rate], max_iter=20)
        >>> cost = optimizer.step(lambda: nbdl.exp(-rate * t) - nbdl.exp(-3 * t))
        >>> round(rate.item(), 6)
        3.0
    """

    _iteration: type[LevenbergMarquardtIteration | GaussNewtonIteration] = LevenbergMarquardtIteration

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        loss: str = "linear",
        f_scale: float = 1.0,
    ):
        ends = limits(max_iter, tolerance_grad, tolerance_change)
        super().__init__(params, {**ends, "loss": loss, "f_scale": f_scale})

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        one_of(type(self).__name__, "loss", group["loss"], LOSSES)
        number(type(self).__name__, "f_scale", group["f_scale"], above=0)

    def run(self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]) -> Any:
        params, label = self.trained, type(self).__name__
        layout = Layout(label, params)
        iteration = self._iteration()
        iteration.load(state)

        def function(x: Tensor) -> tuple[list[Tensor], Any]:
            place(params, layout, x)
            return params, closure()

        bends = isinstance(iteration, LevenbergMarquardtIteration)
        objective = ResidualObjective(label, layout, function, group["loss"], group["f_scale"], bends)
        x = layout.flat([p.detach() for p in params]).clone()
        point = start = objective.differentiate(objective.evaluate(x), iteration)
        iterations, status = 0, Status.MAX_ITERATIONS
        if not math.isfinite(point.cost):
            status = Status.NON_FINITE
        while status is Status.MAX_ITERATIONS and iterations < group["max_iter"]:
            is_known = objective.is_settled
            if is_known and not point.optimality > group["tolerance_grad"]:
                break
            new, length, _ = iteration.iterate(objective, point)
            if not is_known and not point.optimality > group["tolerance_grad"]:
                break
            iterations += 1
            if new is not point:
                point = objective.differentiate(new, iteration)
            elif not bends:
                status = Status.SEARCH_FAILED
            if length <= group["tolerance_change"]:
                status = Status.SMALL_STEP
        objective.settle()
        if not math.isfinite(point.optimality):
            status = Status.NON_FINITE
        elif point.optimality <= group["tolerance_grad"]:
            status = Status.CONVERGED
        place(params, layout, point.x)
        iteration.save(state)
        self.result = reported(
            status, point.cost, nit=iterations, nfev=objective.nfev, njev=objective.njev,
            optimality=point.optimality,
        )  # fmt: skip
        return start.cost


class GaussNewton(LevenbergMarquardt):
    """Gauss-Newton with full steps that are shortened until the cost decreases.

    Arguments and closure (of residuals) are those of :class:`LevenbergMarquardt`.

    Source: Nocedal & Wright (2006), section 10.3.
    """

    _iteration = GaussNewtonIteration


class StochasticLBFGS(ClosureOptimizer):
    """L-BFGS on mini-batches with full overlap: both gradients of a pair are of the same batch.

    A step calls the closure twice, before and after a move of length ``lr`` along the quasi-Newton direction,
    and damps the pair.

    Args:
        params: parameters.
        lr: the step length.
        history_size: number of pairs.
        damping: lambda; y + lambda s is remembered in place of y.

    Raises:
        ValueError: a number is not allowed.

    Source: Schraudolph, Yu, Günter (2007), A stochastic quasi-Newton method for online convex optimization,
        algorithm 2 (oLBFGS); Berahas, Nocedal, Takáč (2016), A multi-batch L-BFGS method for machine
        learning.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.1, history_size: int = 10, damping: float = 0.0):
        super().__init__(params, {"lr": lr, "history_size": history_size, "damping": damping})

    def check_group(self, group: dict[str, Any]) -> None:
        for name in ("lr", "damping"):
            check_at_least_zero("StochasticLBFGS", name, group[name])
        count("StochasticLBFGS", "history_size", group["history_size"], 1)

    def run(self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]) -> Any:
        objective = ClosureObjective("StochasticLBFGS", self.parameters, closure)
        memory = LimitedMemory(group["history_size"])
        memory.load(state)
        old = objective.evaluate(objective.start)
        if not old.is_finite:
            self.result = reported(Status.NON_FINITE, old.value, nfev=1, njev=1, nit=0)
            return objective.first_loss
        if old.gradient_norm == 0:
            self.result = reported(Status.CONVERGED, old.value, nfev=1, njev=1, nit=0)
            return objective.first_loss
        new = objective.evaluate(moved(old.x, -group["lr"], memory.multiply(old.gradient)))
        if new.is_finite:
            damped = Point(new.x)
            damped.gradient = moved(new.gradient, group["damping"], new.x - old.x)
            s, y = new.x - old.x, damped.gradient - old.gradient
            curvature, length = fetch(dot(s, y), dot(s, s))
            if curvature > 1e-10 * length:
                memory.push(old, damped)
        status, end = (Status.STEPPED, new) if new.is_finite else (Status.SEARCH_FAILED, old)
        objective.place(end.x)
        memory.save(state)
        self.result = reported(status, end.value, nfev=2, njev=2)
        return objective.first_loss
