"""Relatives of Adam that PyTorch has: Adamax, NAdam, RAdam, and Adam for sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, abs, maximum, pow, sqrt, where
from nbdl.optim.elementwise import ElementwiseOptimizer, TwoMeans, count, decays, overwrite, rates, sign_of
from nbdl.optim.optimizer import COUNT

Rule = tuple[Expr, ...]


def _adamax(
    p: Expr, g: Expr, m: Expr, u: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr, eps: Expr,
    penalty: Expr, sign: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    m = m + (1 - beta1) * (g - m)
    u = maximum(beta2 * u, abs(g) + eps)
    return p - lr / (1 - pow(beta1, step)) * (m / u), m, u


_ADAMAX = Formula("adamax", _adamax, 11)


class Adamax(ElementwiseOptimizer):
    r"""Adamax: Adam with the largest recent gradient in place of the root mean square.

        m <- beta1 m + (1 - beta1) g,  u <- max(beta2 u, |g| + eps)
        p <- p - lr / (1 - beta1^t) m / u

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the mean and of the maximum.
        eps: added to the size of the gradient.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        differentiable: must be False.
        capturable: accepted for compatibility; step counts are always tensors.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Kingma, Ba (2015), Adam: a method for stochastic optimization, algorithm 2.
    """

    accepts_complex = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            **rates(group), "penalty": group["weight_decay"], "sign": sign_of(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _ADAMAX


def _nadam_momentum(step: Expr, beta1: Expr, momentum_decay: Expr) -> Expr:
    """The momentum of a step, which warms up to beta1."""
    return beta1 * (1 - 0.5 * pow(0.96, step * momentum_decay))


def _nadam_counts(step: Expr, product: Expr, *scalars: Expr) -> Rule:
    _, beta1, _, _, momentum_decay, *_ = scalars
    step = step + 1
    return step, product * _nadam_momentum(step, beta1, momentum_decay)


def _nadam(
    p: Expr, g: Expr, m: Expr, v: Expr, step: Expr, product: Expr, lr: Expr, beta1: Expr, beta2: Expr,
    eps: Expr, momentum_decay: Expr, sign: Expr, penalty: Expr, decay: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    m, v = m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * (g * g)
    now = _nadam_momentum(step, beta1, momentum_decay)
    following = _nadam_momentum(step + 1, beta1, momentum_decay)
    move = lr * (1 - now) / (1 - product) * g + lr * following / (1 - product * following) * m
    return p * (1 - lr * decay) - move / (sqrt(v / (1 - pow(beta2, step))) + eps), m, v


_NADAM = Formula("nadam", _nadam, 14)
_NADAM_COUNTS = Formula("nadam_counts", _nadam_counts, 10)


class NAdam(ElementwiseOptimizer):
    r"""NAdam: Adam with Nesterov's momentum.

        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)
        m_hat = mu_{t+1} m / (1 - prod_{i <= t+1} mu_i) + (1 - mu_t) g / (1 - prod_{i <= t} mu_i)
        p <- p - lr m_hat / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        momentum_decay: how fast the momentum warms up.
        decoupled_weight_decay: shrink the parameter instead, as :class:`AdamW`.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        capturable: accepted for compatibility; step counts are always tensors.
        differentiable: must be False.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Dozat (2016), Incorporating Nesterov momentum into Adam, algorithm 2.
    """

    accepts_complex = True

    counters = ("step", "mu_product")
    counting = _NADAM_COUNTS
    not_negative = ("lr", "eps", "weight_decay", "momentum_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def initial_counter(self, name: str, group: dict[str, Any]) -> float:
        return 1.0 if name == "mu_product" else 0.0

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            **rates(group), "momentum_decay": group["momentum_decay"], "sign": sign_of(group),
            **decays(group, group["decoupled_weight_decay"]),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _NADAM


def _radam(
    p: Expr, g: Expr, m: Expr, v: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr, eps: Expr,
    sign: Expr, penalty: Expr, decay: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    m, v = m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * (g * g)
    correction = 1 - pow(beta2, step)
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * pow(beta2, step) / correction
    rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    known = length > 5
    scale = where(known, sqrt(where(known, rectified, 1) * correction) / (sqrt(v) + eps), 1)
    return p * (1 - lr * decay) - lr / (1 - pow(beta1, step)) * m * scale, m, v


_RADAM = Formula("radam", _radam, 12)


class RAdam(TwoMeans):
    r"""RAdam: Adam whose first steps wait until the variance of the scale is finite.

        rho = rho_inf - 2 t beta2^t / (1 - beta2^t),  rho_inf = 2 / (1 - beta2) - 1
        r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))
        p <- p - lr m_hat r sqrt(1 - beta2^t) / (sqrt(v) + eps)  if rho > 5, else  p - lr m_hat

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        decoupled_weight_decay: shrink the parameter instead, as :class:`AdamW`.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        capturable: accepted for compatibility; step counts are always tensors.
        differentiable: must be False.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Liu et al. (2020), On the variance of the adaptive learning rate and beyond, algorithm 2.
    """

    accepts_complex = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def rule(self, group: dict[str, Any]) -> Formula:
        return _RADAM


def _sparse_adam(
    p: Expr, g: Expr, m: Expr, v: Expr, touched: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr,
    eps: Expr, sign: Expr,
) -> Rule:  # fmt: skip
    g = sign * g
    mean, square = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g * g - v)
    rate = lr * sqrt(1 - pow(beta2, step)) / (1 - pow(beta1, step))
    moved = p - rate * (mean / (sqrt(square) + eps))
    return where(touched, moved, p), where(touched, mean, m), where(touched, square, v)


_SPARSE_ADAM = Formula("sparse_adam", _sparse_adam, 11)


class SparseAdam(ElementwiseOptimizer):
    """Adam that leaves alone what the gradient does not touch: for embeddings, whose batches use few rows.

    Gradients are dense tensors here. A row (index of the first axis) takes part in a step, with its means,
    where its gradient has an entry other than 0; for vectors a row is an element.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        maximize: climb instead of descend.

    Raises:
        ValueError: ``lr`` or ``eps`` is not above 0, or a beta is not in [0, 1).

    Source: Kingma, Ba (2015), Adam: a method for stochastic optimization, algorithm 1, row by row.
    """

    not_negative = ()

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        for name, value in (("learning rate", group["lr"]), ("epsilon value", group["eps"])):
            if not float(value) > 0.0:
                raise ValueError(f"SparseAdam: Invalid {name}: {value} (must be above 0)")

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            **rates(group), "sign": sign_of(group),
        }  # fmt: skip

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        """A step of the touched rows."""
        known = [self.state_of(param, group) for param in params]
        count(COUNT, [[state["step"]] for state in known], ())
        numbers = list(scalars.values())
        rows = [
            [param, grad, state["exp_avg"], state["exp_avg_sq"], _touched(grad), state["step"], *numbers]
            for param, grad, state in zip(params, grads, known, strict=True)
        ]
        overwrite(_SPARSE_ADAM, rows, (0, 2, 3), 5)


@no_grad()
def _touched(gradient: Tensor) -> Tensor:
    """Which rows of ``gradient`` have an entry other than 0, to be broadcast against it."""
    return gradient.any(tuple(range(1, gradient.ndim)), keepdim=True) if gradient.ndim > 1 else gradient != 0
