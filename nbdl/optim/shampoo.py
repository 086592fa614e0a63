"""Shampoo: preconditioners that are Kronecker products, one factor an axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula
from nbdl.linalg import eigh
from nbdl.ops.creation import eye
from nbdl.optim.elementwise import ParameterwiseOptimizer, compute, overwrite, sign_of, zeros_state

_PENALIZED = Formula("penalized", lambda p, g, weight_decay, sign: sign * g + weight_decay * p, 4)


def _momentum_step(p: Expr, move: Expr, velocity: Expr, lr: Expr, momentum: Expr) -> tuple[Expr, ...]:
    velocity = momentum * velocity + move
    return p - lr * velocity, velocity


_MOMENTUM_STEP = Formula("shampoo_step", _momentum_step, 5)


def gram(x: Tensor, axis: int) -> Tensor:
    """The products of all pairs of slices of ``x`` along ``axis``: (n, n)."""
    rows = x.movedim(axis, 0).reshape(x.shape[axis], -1)
    return rows @ rows.t()


def multiply_along(x: Tensor, matrix: Tensor | None, axis: int) -> Tensor:
    """``matrix`` times ``x`` along ``axis``; ``x`` itself where there is no matrix."""
    if matrix is None:
        return x
    moved = x.movedim(axis, 0)
    return (matrix @ moved.reshape(moved.shape[0], -1)).reshape(moved.shape).movedim(0, axis)


def inverse_root(matrix: Tensor, order: int, smallest: float) -> Tensor:
    """A symmetric positive matrix to the power -1/order; eigenvalues below ``smallest`` are lifted to it."""
    values, vectors = eigh(matrix)
    return (vectors * values.clamp(min=smallest).pow(-1.0 / order)) @ vectors.t()


class Shampoo(ParameterwiseOptimizer):
    r"""Shampoo: Adagrad with a full matrix for each axis of a parameter.

        L <- L + G G^T,  R <- R + G^T G,  P <- P - lr L^(-1/4) G R^(-1/4)

    and alike for k axes, with the power -1/(2k) of each.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        momentum: how much of the last step is kept.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        epsilon: multiple of the identity that L and R begin with.
        update_freq: steps between two computations of the roots. Steps are counted in Python, so a compiled
            step always does what it did when it was recorded.
        max_preconditioner_dim: longer axes are left without a matrix.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is out of its range.

    Source: Gupta, Koren, Singer (2018), Shampoo: preconditioned stochastic tensor optimization, algorithms 1
        and 2.
    """

    counters = ()
    not_negative = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        epsilon: float = 1e-4,
        update_freq: int = 1,
        *,
        max_preconditioner_dim: int = 1024,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "epsilon": epsilon,
            "update_freq": update_freq, "max_preconditioner_dim": max_preconditioner_dim,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if not group["epsilon"] > 0.0:
            raise ValueError(f"Shampoo: epsilon must be above 0, got {group['epsilon']}")
        check_frequency("Shampoo", "update_freq", group["update_freq"])

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "momentum": group["momentum"], "weight_decay": group["weight_decay"],
            "sign": sign_of(group),
        }  # fmt: skip

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        lr, momentum, weight_decay, sign = scalars.values()
        velocity = zeros_state(state, "momentum_buffer", param)
        move = compute(_PENALIZED, (param, grad), (weight_decay, sign)).reshape(shape_with_axes(param))
        gradient, n_axes = move, move.ndim
        updates = state.get("updates", 0)
        for axis, n in enumerate(move.shape):
            if n > group["max_preconditioner_dim"] or not move.numel():
                continue
            name, root = f"precond_{axis}", f"inv_precond_{axis}"
            if name not in state:
                state[name] = group["epsilon"] * eye(n, dtype=param.dtype, device=param.device)
                state[root] = state[name].zeros_like()
            state[name] += gram(gradient, axis)
            if updates % group["update_freq"] == 0:
                state[root].copy_(inverse_root(state[name], 2 * n_axes, group["epsilon"]))
            move = multiply_along(move, state[root], axis)
        overwrite(_MOMENTUM_STEP, [[param, move.reshape(param.shape), velocity, lr, momentum]], (0, 2), 3)
        state["updates"] = updates + 1


def shape_with_axes(param: Tensor) -> tuple[int, ...]:
    """The shape of ``param``; a 0-d one counts as a vector of length 1."""
    return tuple(param.shape) or (1,)


def check_frequency(label: str, name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` counts steps."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{label}: {name} must be an integer from 1 on, got {value}")
