"""``least_squares``: SciPy's signature over Levenberg-Marquardt and Gauss-Newton."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import from_numpy
from nbdl.optim.bounds import Box
from nbdl.optim.checks import count, function, number, one_of
from nbdl.optim.function import DIFFERENCES, Variables, convert
from nbdl.optim.gauss_newton import (
    GaussNewtonIteration,
    LevenbergMarquardtIteration,
    ResidualObjective,
    ResidualPoint,
)
from nbdl.optim.residuals import LOSSES
from nbdl.optim.result import OptimizeResult, caller_of

_MESSAGES = {
    -2: "The residuals or their Jacobian are not finite.",
    -1: "No lower cost was found along the last step.",
    0: "The maximum number of function evaluations was reached.",
    1: "The gradient is as small as asked for.",
    2: "The relative reduction of the cost is as small as asked for.",
    3: "The step is as small as asked for.",
    99: "The callback stopped the iteration.",
}
_METHODS = ("trf", "dogbox", "lm", "gauss-newton")


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Callable[..., Any] | str | None = None,
    bounds: Any = (-math.inf, math.inf),
    method: str = "trf",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    x_scale: Any = 1.0,
    loss: str | Callable[[Tensor], Any] = "linear",
    f_scale: float = 1.0,
    diff_step: Any = None,
    tr_solver: str | None = None,
    tr_options: dict[str, Any] | None = None,
    jac_sparsity: Any = None,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    workers: Any = None,
) -> OptimizeResult:
    """Minimize half the sum of squared residuals, or of a robust loss of them, within bounds.

    The Jacobian is found automatically, in the mode that needs fewer passes. "lm", "trf" and "dogbox" are one
    method here, Levenberg-Marquardt as an exact trust-region method on the singular values of the Jacobian,
    which keeps bounds, too; "gauss-newton" takes full steps, shortens them, and knows no bounds.
    Rank-deficient Jacobians give the step of least length, and residuals that are not finite a shorter one.

    Args:
        fun: ``fun(x, *args, **kwargs)`` returns the residuals, a tensor of any shape.
        x0: where to begin, as for :func:`nbdl.optim.minimize`.
        jac: a function that returns the Jacobian (m, n); default: automatic, and so is it with SciPy's
            "2-point", "3-point" and "cs", since no differences are needed.
        bounds: a pair (lower, upper) of numbers or arrays, n pairs, or an object with ``lb`` and ``ub``.
        method: "trf", "dogbox", "lm" or "gauss-newton".
        ftol: relative reduction of the cost at which to stop; None: not tested.
        xtol: length of the step, relative to x, at which to stop; None: not tested.
        gtol: largest magnitude in the gradient at which to stop, with bounds in the gradient times the way to
            the bound ahead; None: not tested.
        x_scale: the typical size of each variable, which measures the trust region; "jac": from the Jacobian.
        loss: "linear", "soft_l1", "huber", "cauchy" or "arctan"; or a function of z = (r / f_scale)^2, a
            tensor (m,), that returns rho(z) and its first two derivatives, (3, m).
        f_scale: the residual from which a robust loss counts it less.
        diff_step: SciPy's step of differences; without effect, since derivatives are exact.
        tr_solver: None or "exact".
        tr_options: SciPy's options of its other solvers; without effect.
        jac_sparsity: SciPy's help for differences; without effect.
        max_nfev: the largest number of evaluations; default: 100 n.
        verbose: 0: nothing is printed; 1: how it ended; 2: each iteration, too.
        args: further arguments of ``fun`` and ``jac``; something else than a tuple is the only one.
        kwargs: keyword arguments of both.
        callback: called after each iteration as that of :func:`nbdl.optim.minimize`.
        workers: SciPy's processes for differences; without effect.

    Returns:
        An :class:`~nbdl.optim.result.OptimizeResult` with x, cost, fun (the residuals), jac, grad,
        optimality, active_mask, nfev, njev, nit, status, message, success. ``status`` is SciPy's: 0
        evaluations, 1 ``gtol``, 2 ``ftol``, 3 ``xtol``; and -1 search failed, -2 not finite, 99 stopped by
        the callback.

    Raises:
        ValueError: a name is unknown, a tolerance or scale is not allowed, bounds cross, x0 is outside of
            them, or ``jac`` gives a matrix of another shape.
        TypeError: ``fun`` returns no tensor.
        RuntimeError: x0 is empty, or the residuals do not depend on x differentiably.

    Example:
        >>> import nbdl
        >>> def residuals(x):
        ...     return nbdl.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])
        >>> result = nbdl.optim.least_squares(residuals, [-1.2, 1.0])
        >>> result.x.round(6).tolist()
        [1.0, 1.0]
    """
    _check(method, loss, f_scale, max_nfev, ftol=ftol, xtol=xtol, gtol=gtol)
    function("least_squares", "fun", fun)
    if jac is not None and not isinstance(jac, str):
        function("least_squares", "jac", jac)
    elif jac is not None:
        one_of("least_squares", "jac", jac, DIFFERENCES)
    if tr_solver is not None:
        one_of("least_squares", "tr_solver", tr_solver, ("exact",))
    count("least_squares", "verbose", verbose)
    if not (kwargs is None or isinstance(kwargs, dict)):
        raise TypeError(f"least_squares: kwargs must be a dict or None, got {kwargs!r}")
    if not isinstance(args, tuple):
        args = (args,)
    variables = Variables("least_squares", x0)
    x, n = variables.start, variables.layout.size
    if n == 0:
        raise RuntimeError("least_squares: x0 has no elements")
    box = Box.of("least_squares", bounds, x, by_side=True)
    if box is not None and bool((box.project(x) != x).any()):
        raise ValueError("least_squares: x0 must lie within the bounds")
    scale = _scale(x_scale, x)
    options = kwargs or {}

    def residuals(x: Tensor) -> tuple[Sequence[Tensor], Any]:
        leaves = variables.leaves(x)
        return leaves, fun(variables.nest(leaves), *args, **options)

    def matrix(point: ResidualPoint) -> Tensor:
        assert callable(jac)
        with no_grad():
            found = jac(variables.nest(variables.leaves(point.x)), *args, **options)
            given = convert("least_squares", "jac", found, point.x)
        shape = (point.residuals.numel(), n)
        if given.shape != shape:
            raise ValueError(
                f"least_squares: jac must return a matrix of shape {shape}, got {tuple(given.shape)}"
            )
        return given

    takes_full_steps = method == "gauss-newton"
    if takes_full_steps and box is not None:
        raise ValueError("least_squares: method gauss-newton takes no bounds; lm does")
    given = matrix if callable(jac) else None
    objective = ResidualObjective(
        "least_squares", variables.layout, residuals, loss, f_scale, not takes_full_steps, box, given
    )
    solver = GaussNewtonIteration() if takes_full_steps else LevenbergMarquardtIteration(scale)
    tolerances = _Tolerances(ftol or 0.0, xtol or 0.0, gtol or 0.0, max_nfev or 100 * n)
    with no_grad():
        report = _reporter(callback, variables, verbose)
        point, status, iterations = _iterate(solver, objective, x, tolerances, report)
    found = _result(variables, objective, point, status, iterations)
    if verbose:
        print(f"{found.message} {found.nfev} evaluations, cost {found.cost:.4e}, {found.optimality:.2e} left")
    return found


def _check(method: str, loss: Any, f_scale: float, max_nfev: int | None, **tolerances: float | None) -> None:
    one_of("least_squares", "method", method, _METHODS)
    if not callable(loss):
        one_of("least_squares", "loss", loss, LOSSES)
    number("least_squares", "f_scale", f_scale, above=0)
    if max_nfev is not None:
        count("least_squares", "max_nfev", max_nfev, 1)
    for name, value in tolerances.items():
        if value is not None:
            number("least_squares", name, value, least=0)


def _scale(x_scale: Any, x: Tensor) -> Tensor | None:
    """D, the reciprocal of what the user calls the scale of x; None to take it from the Jacobian."""
    if isinstance(x_scale, str):
        if x_scale != "jac":
            raise ValueError(f"least_squares: x_scale must be numbers or 'jac', got {x_scale!r}")
        return None
    try:
        values = np.broadcast_to(np.asarray(x_scale, np.float64).reshape(-1), (x.numel(),))
    except (TypeError, ValueError):
        raise ValueError(
            f"least_squares: x_scale must be 'jac', a number or {x.numel()} numbers, got {x_scale!r}"
        ) from None
    if not (values > 0).all():
        raise ValueError(f"least_squares: x_scale must be greater than 0, got {x_scale!r}")
    return from_numpy(1 / values).to(dtype=x.dtype, device=x.device)


class _Tolerances:
    def __init__(self, ftol: float, xtol: float, gtol: float, evaluations: int):
        self.ftol, self.xtol, self.gtol, self.evaluations = ftol, xtol, gtol, evaluations

    def ending(self, point: ResidualPoint) -> int | None:
        """The status that a point by itself gives reason for."""
        if not (math.isfinite(point.cost) and math.isfinite(point.optimality)):
            return -2
        return 1 if point.optimality <= self.gtol else None


def _iterate(
    solver: LevenbergMarquardtIteration | GaussNewtonIteration,
    objective: ResidualObjective,
    x: Tensor,
    tolerances: _Tolerances,
    report: Callable[[ResidualPoint], bool],
) -> tuple[ResidualPoint, int, int]:
    """Iterate; the last point, the status and the number of iterations."""
    point = previous = objective.differentiate(objective.evaluate(x), solver)
    iterations = 0
    while True:
        # What is not known yet, on a device, becomes known with the next evaluation.
        is_known = objective.is_settled
        status = tolerances.ending(point) if is_known else None
        if status is None and objective.nfev >= tolerances.evaluations:
            status = 0
        if status is None:
            new, length, ratio = solver.iterate(objective, point)
            status = None if is_known else tolerances.ending(point)
        if status is not None:
            objective.settle()
            return previous if status == -2 else point, status, iterations
        iterations += 1
        is_short = length <= tolerances.xtol * (tolerances.xtol + point.size)
        if new is point:
            if is_short or length <= 1e-16 * point.size or isinstance(solver, GaussNewtonIteration):
                return point, 3 if is_short else -1, iterations
            continue
        reduction, previous, point = point.cost - new.cost, point, objective.differentiate(new, solver)
        status = tolerances.ending(point) if objective.is_settled else None
        if status != -2 and report(point):
            status = 99
        elif status is None and reduction <= tolerances.ftol * previous.cost and ratio > 0.25:
            status = 2
        elif status is None and is_short:
            status = 3
        if status is not None:
            if not objective.is_settled:
                objective.settle()
                status = tolerances.ending(point) or status
            return previous if status == -2 else point, status, iterations


def _reporter(
    callback: Callable[..., Any] | None, variables: Variables, verbose: int
) -> Callable[[ResidualPoint], bool]:
    report = None if callback is None else caller_of("least_squares", callback)

    def call(point: ResidualPoint) -> bool:
        if verbose > 1:
            print(f"cost {point.cost:.4e}")
        return report is not None and report(variables.returned(point.x), point.cost)

    return call


def _result(
    variables: Variables, objective: ResidualObjective, point: ResidualPoint, status: int, iterations: int
) -> OptimizeResult:
    residuals: Any = point.residuals
    matrix: Any = point.jacobian
    mask = np.zeros(variables.layout.size, int)
    if objective.box is not None:
        mask = (point.x >= objective.box.upper).cpu().numpy().astype(int)
        mask -= (point.x <= objective.box.lower).cpu().numpy().astype(int)
    if not variables.returns_tensors:
        residuals, matrix = residuals.cpu().numpy(), matrix.cpu().numpy()
    return OptimizeResult(
        x=variables.returned(point.x), cost=point.cost, fun=residuals, jac=matrix,
        grad=variables.returned(point.gradient),
        optimality=point.optimality, active_mask=mask, nfev=objective.nfev, njev=objective.njev,
        nit=iterations, status=status, message=_MESSAGES[status], success=0 < status < 99,
    )  # fmt: skip
