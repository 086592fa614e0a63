"""Methods that came after Adam: AdaBelief, Yogi, Adan, Lion; and Adam without bias correction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, equal, maximum, pow, sign, sqrt, where
from nbdl.optim.elementwise import ElementwiseOptimizer, TwoMeans, sign_of

Rule = tuple[Expr, ...]


def _adabelief(p: Expr, g: Expr, m: Expr, v: Expr, *scalars: Expr) -> Rule:
    _, _, beta1, beta2, eps, sign, penalty, _ = scalars
    g = sign * g + penalty * p
    m = m + (1 - beta1) * (g - m)
    v = beta2 * v + (1 - beta2) * ((g - m) * (g - m)) + eps
    return _belief_step(p, m, v, scalars), m, v


def _adabelief_amsgrad(p: Expr, g: Expr, m: Expr, v: Expr, largest: Expr, *scalars: Expr) -> Rule:
    _, m, v = _adabelief(p, g, m, v, *scalars)
    largest = maximum(largest, v)
    return _belief_step(p, m, largest, scalars), m, v, largest


def _belief_step(p: Expr, m: Expr, v: Expr, scalars: tuple[Expr, ...]) -> Expr:
    step, lr, beta1, beta2, eps, _, _, decay = scalars
    root = sqrt(v / (1 - pow(beta2, step))) + eps
    return p * (1 - lr * decay) - lr / (1 - pow(beta1, step)) * (m / root)


_ADABELIEF = Formula("adabelief", _adabelief, 12)
_ADABELIEF_AMSGRAD = Formula("adabelief_amsgrad", _adabelief_amsgrad, 13)


class AdaBelief(TwoMeans):
    r"""AdaBelief: Adam scaled by how far gradients are from their mean, instead of from 0.

        m <- beta1 m + (1 - beta1) g,  s <- beta2 s + (1 - beta2) (g - m)^2 + eps
        p <- p - lr m_hat / (sqrt(s_hat) + eps)

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to s and to the denominator.
        weight_decay: how much parameters shrink, or the coefficient of the L2 penalty.
        amsgrad: divide by the largest s so far.
        decoupled_weight_decay: shrink the parameters, as :class:`AdamW`, instead of adding a penalty.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Zhuang et al. (2020), AdaBelief optimizer: adapting stepsizes by the belief in observed gradients,
        algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_var", *(("max_exp_avg_var",) if group["amsgrad"] else ()))

    def rule(self, group: dict[str, Any]) -> Formula:
        return _ADABELIEF_AMSGRAD if group["amsgrad"] else _ADABELIEF


def _yogi(
    p: Expr, g: Expr, m: Expr, v: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr, eps: Expr,
    direction: Expr, penalty: Expr, decay: Expr,
) -> Rule:  # fmt: skip
    g = direction * g + penalty * p
    m, v = m + (1 - beta1) * (g - m), v - (1 - beta2) * (sign(v - g * g) * (g * g))
    root = sqrt(v / (1 - pow(beta2, step))) + eps
    return p * (1 - lr * decay) - lr / (1 - pow(beta1, step)) * (m / root), m, v


_YOGI = Formula("yogi", _yogi, 12)


class Yogi(TwoMeans):
    r"""Yogi: Adam whose mean of squares changes by at most (1 - beta2) g^2 a step.

        v <- v - (1 - beta2) sign(v - g^2) g^2

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        initial_accumulator: both means before the first step.
        weight_decay: coefficient of the L2 penalty, or how much parameters shrink.
        decoupled_weight_decay: shrink the parameters, as :class:`AdamW`, instead of adding a penalty.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Zaheer, Reddi, Sachan, Kale, Kumar (2018), Adaptive methods for nonconvex optimization,
        algorithm 2; both means are corrected for their start, as Adam's.
    """

    not_negative = ("lr", "eps", "weight_decay", "initial_accumulator")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        weight_decay: float = 0,
        *,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "initial_accumulator": initial_accumulator,
            "weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def initial_state(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        return param.detach().full_like(group["initial_accumulator"])

    def rule(self, group: dict[str, Any]) -> Formula:
        return _YOGI


