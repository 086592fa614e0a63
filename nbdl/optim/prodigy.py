"""Prodigy: Adam that finds its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, maximum, minimum, pow, sqrt, where
from nbdl.ops.creation import full
from nbdl.ops.joining import stack
from nbdl.optim.checks import number
from nbdl.optim.elementwise import (
    CheckedOptimizer,
    compute,
    count,
    counter,
    decays,
    overwrite,
    sign_of,
    zeros_state,
)
from nbdl.optim.optimizer import COUNT

Rule = tuple[Expr, ...]


def _scaled_rate(step: Expr, d: Expr, lr: Expr, beta1: Expr, beta2: Expr, corrected: Expr) -> Expr:
    """The rate in units of the distance, d lr, and Adam's corrections if they are wanted."""
    correction = sqrt(1 - pow(beta2, step)) / (1 - pow(beta1, step))
    return d * lr * where(corrected, correction, 1)


def _means(
    p: Expr, g: Expr, s: Expr, m: Expr, v: Expr, step: Expr, d: Expr, lr: Expr, beta1: Expr, beta2: Expr,
    beta3: Expr, corrected: Expr, penalty: Expr, sign: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    weight = (1 - beta3) * d * _scaled_rate(step, d, lr, beta1, beta2, corrected)
    m, v = beta1 * m + d * (1 - beta1) * g, beta2 * v + d * d * (1 - beta2) * (g * g)
    return beta3 * s + weight * g, m, v


def _progress(
    p: Expr, g: Expr, start: Expr, step: Expr, d: Expr, lr: Expr, beta1: Expr, beta2: Expr, beta3: Expr,
    corrected: Expr, penalty: Expr, sign: Expr,
) -> Expr:  # fmt: skip
    weight = (1 - beta3) * d * _scaled_rate(step, d, lr, beta1, beta2, corrected)
    return weight * ((sign * g + penalty * p) * (start - p))


def _step(
    p: Expr, m: Expr, v: Expr, step: Expr, d: Expr, lr: Expr, beta1: Expr, beta2: Expr, corrected: Expr,
    eps: Expr, decay: Expr,
) -> Expr:  # fmt: skip
    rate = _scaled_rate(step, d, lr, beta1, beta2, corrected)
    return p * (1 - rate * decay) - rate * (m / (sqrt(v) + d * eps))


def _distance(
    d: Expr, r: Expr, progress: Expr, size: Expr, beta3: Expr, d_coef: Expr, growth_rate: Expr
) -> Rule:
    """The larger of the old distance and the new estimate r / |s|_1, and r."""
    r = beta3 * r + progress
    estimate = where(size > 0, d_coef * r / size, d)
    return minimum(maximum(d, estimate), d * growth_rate), r


_MEANS = Formula("prodigy_means", _means, 14)
_PROGRESS = Formula("prodigy_progress", _progress, 12)
_STEP = Formula("prodigy_step", _step, 11)
_DISTANCE = Formula("prodigy_distance", _distance, 7)


class Prodigy(CheckedOptimizer):
    r"""Prodigy: Adam in units of d, a lower bound of the distance to the solution that grows as it is learnt.

        r <- beta3 r + (1 - beta3) lr d^2 <g, p_0 - p>,  s <- beta3 s + (1 - beta3) lr d^2 g
        m <- beta1 m + (1 - beta1) d g,  v <- beta2 v + (1 - beta2) d^2 g^2
        p <- p - lr d m / (sqrt(v) + d eps),  d <- max(d, d_coef r / |s|_1)

    All groups share one d, a 0-d tensor under "d" in each of them.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: factor of the rate that is found; leave it at 1, or give it a schedule.
        betas: decay of the two running means.
        beta3: decay of r and s; None: the root of the second beta.
        eps: added to the denominator.
        weight_decay: how much parameters shrink, or the coefficient of the L2 penalty.
        decouple: shrink the parameters, as :class:`AdamW`, instead of adding a penalty.
        use_bias_correction: scale rates by Adam's corrections.
        d0: d before the first step; small.
        d_coef: factor of the estimate; prefer it to ``lr``.
        growth_rate: d grows by at most this factor a step.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is out of its range.

    Source: Mishchenko, Defazio (2024), Prodigy: an expeditiously adaptive parameter-free learner,
        algorithm 4.
    """

    not_negative = ("lr", "eps", "weight_decay", "d_coef")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = float("inf"),
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "beta3": beta3, "eps": eps, "weight_decay": weight_decay,
            "decouple": decouple, "use_bias_correction": use_bias_correction, "d0": d0, "d_coef": d_coef,
            "growth_rate": growth_rate, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if not group["d0"] > 0.0:
            raise ValueError(f"Prodigy: d0 must be above 0, got {group['d0']}")
        if group["beta3"] is not None:
            number("Prodigy", "beta3", group["beta3"], least=0, below=1)
        if not group["growth_rate"] >= 1.0:
            raise ValueError(f"Prodigy: growth_rate must be at least 1, got {group['growth_rate']}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As :meth:`Optimizer.add_param_group`; the group takes over the distance of the others."""
        super().add_param_group(param_group)
        first, group = self.param_groups[0], self.param_groups[-1]
        device = group["params"][0].device
        for name, start in (("d", group["d0"]), ("d_numerator", 0.0)):
            known = first.get(name)
            group[name] = full((), start, dtype=np.float64, device=device) if known is None else known.clone()

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        beta3 = beta2**0.5 if group["beta3"] is None else group["beta3"]
        return {
            "lr": group["lr"], "beta1": beta1, "beta2": beta2, "beta3": beta3,
            "corrected": float(group["use_bias_correction"]), "eps": group["eps"],
            **decays(group, group["decouple"]), "sign": sign_of(group), "d_coef": group["d_coef"],
            "growth_rate": group["growth_rate"],
        }  # fmt: skip

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        """All groups move, and learn the distance together."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        learnt: list[tuple[Tensor, Tensor]] = []
        with no_grad():
            for index, group in enumerate(self.param_groups):
                scalars = self.scalars(index, group)
                for param in group["params"]:
                    if param.grad is not None:
                        learnt.append(self._move(group, scalars, param, param.grad))
            if learnt:
                progress, size = (stack(values).sum() for values in zip(*learnt, strict=True))
                self._grow(progress, size)
        return loss

    def _move(
        self, group: dict[str, Any], scalars: dict[str, np.ndarray], param: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A step of ``param``; gives its part of the new <g, p_0 - p>, weighted, and of |s|_1."""
        state, d = self.state[param], group["d"]
        if "step" not in state:
            state["step"], state["p0"] = counter(0.0), param.clone()
        s, m, v = (zeros_state(state, name, param) for name in ("s", "exp_avg", "exp_avg_sq"))
        count(COUNT, [[state["step"]]], ())
        lr, beta1, beta2, beta3, corrected, eps, penalty, decay, sign, *_ = scalars.values()
        weights = (state["step"], d, lr, beta1, beta2, beta3, corrected, penalty, sign)
        progress = compute(_PROGRESS, (param, grad, state["p0"]), weights).sum()
        overwrite(_MEANS, [[param, grad, s, m, v, *weights]], (2, 3, 4), 5)
        row = [param, m, v, state["step"], d, lr, beta1, beta2, corrected, eps, decay]
        overwrite(_STEP, [row], (0,), 3)
        return progress, s.abs().sum()

    def _grow(self, progress: Tensor, size: Tensor) -> None:
        """The new distance, the same in all groups."""
        for index, group in enumerate(self.param_groups):
            scalars = self.scalars(index, group)
            numbers = [scalars[name] for name in ("beta3", "d_coef", "growth_rate")]
            overwrite(_DISTANCE, [[group["d"], group["d_numerator"], progress, size, *numbers]], (0, 1), 2)
