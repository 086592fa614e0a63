"""Rprop and averaged SGD."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, equal, maximum, minimum, pow, sign, where
from nbdl.optim.elementwise import ElementwiseOptimizer, count, overwrite, sign_of


def _rprop(
    p: Expr, g: Expr, last: Expr, size: Expr, step: Expr, shrink: Expr, grow: Expr, smallest: Expr,
    largest: Expr, direction: Expr,
) -> tuple[Expr, ...]:  # fmt: skip
    g = direction * g
    agreement = g * last
    factor = where(agreement > 0, grow, where(agreement < 0, shrink, 1))
    size = minimum(maximum(size * factor, smallest), largest)
    g = where(agreement < 0, 0, g)  # after a change of sign the step is left out once
    return p - sign(g) * size, g, size


_RPROP = Formula("rprop", _rprop, 10)


class Rprop(ElementwiseOptimizer):
    """Resilient backpropagation: steps grow while the gradient keeps its sign, and shrink when it flips.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: size of the first step.
        etas: factors of the step size after a change of sign and after none.
        step_sizes: smallest and largest step size.
        capturable: accepted for compatibility; step counts are always tensors.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        differentiable: must be False.

    Raises:
        ValueError: the rate is negative, or the etas are not below and above 1.

    Source: Riedmiller, Braun (1993), A direct adaptive method for faster backpropagation learning; without
        weight backtracking (Igel, Huesken 2000, iRprop-).
    """

    accepts_complex = True

    not_negative = ("lr",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        defaults = {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        shrink, grow = group["etas"]
        if not 0.0 < shrink < 1.0 < grow:
            raise ValueError(f"Rprop: Invalid eta values: {shrink}, {grow} (allowed: 0 < first < 1 < second)")

    def initial_state(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        return self.filled(param, float(group["lr"]) if name == "step_size" else 0.0)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("prev", "step_size")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        (shrink, grow), (smallest, largest) = group["etas"], group["step_sizes"]
        return {
            "shrink": shrink, "grow": grow, "smallest": smallest, "largest": largest,
            "direction": sign_of(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _RPROP


def _asgd(
    p: Expr, g: Expr, mean: Expr, step: Expr, eta: Expr, mu: Expr, lr: Expr, lambd: Expr, t0: Expr,
    alpha: Expr, penalty: Expr, direction: Expr,
) -> tuple[Expr, ...]:  # fmt: skip
    g = direction * g + penalty * p
    p = p * (1 - lambd * eta) - eta * g
    return p, where(equal(mu, 1), p, mean + mu * (p - mean))


def _asgd_rates(step: Expr, eta: Expr, mu: Expr, *scalars: Expr) -> tuple[Expr, ...]:
    lr, lambd, t0, alpha, *_ = scalars
    step = step + 1
    return step, lr / pow(1 + lambd * lr * step, alpha), 1 / maximum(1, step - t0)


_ASGD = Formula("asgd", _asgd, 12)
_ASGD_RATES = Formula("asgd_rates", _asgd_rates, 9)


class ASGD(ElementwiseOptimizer):
    r"""Averaged stochastic gradient descent: steps of falling length, and the mean of the iterates.

        eta = lr / (1 + lambd lr t)^alpha,  p <- (1 - lambd eta) p - eta g
        a <- a + (p - a) / max(1, t - t0)

    The mean a of each parameter is ``state[param]["ax"]``.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        lambd: how fast the rate falls, and the decay of the parameters.
        alpha: power of the fall.
        t0: the step at which averaging starts.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        differentiable: must be False.
        capturable: accepted for compatibility; step counts are always tensors.

    Raises:
        ValueError: the rate or the weight decay is negative.

    Source: Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging; the rates of
        Bottou (2010), Large-scale machine learning with stochastic gradient descent.
    """

    accepts_complex = True

    counters = ("step", "eta", "mu")
    not_negative = ("lr", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        defaults = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
            "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def initial_counter(self, name: str, group: dict[str, Any]) -> float:
        return {"step": 0.0, "eta": float(group["lr"]), "mu": 1.0}[name]

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("ax",)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "lambd": group["lambd"], "t0": group["t0"], "alpha": group["alpha"],
            "penalty": group["weight_decay"], "direction": sign_of(group),
        }  # fmt: skip

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        """A step with the rates of the last one, as in PyTorch, then the rates for the next."""
        known, numbers = [self.state_of(param, group) for param in params], list(scalars.values())
        counts = [[state[name] for name in self.counters] for state in known]
        rows = [
            [param, grad, state["ax"], *counters, *numbers]
            for param, grad, state, counters in zip(params, grads, known, counts, strict=True)
        ]
        overwrite(_ASGD, rows, (0, 2), 3)
        count(_ASGD_RATES, counts, numbers)
