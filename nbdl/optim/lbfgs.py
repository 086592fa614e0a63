"""L-BFGS with the interface of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.checks import count
from nbdl.optim.closure import ClosureObjective, relative_units
from nbdl.optim.directions import LimitedMemory
from nbdl.optim.objective import Point
from nbdl.optim.optimizer import Optimizer, check_at_least_zero
from nbdl.optim.result import OptimizeResult, Status, reported
from nbdl.optim.search.line import Line, NotADescentDirectionError, Sample
from nbdl.optim.search.wolfe import StrongWolfe
from nbdl.optim.vectors import fetch, moved

_LEAST_CURVATURE = 1e-10  # of a pair that is remembered, s^T y
_SEARCH_TOLERANCE = 1e-9  # of a bracket, as a change of any parameter


class LBFGS(Optimizer):
    """L-BFGS: a step runs up to ``max_iter`` iterations with the same closure.

    The closure clears the gradients, computes the loss, calls ``backward`` and returns the loss. Arguments
    and trajectory are PyTorch's; beyond it there may be several groups: their learning rates scale the
    initial matrix, as if the parameters of a group were counted in units of the root of its rate relative to
    the largest one, so that a rate of 0 freezes a group. The other settings are those of the first group.

    The pairs lie in a ring on the device of the parameters, and the recursion is one operation. Where a trial
    of the search is not finite the step is shortened. A closure that was compiled (``nbdl.compile(closure)``)
    runs as one program with all that the search does around it.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the step without a search, the first trial with one.
        max_iter: iterations a step.
        max_eval: evaluations of the closure a step; default: 5/4 ``max_iter``.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when neither a parameter nor the loss changes by more.
        history_size: number of pairs.
        line_search_fn: "strong_wolfe" or None.

    Attributes:
        result: how the last step ended: fun, status, message, success, nit, nfev, njev, nhev. None before.

    Raises:
        ValueError: a number is negative, ``history_size`` is not positive, or the search is unknown.
        RuntimeError: parameters are on several devices or of several dtypes, or from ``step``: the closure
            returns no scalar, or leaves no gradient.

    Source: Nocedal & Wright (2006), algorithms 7.4 and 7.5; Schmidt's minFunc.

    Example:
        >>> import nbdl
        >>> w = nbdl.zeros(2, dtype=nbdl.float64, requires_grad=True)
        >>> optimizer = nbdl.optim.LBFGS([w], line_search_fn="strong_wolfe")
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = ((w - nbdl.tensor([1.0, 2.0])) ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> w.detach().round(decimals=6).tolist()
        [1.0, 2.0]
    """

    accepts_complex = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        if max_eval is None:
            count("LBFGS", "max_iter", max_iter)
            max_eval = max_iter * 5 // 4
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_eval, "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.result: OptimizeResult | None = None

    def check_group(self, group: dict[str, Any]) -> None:
        if isinstance(group["lr"], Tensor) and group["lr"].numel() != 1:
            raise ValueError(f"LBFGS: a tensor lr must have 1 element, got shape {tuple(group['lr'].shape)}")
        check_at_least_zero("LBFGS", "learning rate", group["lr"])
        for name in ("tolerance_grad", "tolerance_change"):
            check_at_least_zero("LBFGS", name, group[name])
        for name in ("max_iter", "max_eval"):
            count("LBFGS", name, group[name])
        count("LBFGS", "history_size", group["history_size"], 1)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                f"LBFGS: line_search_fn must be 'strong_wolfe' or None, got {group['line_search_fn']!r}"
            )

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None:
            raise TypeError("LBFGS: step needs a closure that computes the loss and its gradients")
        params = [p for group in self.param_groups for p in group["params"]]
        objective = ClosureObjective("LBFGS", params, closure, scales=relative_units(self.param_groups))
        with no_grad():
            self.result = _Run(self, objective, self.state[params[0]]).iterate()
        return objective.first_loss

    @property
    def rate(self) -> float:
        """The largest learning rate of the groups."""
        return max(float(group["lr"]) for group in self.param_groups)


class _Run:
    """The iterations of one step; what a later step needs is kept in the state of the first parameter."""

    def __init__(self, optimizer: LBFGS, objective: ClosureObjective, state: dict[str, Any]):
        self.group, self.lr = optimizer.param_groups[0], optimizer.rate
        self.objective, self.state = objective, state
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        self.memory = LimitedMemory(self.group["history_size"])
        self.memory.load(state)

    def iterate(self) -> OptimizeResult:
        """Up to ``max_iter`` iterations from where the parameters are."""
        objective, state = self.objective, self.state
        point = objective.evaluate(objective.start)
        value, first = point.value, state["n_iter"]
        previous, curvature = self._previous(point)
        status = Status.MAX_ITERATIONS if point.is_finite else Status.NON_FINITE
        for iteration in range(self.group["max_iter"] if point.is_finite else 0):
            if point.gradient_norm <= self.group["tolerance_grad"]:
                status = Status.CONVERGED
                break
            state["n_iter"] += 1
            if previous is not None:
                self._learn(previous, point, curvature)
            line = Line(objective, point, self.memory.multiply(point.gradient, negative=True))
            is_last = iteration == self.group["max_iter"] - 1
            new, curvature = self._advance(line, self._first_step(point, previous), is_last)
            if new is None:
                status = self._stuck(line, point)
                break
            previous, point = point, new
            if not math.isnan(point.value):  # the end of a last step without a search is not evaluated
                value = point.value
                status = self._end(previous, point)
            if is_last or status is not Status.MAX_ITERATIONS:
                break
        objective.place(point.x)
        state["func_evals"] += objective.nfev
        self.memory.save(state)
        if previous is not None:
            state["prev_step"], state["prev_flat_grad"] = point.x - previous.x, previous.gradient
        iterations = state["n_iter"] - first
        return reported(status, value, nit=iterations, nfev=objective.nfev, njev=objective.njev)

    def _previous(self, point: Point) -> tuple[Point | None, float | None]:
        """The point before ``point``, of the step before this one."""
        if "prev_step" not in self.state:
            return None, None
        previous = Point(point.x - self.state["prev_step"])
        previous.gradient = self.state["prev_flat_grad"]
        return previous, None

    def _learn(self, old: Point, new: Point, curvature: float | None) -> None:
        if curvature is None:
            (curvature,) = fetch(dot(new.x - old.x, new.gradient - old.gradient))
        if curvature > _LEAST_CURVATURE:
            self.memory.push(old, new)

    def _first_step(self, point: Point, previous: Point | None) -> float:
        if previous is not None:
            return self.lr
        (size,) = fetch(point.gradient.abs().sum())
        return min(1.0, 1.0 / size) * self.lr

    def _advance(self, line: Line, step: float, is_last: bool) -> tuple[Point | None, float | None]:
        """The next point and s^T y on the way there, if it is known; None where the line does not descend."""
        searches = self.group["line_search_fn"] is not None
        flat = -self.group["tolerance_change"]
        try:
            # On a GPU the slope is not waited for: it comes with the first evaluation.
            if not line.direction.is_cuda and line.slope > flat:
                return None, None
            if is_last and not searches:  # with mini-batches, an evaluation here would be wasted
                return (None if line.slope > flat else Point(moved(line.start.x, step, line.direction))), None
            sample = self._search(line, step) if searches else line.at_or_before(step)
        except NotADescentDirectionError:
            return None, None
        if sample is None or not sample.is_finite or line.slope > flat:
            return None, None
        return sample.point, sample.step * (sample.slope - line.slope)

    def _search(self, line: Line, step: float) -> Sample | None:
        evaluations = max(self.group["max_eval"] - self.objective.nfev, 0)
        search = StrongWolfe(max_evaluations=evaluations, tolerance_change=_SEARCH_TOLERANCE)
        return search(line, step).sample

    def _stuck(self, line: Line, point: Point) -> Status:
        """Why there is no next point: the line is flat, or the search failed."""
        is_flat = -self.group["tolerance_change"] < line.slope < 0 if "slope" in vars(line) else False
        return Status.SMALL_CHANGE if is_flat else Status.SEARCH_FAILED

    def _end(self, old: Point, new: Point) -> Status:
        """Why a step is over after an iteration; ``MAX_ITERATIONS`` where it may go on."""
        tolerance = self.group["tolerance_change"]
        if new.gradient_norm <= self.group["tolerance_grad"]:
            return Status.CONVERGED
        if self.objective.nfev >= self.group["max_eval"]:
            return Status.MAX_EVALUATIONS
        if abs(new.value - old.value) < tolerance:
            return Status.SMALL_CHANGE
        if tolerance > 0 and new.change <= tolerance:
            return Status.SMALL_STEP
        return Status.MAX_ITERATIONS
