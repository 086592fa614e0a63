"""SOAP: Adam in the eigenbasis of Shampoo's matrices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, pow, sqrt
from nbdl.linalg import eigh, qr
from nbdl.optim.elementwise import ParameterwiseOptimizer, compute, overwrite, rates, sign_of, zeros_state
from nbdl.optim.shampoo import check_frequency, gram, multiply_along, shape_with_axes


def _square(v: Expr, g: Expr, beta2: Expr) -> Expr:
    return beta2 * v + (1 - beta2) * (g * g)


def _direction(m: Expr, v: Expr, step: Expr, beta1: Expr, beta2: Expr, eps: Expr) -> Expr:
    n_means = step - 1  # the first step makes the bases
    root = sqrt(1 - pow(beta2, n_means))
    return root / (1 - pow(beta1, n_means)) * (m / (sqrt(v) + eps))


_MEAN = Formula("soap_mean", lambda m, g, beta, sign: beta * m + (1 - beta) * (sign * g), 4)
_SQUARE = Formula("soap_square", _square, 3)
_DIRECTION = Formula("soap_direction", _direction, 6)
_STEP = Formula("soap_step", lambda p, move, lr, decay: p * (1 - lr * decay) - lr * move, 4)


class SOAP(ParameterwiseOptimizer):
    r"""SOAP: Adam in the eigenbasis of Shampoo's matrices.

        G' = Q_L^T G Q_R,  V <- beta2 V + (1 - beta2) G'^2,  M <- beta1 M + (1 - beta1) G
        P <- P - lr Q_L (Q_L^T M Q_R / (sqrt(V) + eps)) Q_R^T
        L, R: running means of G G^T and G^T G;  Q <- the Q of a QR decomposition of L Q, now and then

    The first step only makes the bases. Vectors are updated as by Adam unless ``precondition_1d``.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        shampoo_beta: decay of L and R; negative: the second beta.
        eps: added to the denominator.
        weight_decay: how much parameters shrink, relative to the learning rate.
        precondition_frequency: steps between two changes of the bases. Steps are counted in Python, so a
            compiled step always does what it did when it was recorded.
        max_precond_dim: longer axes are left as they are.
        precondition_1d: give vectors a basis too.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is out of its range.

    Source: Vyas et al. (2025), SOAP: improving and stabilizing Shampoo using Adam, algorithms 3 and 4.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float = -1,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        precondition_1d: bool = False,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "shampoo_beta": shampoo_beta, "eps": eps, "weight_decay": weight_decay,
            "precondition_frequency": precondition_frequency, "max_precond_dim": max_precond_dim,
            "precondition_1d": precondition_1d, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if group["shampoo_beta"] >= 1.0:
            raise ValueError(f"SOAP: shampoo_beta must be below 1, got {group['shampoo_beta']}")
        check_frequency("SOAP", "precondition_frequency", group["precondition_frequency"])

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        shampoo_beta = group["shampoo_beta"] if group["shampoo_beta"] >= 0 else group["betas"][1]
        return {
            **rates(group), "decay": group["weight_decay"], "sign": sign_of(group),
            "shampoo_beta": shampoo_beta, "plus": 1.0,
        }  # fmt: skip

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        lr, beta1, beta2, eps, decay, sign, shampoo_beta, plus = scalars.values()
        m, v = zeros_state(state, "exp_avg", param), zeros_state(state, "exp_avg_sq", param)
        shape, updates = shape_with_axes(param), state.get("updates", 0)
        axes = _rotated_axes(shape, group)
        gradient = grad.reshape(shape)
        if updates:
            bases = [state[f"basis_{axis}"] if axis in axes else None for axis in range(len(shape))]
            turned = _rotated(gradient, [None if basis is None else basis.t() for basis in bases])
            overwrite(_MEAN, [[m, grad, beta1, sign]], (0,), 2)
            overwrite(_SQUARE, [[v, turned.reshape(param.shape), beta2]], (0,), 2)
            mean = _rotated(m.reshape(shape), [None if basis is None else basis.t() for basis in bases])
            direction = compute(_DIRECTION, (mean, v.reshape(shape)), (state["step"], beta1, beta2, eps))
            move = _rotated(direction, bases).reshape(param.shape)
            overwrite(_STEP, [[param, move, lr, decay]], (0,), 2)
        for axis in axes:
            products = gram(gradient, axis)
            factor = zeros_state(state, f"factor_{axis}", products)
            overwrite(_MEAN, [[factor, products, shampoo_beta, plus]], (0,), 2)
            if not updates:
                state[f"basis_{axis}"] = eigh(factor).eigenvectors
            elif updates % group["precondition_frequency"] == 0:
                basis = state[f"basis_{axis}"]
                basis.copy_(qr(factor @ basis).Q)
        state["updates"] = updates + 1


def _rotated_axes(shape: tuple[int, ...], group: dict[str, Any]) -> tuple[int, ...]:
    """The axes of a parameter that get a basis."""
    if len(shape) == 1 and not group["precondition_1d"]:
        return ()
    return tuple(axis for axis, n in enumerate(shape) if 0 < n <= group["max_precond_dim"])


def _rotated(x: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """``x`` multiplied by a matrix along every axis that has one."""
    for axis, matrix in enumerate(matrices):
        x = multiply_along(x, matrix, axis)
    return x
