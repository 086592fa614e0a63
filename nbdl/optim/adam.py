"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, maximum, pow, sqrt
from nbdl.ops.creation import zeros
from nbdl.optim.elementwise import CheckedOptimizer, decays, sign_of
from nbdl.optim.optimizer import update
from nbdl.optim.skipping import device_of_counters

Rule = tuple[Expr, ...]


def _moments(p: Expr, g: Expr, m: Expr, v: Expr, scalars: tuple[Expr, ...]) -> Rule:
    """The parameter after decoupled decay, and the running means of gradient and squared gradient."""
    _, lr, beta1, beta2, _, penalty, decay, sign = scalars
    g = sign * g + penalty * p
    return p * (1 - lr * decay), m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * (g * g)


def _stepped(p: Expr, m: Expr, v: Expr, scalars: tuple[Expr, ...]) -> Expr:
    """The parameter after a step along the means, corrected for their start at 0."""
    step, lr, beta1, beta2, eps, *_ = scalars
    root = 1 / sqrt(1 - pow(beta2, step))
    return p - lr / (1 - pow(beta1, step)) * (m / (sqrt(v) * root + eps))


def _adam(p: Expr, g: Expr, m: Expr, v: Expr, *scalars: Expr) -> Rule:
    p, m, v = _moments(p, g, m, v, scalars)
    return _stepped(p, m, v, scalars), m, v


def _amsgrad(p: Expr, g: Expr, m: Expr, v: Expr, largest: Expr, *scalars: Expr) -> Rule:
    p, m, v = _moments(p, g, m, v, scalars)
    largest = maximum(largest, v)
    return _stepped(p, m, largest, scalars), m, v, largest


_ADAM = Formula("adam", _adam, 12)
_AMSGRAD = Formula("adam_amsgrad", _amsgrad, 13)
# By whether it is amsgrad: the formula, and the names of the state in its order.
_RULES = (
    (_ADAM, ("exp_avg", "exp_avg_sq")),
    (_AMSGRAD, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
)


class Adam(CheckedOptimizer):
    r"""Adam: steps along the mean gradient, scaled by the root of the mean squared gradient.

        m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
        p <- p - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        amsgrad: divide by the largest v so far (Reddi, Kale, Kumar 2018).
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        capturable: accepted for compatibility; step counts are always tensors.
        differentiable: must be False.
        fused: accepted for compatibility; updates are always fused.
        decoupled_weight_decay: shrink the parameter instead, as :class:`AdamW`.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Kingma, Ba (2015), Adam: a method for stochastic optimization, algorithm 1.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.Adam([w], lr=0.1)
        >>> (w ** 2).sum().backward()
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.9000, 1.9000])
    """

    accepts_complex = True
    can_skip = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        """In the order of the formula."""
        beta1, beta2 = group["betas"]
        return {
            "lr": group["lr"], "beta1": beta1, "beta2": beta2, "eps": group["eps"],
            **decays(group, group["decoupled_weight_decay"]), "sign": sign_of(group),
        }  # fmt: skip

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        rule, names = _RULES[bool(group["amsgrad"])]
        steps, states, of_rule = [], [], itemgetter(*names)
        for param in params:
            state = self.state[param]
            if len(state) <= len(names):
                _start(state, names, param)
            steps.append(state["step"])
            states.append(of_rule(state))
        update(rule, params, grads, states, list(scalars.values()), steps)


def _start(state: dict[str, Any], names: tuple[str, ...], param: Tensor) -> None:
    """Adds what is missing in the state of ``param``: zeros."""
    if "step" not in state:
        state["step"] = zeros((), dtype=np.float64, device=device_of_counters())
    for name in names:
        if name not in state:
            state[name] = param.detach().zeros_like()


class AdamW(Adam):
    """Adam with decoupled weight decay: p <- p (1 - lr weight_decay) before the step.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: how much the parameters shrink, relative to the learning rate.
        amsgrad: divide by the largest v so far.
        maximize: climb instead of descend.
        foreach: accepted for compatibility; updates are always fused.
        capturable: accepted for compatibility; step counts are always tensors.
        differentiable: must be False.
        fused: accepted for compatibility; updates are always fused.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Loshchilov, Hutter (2019), Decoupled weight decay regularization, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad,
            foreach=foreach, maximize=maximize, capturable=capturable, differentiable=differentiable,
            fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
