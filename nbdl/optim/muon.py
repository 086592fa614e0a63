"""Muon: momentum, made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula
from nbdl.optim.elementwise import ParameterwiseOptimizer, compute, overwrite, zeros_state

_MEAN = Formula("muon_mean", lambda m, g, momentum: m + (1 - momentum) * (g - m), 3)
_LOOK_AHEAD = Formula("muon_look_ahead", lambda g, m, momentum: g + momentum * (m - g), 3)


def _step(p: Expr, direction: Expr, ratio: Expr, lr: Expr, weight_decay: Expr) -> Expr:
    return p * (1 - lr * weight_decay) - lr * ratio * direction


_STEP = Formula("muon_step", _step, 5)


def orthogonalize(
    matrix: Tensor,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    eps: float = 1e-7,
) -> Tensor:
    r"""The nearest matrix with orthonormal rows or columns, roughly: singular values between 0.7 and 1.2.

        X <- a X + (b X X^T + c (X X^T)^2) X,  starting at X = matrix / |matrix|_F

    Args:
        matrix: a matrix.
        ns_coefficients: (a, b, c). The default grows small singular values fast; (2, -1.5, 0.5) converges.
        ns_steps: how often.
        eps: least norm that is divided by.

    Returns:
        A matrix of the same shape, computed in the dtype of ``matrix``.

    Raises:
        ValueError: ``matrix`` is none, or there are not 3 coefficients.

    Source: Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks; Bernstein, Newhouse
        (2024), Old optimizer, new norm: an anthology, appendix A.
    """
    if matrix.ndim != 2:
        raise ValueError(f"orthogonalize: matrix must have 2 dimensions, got shape {tuple(matrix.shape)}")
    if len(ns_coefficients) != 3:
        raise ValueError(f"orthogonalize: ns_coefficients must be 3 values, got {len(ns_coefficients)}")
    a, b, c = ns_coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.t() if is_tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.t()
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.t() if is_tall else x


class Muon(ParameterwiseOptimizer):
    r"""Muon: steps along the orthogonal matrix nearest to the momentum; for the matrices of hidden layers.

        m <- momentum m + (1 - momentum) g
        p <- (1 - lr weight_decay) p - lr r orthogonalize(g + momentum (m - g) or m)

    Embeddings, output layers and vectors want another optimizer, such as :class:`AdamW`. PyTorch rounds the
    iteration to bfloat16; here it is computed in the dtype of the parameter.

    Args:
        params: matrices, or groups of them, see :class:`Optimizer`.
        lr: the learning rate.
        weight_decay: how much parameters shrink, relative to the learning rate.
        momentum: decay of the running mean of gradients.
        nesterov: look ahead.
        ns_coefficients: see :func:`nbdl.optim.muon.orthogonalize`.
        eps: least norm that is divided by.
        ns_steps: iterations, below 100.
        adjust_lr_fn: how the rate depends on the shape (A, B): "original" (the default),
            r = sqrt(max(1, A / B)), or "match_rms_adamw", r = 0.2 sqrt(max(A, B)).

    Raises:
        ValueError: a parameter is no matrix, or a hyperparameter is out of its range.

    Source: Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks; the second rate:
        Liu et al. (2025), Muon is scalable for LLM training, section 2.2.
    """

    counters = ()
    not_negative = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: Adjust learning rate function {group['adjust_lr_fn']!r} is not supported "
                "(allowed: None, 'original', 'match_rms_adamw')"
            )
        if not 0 <= group["ns_steps"] < 100:
            raise ValueError(f"Muon: ns_steps must be at least 0 and less than 100, got {group['ns_steps']}")
        if len(group["ns_coefficients"]) != 3:
            raise ValueError(f"Muon: ns_coefficients must be 3 values, got {group['ns_coefficients']}")
        for param in group.get("params", ()):
            if param.ndim != 2:
                raise ValueError(
                    "Muon: Muon only supports 2D parameters whereas we found a parameter with size: "
                    f"{tuple(param.shape)}"
                )

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {name: group[name] for name in ("lr", "weight_decay", "momentum")}

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        lr, weight_decay, momentum = scalars.values()
        mean = zeros_state(state, "momentum_buffer", param)
        overwrite(_MEAN, [[mean, grad, momentum]], (0,), 2)
        direction = compute(_LOOK_AHEAD, (grad, mean), (momentum,)) if group["nesterov"] else mean
        direction = orthogonalize(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
        ratio = np.array(_rate_ratio(group["adjust_lr_fn"], *param.shape))
        overwrite(_STEP, [[param, direction, ratio, lr, weight_decay]], (0,), 2)


def _rate_ratio(kind: str | None, rows: int, columns: int) -> float:
    """The factor of the learning rate for a matrix of this shape."""
    if kind == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns)) if columns else 1.0
