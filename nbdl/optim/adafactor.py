"""Adafactor: second moments of matrices kept as a row and a column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, maximum, minimum, pow, rsqrt, sqrt
from nbdl.ops.reduction import Reduce
from nbdl.ops.type_rules import finfo
from nbdl.optim.elementwise import ParameterwiseOptimizer, compute, overwrite, sign_of, zeros_state


def _mean(v: Expr, value: Expr, step: Expr, beta2_decay: Expr) -> Expr:
    return v + pow(step, beta2_decay) * (value - v)


def _factored(g: Expr, row: Expr, column: Expr, mean: Expr, smallest: Expr) -> Expr:
    return g * rsqrt(maximum(row * column / maximum(mean, smallest), smallest * smallest))


def _step(
    p: Expr, direction: Expr, p_square: Expr, square: Expr, step: Expr, lr: Expr, eps2: Expr, d: Expr,
    weight_decay: Expr, sign: Expr,
) -> Expr:  # fmt: skip
    """From the mean squares of parameter and direction."""
    rate = minimum(lr, 1 / sqrt(step)) * maximum(eps2, sqrt(p_square))
    return p * (1 - lr * weight_decay) - sign * (rate / maximum(1, sqrt(square) / d)) * direction


_SQUARE = Formula("square", lambda x: x * x, 1)
_MEAN = Formula("adafactor_mean", _mean, 4)
_FACTORED = Formula("adafactor_factored", _factored, 5)
_FULL = Formula("adafactor_full", lambda g, v, smallest: g * rsqrt(maximum(v, smallest * smallest)), 3)
_STEP = Formula("adafactor_step", _step, 10)


def _mean_square(x: Tensor, axis: int | None = None) -> Tensor:
    """The mean square along an axis, which stays with length 1, or of all elements; no squares are stored."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,)
    return apply(Reduce.of(_SQUARE, "mean", axes, axis is not None), x)


class Adafactor(ParameterwiseOptimizer):
    r"""Adafactor: steps relative to the size of the parameter, with the memory of one row and one column.

        R, C: running means of the mean squares of rows and columns of G, with weight t^beta2_decay
        U = G / sqrt(R C / mean(R)),  alpha = max(eps2, rms(P)) min(lr, 1 / sqrt(t))
        P <- P - alpha U / max(1, rms(U) / d)

    Vectors keep their full second moments.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the largest relative step.
        beta2_decay: power by which the weight of a new gradient falls, 0 or less.
        eps: smallest mean square (None: the epsilon of the dtype), and smallest size of a parameter.
        d: threshold at which steps are clipped.
        weight_decay: how much parameters shrink, relative to the learning rate.
        foreach: accepted for compatibility.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is out of its range.

    Source: Shazeer, Stern (2018), Adafactor: adaptive learning rates with sublinear memory cost,
        algorithms 4 and 5.
    """

    not_negative = ("lr", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        eps1, eps2 = group["eps"]
        for name, value, allowed, holds in (
            ("beta2_decay", group["beta2_decay"], "<= 0", group["beta2_decay"] <= 0),
            ("epsilon1", eps1, ">= 0", eps1 is None or eps1 >= 0),
            ("epsilon2", eps2, ">= 0", eps2 >= 0),
            ("Clipping threshold d", group["d"], ">= 1", group["d"] >= 1),
        ):
            if not holds:
                raise ValueError(f"Adafactor: {name} should be {allowed} but is: {value}")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        eps1, eps2 = group["eps"]
        return {
            "lr": group["lr"], "beta2_decay": group["beta2_decay"], "eps1": 0.0 if eps1 is None else eps1,
            "eps2": eps2, "d": group["d"], "weight_decay": group["weight_decay"], "sign": sign_of(group),
        }  # fmt: skip

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        lr, beta2_decay, eps1, eps2, d, weight_decay, sign = scalars.values()
        smallest = np.array(finfo(param.dtype).eps) if group["eps"][0] is None else eps1
        weights = (state["step"], beta2_decay)
        if grad.ndim > 1:
            means = _mean_square(grad, grad.ndim - 1), _mean_square(grad, grad.ndim - 2)
            row, column = zeros_state(state, "row_var", means[0]), zeros_state(state, "col_var", means[1])
            for average, value in zip((row, column), means, strict=True):
                overwrite(_MEAN, [[average, value, *weights]], (0,), 2)
            direction = compute(_FACTORED, (grad, row, column, row.mean(-2, keepdim=True)), (smallest,))
        else:
            variance = zeros_state(state, "variance", param)
            overwrite(_MEAN, [[variance, grad.square(), *weights]], (0,), 2)
            direction = compute(_FULL, (grad, variance), (smallest,))
        sizes = _mean_square(param), _mean_square(direction)
        row_of_step = [param, direction, *sizes, state["step"], lr, eps2, d, weight_decay, sign]
        overwrite(_STEP, [row_of_step], (0,), 2)
