"""Methods that divide by a history of squared gradients: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, sqrt
from nbdl.optim.elementwise import ElementwiseOptimizer, sign_of

Rule = tuple[Expr, ...]


def _epsilons(group: dict[str, Any]) -> dict[str, float]:
    """Epsilon as it stands inside and outside the root; the other is 0."""
    eps, inside = group["eps"], group["eps_inside_root"]
    return {"eps_inside": eps if inside else 0.0, "eps_outside": 0.0 if inside else eps}


def _adagrad(
    p: Expr, g: Expr, total: Expr, step: Expr, lr: Expr, lr_decay: Expr, penalty: Expr, sign: Expr,
    eps_inside: Expr, eps_outside: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    total = total + g * g
    rate = lr / (1 + (step - 1) * lr_decay)
    return p - rate * (g / (sqrt(total + eps_inside) + eps_outside)), total


_ADAGRAD = Formula("adagrad", _adagrad, 10)


class Adagrad(ElementwiseOptimizer):
    r"""Adagrad: steps shrink with the root of the sum of all squared gradients.

        s <- s + g^2,  p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        lr_decay: how fast the learning rate falls.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        initial_accumulator_value: s before the first step.
        eps: added to the denominator.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        differentiable: must be False.
        fused: accepted for compatibility; updates are always fused.
        eps_inside_root: divide by sqrt(s + eps), as Duchi et al. do, instead of sqrt(s) + eps.

    Raises:
        ValueError: a hyperparameter is negative.

    Source: Duchi, Hazan, Singer (2011), Adaptive subgradient methods for online learning, figure 1.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.Adagrad([w], lr=0.1)
        >>> (w ** 2).sum().backward()
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.9000, 1.9000])
    """

    accepts_complex = True

    not_negative = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        eps_inside_root: bool = False,
    ):
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "fused": fused,
            "eps_inside_root": eps_inside_root,
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:  # as in PyTorch, the state is there before the first step
            for param in group["params"]:
                self.state_of(param, group)

    def initial_state(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        return self.filled(param, self.defaults["initial_accumulator_value"])

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "lr_decay": group["lr_decay"], "penalty": group["weight_decay"],
            "sign": sign_of(group), **_epsilons(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _ADAGRAD


def _adadelta(
    p: Expr, g: Expr, squares: Expr, steps: Expr, step: Expr, lr: Expr, rho: Expr, eps: Expr, penalty: Expr,
    sign: Expr,
) -> Rule:  # fmt: skip
    g = sign * g + penalty * p
    squares = rho * squares + (1 - rho) * (g * g)
    delta = sqrt(steps + eps) / sqrt(squares + eps) * g
    return p - lr * delta, squares, rho * steps + (1 - rho) * (delta * delta)


_ADADELTA = Formula("adadelta", _adadelta, 10)


class Adadelta(ElementwiseOptimizer):
    r"""Adadelta: steps of the size that recent steps had, in units of recent gradients.

        v <- rho v + (1 - rho) g^2,  d = sqrt(u + eps) / sqrt(v + eps) g
        u <- rho u + (1 - rho) d^2,  p <- p - lr d

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: factor of the step.
        rho: decay of the means of squares.
        eps: added under the roots.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        foreach: accepted for compatibility; updates are always fused.
        capturable: accepted for compatibility; step counts are always tensors.
        maximize: climb instead of descend.
        differentiable: must be False.

    Raises:
        ValueError: a hyperparameter is negative, or rho is above 1.

    Source: Zeiler (2012), ADADELTA: an adaptive learning rate method, algorithm 1.
    """

    accepts_complex = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        defaults = {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if not 0.0 <= group["rho"] <= 1.0:
            raise ValueError(f"Adadelta: Invalid rho value: {group['rho']} (must be in [0, 1])")

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "rho": group["rho"], "eps": group["eps"], "penalty": group["weight_decay"],
            "sign": sign_of(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _ADADELTA


def _rmsprop(centered: bool, heavy: bool) -> Formula:
    """The rule that subtracts the squared mean of the gradient, and that has momentum, or not."""

    def rule(p: Expr, g: Expr, squares: Expr, *operands: Expr) -> Rule:
        *state, _, lr, alpha, momentum, penalty, sign, eps_inside, eps_outside = operands
        g = sign * g + penalty * p
        squares = alpha * squares + (1 - alpha) * (g * g)
        spread, new_state = squares, [squares]
        if centered:
            mean = state.pop(0)
            mean = mean + (1 - alpha) * (g - mean)
            spread = squares - mean * mean
            new_state.append(mean)
        move = g / (sqrt(spread + eps_inside) + eps_outside)
        if heavy:
            move = momentum * state.pop(0) + move
            new_state.append(move)
        return (p - lr * move, *new_state)

    name = "rmsprop" + "_centered" * centered + "_momentum" * heavy
    return Formula(name, rule, 11 + centered + heavy)


_RMSPROP = {(c, m): _rmsprop(c, m) for c in (False, True) for m in (False, True)}


class RMSprop(ElementwiseOptimizer):
    r"""RMSprop: steps along the gradient, divided by the root of the mean squared gradient.

        v <- alpha v + (1 - alpha) g^2,  p <- p - lr g / (sqrt(v) + eps)

    The weight of a gradient k steps ago in v is alpha^k (1 - alpha). With ``centered`` the squared mean of
    the gradient is subtracted from v; with ``momentum`` the steps are added up: b <- momentum b + step.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        alpha: decay of the mean of squares.
        eps: added to the denominator.
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        momentum: how much of the last step is kept.
        centered: divide by an estimate of the standard deviation.
        capturable: accepted for compatibility; step counts are always tensors.
        foreach: accepted for compatibility; updates are always fused.
        maximize: climb instead of descend.
        differentiable: must be False.
        eps_inside_root: divide by sqrt(v + eps) instead of sqrt(v) + eps.

    Raises:
        ValueError: a hyperparameter is negative.

    Source: Hinton (2012), Neural networks for machine learning, lecture 6e; centered: Graves (2013),
        Generating sequences with recurrent neural networks, equations 38-45.
    """

    accepts_complex = True

    not_negative = ("lr", "eps", "momentum", "weight_decay", "alpha")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        eps_inside_root: bool = False,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "eps_inside_root": eps_inside_root,
        }  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = ["square_avg"]
        if group["centered"]:
            names.append("grad_avg")
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        return tuple(names)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "alpha": group["alpha"], "momentum": group["momentum"],
            "penalty": group["weight_decay"], "sign": sign_of(group), **_epsilons(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _RMSPROP[bool(group["centered"]), group["momentum"] > 0]
