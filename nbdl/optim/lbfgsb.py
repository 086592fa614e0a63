"""L-BFGS with bounds as an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.optim.bounded import BoundedLBFGS
from nbdl.optim.bounds import Box
from nbdl.optim.checks import count
from nbdl.optim.closure import ClosureObjective, relative_units
from nbdl.optim.iteration import Method
from nbdl.optim.methods import METHODS
from nbdl.optim.optimizer import check_at_least_zero
from nbdl.optim.second_order import ClosureOptimizer, limits


class LBFGSB(ClosureOptimizer):
    """L-BFGS-B: quasi-Newton steps that keep lower <= p <= upper, elementwise.

    The closure clears the gradients, computes the loss, calls ``backward`` and returns the loss. It never
    sees a parameter outside of its bounds; parameters that begin outside are moved to the nearest bound.

    Groups may have their own ``bounds`` and ``lr``. Only the ratios of the rates matter, as in
    :class:`LBFGS`: they scale the matrix that the method begins with, and a rate of 0 freezes a group. The
    other settings are those of the first group.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate of groups without their own.
        bounds: None, or a pair (lower, upper), each of them None for no bound, a number, or something that
            broadcasts to the shape of every parameter of the group.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of p - project(p - gradient) is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        history_size: number of pairs.

    Raises:
        ValueError: a number is negative, ``history_size`` is not positive, or bounds cross, are NaN, or have
            a shape that does not fit.

    Source: Byrd, Lu, Nocedal, Zhu (1995), A limited memory algorithm for bound constrained optimization,
        algorithm L-BFGS-B; see :class:`nbdl.optim.bounded.BoundedLBFGS`.

    Example:
        >>> import nbdl
        >>> w = nbdl.zeros(2, dtype=nbdl.float64, requires_grad=True)
        >>> optimizer = nbdl.optim.LBFGSB([w], bounds=(0.0, nbdl.tensor([1.0, 5.0])))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = ((w - nbdl.tensor([3.0, 2.0])) ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> w.detach().round(decimals=6).tolist(), optimizer.result.success
        ([1.0, 2.0], True)
    """

    accepts_complex = False  # which have no order

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        bounds: tuple[Any, Any] | None = None,
        max_iter: int = 20,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        history_size: int = 10,
    ):
        ends = limits(max_iter, tolerance_grad, tolerance_change)
        super().__init__(params, {"lr": lr, "bounds": bounds, "history_size": history_size, **ends})

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        check_at_least_zero("LBFGSB", "learning rate", group["lr"])
        count("LBFGSB", "history_size", group["history_size"], 1)
        self._box([group])

    def run(self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]) -> Any:
        units, box = relative_units(self.param_groups), self._box(self.param_groups)
        objective = ClosureObjective("LBFGSB", self.parameters, closure, scales=units, box=box)
        size = group["history_size"]
        method: Method = (
            METHODS["l-bfgs"](size) if objective.box is None else BoundedLBFGS(objective.box, size)
        )
        return self.iterate(method, objective, group, state)

    def _box(self, groups: Sequence[dict[str, Any]]) -> Box | None:
        """The bounds of all parameters of some groups."""
        params = [p for group in groups for p in group["params"]]
        if not params:
            return None
        sides = [_sides(group["bounds"], p) for group in groups for p in group["params"]]
        lower, upper = (np.concatenate(side) for side in zip(*sides, strict=True))
        return Box.of("LBFGSB", (lower, upper), params[0].detach().new_zeros(len(lower)), by_side=True)


def _sides(bounds: Any, param: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the elements of a parameter.

    Raises:
        ValueError: these are no bounds of it.
    """
    if bounds is None:
        bounds = (None, None)
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(f"LBFGSB: bounds must be None or a pair (lower, upper), got {bounds!r}")
    shape, found = tuple(param.shape), []
    for side, nothing in zip(bounds, (-np.inf, np.inf), strict=True):
        value = nothing if side is None else side.detach().cpu().numpy() if isinstance(side, Tensor) else side
        try:
            found.append(np.broadcast_to(np.asarray(value, np.float64), shape).reshape(-1))
        except ValueError:
            raise ValueError(
                f"LBFGSB: bounds must broadcast to the parameter's shape {shape}, got {np.shape(value)}"
            ) from None
    return found[0], found[1]
