"""Rates in proportion to the norm of each layer, for large batches: LARS and LAMB."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, logical_and, pow, sqrt, where
from nbdl.optim.elementwise import ParameterwiseOptimizer, compute, overwrite, rates, sign_of, zeros_state


def _lars(
    p: Expr, g: Expr, velocity: Expr, p_norm: Expr, g_norm: Expr, lr: Expr, momentum: Expr,
    weight_decay: Expr, trust: Expr, eps: Expr, sign: Expr, nesterov: Expr,
) -> tuple[Expr, ...]:  # fmt: skip
    local = trust * p_norm / (g_norm + weight_decay * p_norm + eps)
    local = where(logical_and(p_norm > 0, g_norm > 0), local, 1)
    move = lr * local * (sign * g + weight_decay * p)
    velocity = momentum * velocity + move
    return p - where(nesterov, momentum * velocity + move, velocity), velocity


_LARS = Formula("lars", _lars, 12)


class LARS(ParameterwiseOptimizer):
    r"""LARS: SGD with momentum whose rate is proportional to |p| / |g|, layer by layer.

        local = trust_coefficient |p| / (|g| + weight_decay |p| + eps)
        v <- momentum v + lr local (g + weight_decay p),  p <- p - v

    Where a norm is 0 the local rate is 1.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the global learning rate.
        momentum: how much of the last step is kept.
        weight_decay: coefficient of the L2 penalty.
        trust_coefficient: how far a layer may move, relative to its norm.
        eps: added to the denominator of the local rate.
        nesterov: look ahead.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative.

    Source: You, Gitman, Ginsburg (2017), Large batch training of convolutional networks, algorithm 1.
    """

    counters = ()
    not_negative = ("lr", "momentum", "weight_decay", "trust_coefficient", "eps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-1,
        momentum: float = 0.9,
        weight_decay: float = 0,
        trust_coefficient: float = 1e-3,
        eps: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient, "eps": eps, "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "momentum": group["momentum"], "weight_decay": group["weight_decay"],
            "trust": group["trust_coefficient"], "eps": group["eps"], "sign": sign_of(group),
            "nesterov": float(group["nesterov"]),
        }  # fmt: skip

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        velocity = zeros_state(state, "momentum_buffer", param)
        norms = param.norm(), grad.norm()
        overwrite(_LARS, [[param, grad, velocity, *norms, *scalars.values()]], (0, 2), 3)


def _means(m: Expr, v: Expr, g: Expr, beta1: Expr, beta2: Expr, sign: Expr) -> tuple[Expr, ...]:
    return m + (1 - beta1) * (sign * g - m), beta2 * v + (1 - beta2) * (g * g)


def _direction(
    p: Expr, m: Expr, v: Expr, step: Expr, beta1: Expr, beta2: Expr, eps: Expr, weight_decay: Expr,
    corrected: Expr,
) -> Expr:  # fmt: skip
    first = where(corrected, 1 - pow(beta1, step), 1)
    second = where(corrected, 1 - pow(beta2, step), 1)
    return m / first / (sqrt(v / second) + eps) + weight_decay * p


def _trusted_step(p: Expr, direction: Expr, p_norm: Expr, norm: Expr, lr: Expr) -> Expr:
    return p - lr * where(logical_and(p_norm > 0, norm > 0), p_norm / norm, 1) * direction


_MEANS = Formula("lamb_means", _means, 6)
_DIRECTION = Formula("lamb_direction", _direction, 9)
_TRUSTED_STEP = Formula("lamb_step", _trusted_step, 5)


class LAMB(ParameterwiseOptimizer):
    r"""LAMB: Adam's direction, with steps of a length proportional to |p|, layer by layer.

        r = m_hat / (sqrt(v_hat) + eps) + weight_decay p,  p <- p - lr |p| / |r| r

    Where a norm is 0 the factor |p| / |r| is 1.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: how much parameters shrink.
        bias_correction: correct the means for their start at 0.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: You et al. (2020), Large batch optimization for deep learning: training BERT in 76 minutes,
        algorithm 2, with the identity for phi.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
        *,
        bias_correction: bool = True,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "bias_correction": bias_correction, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            **rates(group), "weight_decay": group["weight_decay"], "sign": sign_of(group),
            "corrected": float(group["bias_correction"]),
        }  # fmt: skip

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        m, v = zeros_state(state, "exp_avg", param), zeros_state(state, "exp_avg_sq", param)
        lr, beta1, beta2, eps, weight_decay, sign, corrected = scalars.values()
        overwrite(_MEANS, [[m, v, grad, beta1, beta2, sign]], (0, 1), 3)
        direction = compute(
            _DIRECTION, (param, m, v), (state["step"], beta1, beta2, eps, weight_decay, corrected)
        )
        overwrite(_TRUSTED_STEP, [[param, direction, param.norm(), direction.norm(), lr]], (0,), 2)