def _uncorrected_adam(
    p: Expr, g: Expr, m: Expr, v: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr, eps: Expr,
    sign: Expr, penalty: Expr, decay: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    m, v = m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * (g * g)
    return p * (1 - lr * decay) - lr * (m / (sqrt(v) + eps)), m, v


_UNCORRECTED_ADAM = Formula("uncorrected_adam", _uncorrected_adam, 12)


class UncorrectedAdam(TwoMeans):
    """Adam without the correction of its means for their start at 0: p <- p - lr m / (sqrt(v) + eps).

    The first steps are too long, by up to (1 - beta1) / sqrt(1 - beta2); see :class:`Adam` for the remedy.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, or how much parameters shrink.
        decoupled_weight_decay: shrink the parameters, as :class:`AdamW`, instead of adding a penalty.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Kingma, Ba (2015), Adam: a method for stochastic optimization, section 6.4.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def rule(self, group: dict[str, Any]) -> Formula:
        return _UNCORRECTED_ADAM


def _adan(
    p: Expr, g: Expr, m: Expr, v: Expr, n: Expr, last: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr,
    beta3: Expr, eps: Expr, direction: Expr, proximal: Expr, decay: Expr,
) -> Rule:  # fmt: skip
    g = direction * g
    change = where(equal(step, 1), 0, g - last)
    look_ahead = g + beta2 * change
    m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (change - v)
    n = beta3 * n + (1 - beta3) * (look_ahead * look_ahead)
    root = sqrt(n / (1 - pow(beta3, step))) + eps
    move = lr / (1 - pow(beta1, step)) * m + lr * beta2 / (1 - pow(beta2, step)) * v
    return (p * (1 - lr * decay) - move / root) / (1 + lr * proximal), m, v, n, g


_ADAN = Formula("adan", _adan, 15)


class Adan(ElementwiseOptimizer):
    r"""Adan: Adam with Nesterov's momentum, from the differences of consecutive gradients.

        m, v, n: running means of g, of d = g - g_before, and of (g + beta2 d)^2
        p <- (p - lr (m_hat + beta2 v_hat) / (sqrt(n_hat) + eps)) / (1 + lr weight_decay)

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the three running means (1 minus the betas of the paper).
        eps: added to the denominator.
        weight_decay: how much parameters shrink.
        no_prox: shrink before the step, as :class:`AdamW`, instead of after it.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Xie, Zhou, Li, Lin, Yan (2022), Adan: adaptive Nesterov momentum algorithm, algorithm 1, with the
        means corrected for their start as in the authors' program.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0,
        no_prox: bool = False,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "no_prox": no_prox,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2, beta3 = group["betas"]
        weight_decay, no_prox = group["weight_decay"], group["no_prox"]
        return {
            "lr": group["lr"], "beta1": beta1, "beta2": beta2, "beta3": beta3, "eps": group["eps"],
            "direction": sign_of(group), "proximal": 0.0 if no_prox else weight_decay,
            "decay": weight_decay if no_prox else 0.0,
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _ADAN


def _lion(
    p: Expr, g: Expr, m: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr, decay: Expr, direction: Expr
) -> Rule:
    g = direction * g
    move = sign(beta1 * m + (1 - beta1) * g)
    return p * (1 - lr * decay) - lr * move, beta2 * m + (1 - beta2) * g


_LION = Formula("lion", _lion, 9)


class Lion(ElementwiseOptimizer):
    r"""Lion: steps of one length in every coordinate, along the sign of the momentum.

        p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p),  m <- beta2 m + (1 - beta2) g

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate; a tenth of Adam's is usual.
        betas: weight of the momentum in the step, and its decay.
        weight_decay: how much parameters shrink, relative to the learning rate.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Chen et al. (2023), Symbolic discovery of optimization algorithms, algorithm 2.
    """

    not_negative = ("lr", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ):
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        return {
            "lr": group["lr"], "beta1": beta1, "beta2": beta2, "decay": group["weight_decay"],
            "direction": sign_of(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _LION
