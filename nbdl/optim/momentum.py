"""Momentum in its three forms, and Nesterov's gradient at the look-ahead point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.modes import enable_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula
from nbdl.optim.checks import number, one_of
from nbdl.optim.elementwise import ElementwiseOptimizer, overwrite, sign_of
from nbdl.optim.optimizer import Optimizer
from nbdl.optim.wrapper import WrappingOptimizer

_FORMS: dict[str, Callable[[Expr, Expr, Expr, Expr], tuple[Expr, Expr]]] = {
    # (velocity, gradient, beta, lr) -> the new velocity and the step
    "mean": lambda v, g, beta, lr: (beta * v + (1 - beta) * g, -lr * (beta * v + (1 - beta) * g)),
    "velocity": lambda v, g, beta, lr: (beta * v - lr * g, beta * v - lr * g),
    "sum": lambda v, g, beta, lr: (beta * v + g, -lr * (beta * v + g)),
}


def _rule(form: str) -> Formula:
    def step(
        p: Expr, g: Expr, v: Expr, step: Expr, lr: Expr, beta: Expr, penalty: Expr, sign: Expr
    ) -> tuple[Expr, Expr]:
        v, move = _FORMS[form](v, sign * g + penalty * p, beta, lr)
        return p + move, v

    return Formula(f"momentum_{form}", step, 8)


_RULES = {form: _rule(form) for form in _FORMS}


class Momentum(ElementwiseOptimizer):
    r"""Gradient descent with momentum, in the form of one's textbook.

        "mean":      m <- beta m + (1 - beta) g,  p <- p - lr m
        "velocity":  v <- beta v - lr g,          p <- p + v
        "sum":       v <- beta v + g,             p <- p - lr v

    At a constant rate the last two are the same, and the first takes steps that are (1 - beta) times as long:
    v of "sum" is a discounted sum of scale 1 / (1 - beta), not a mean. When the rate changes, "velocity"
    keeps the speed that it has.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        momentum: beta.
        form: "mean", "velocity" or "sum" (which is that of :class:`SGD`).
        weight_decay: coefficient of the L2 penalty, added to the gradient.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or the form is unknown.

    Source: Polyak (1964), Some methods of speeding up the convergence of iteration methods.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.Momentum([w], lr=0.1, momentum=0.5, form="mean")
        >>> (w ** 2).sum().backward()
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.9000, 1.8000])
    """

    not_negative = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        form: str = "sum",
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "form": form, "weight_decay": weight_decay, "maximize": maximize
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        one_of("Momentum", "form", group["form"], _RULES)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "momentum": group["momentum"], "penalty": group["weight_decay"],
            "sign": sign_of(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _RULES[group["form"]]


# The iterate is kept aside while the parameter moves on to the look-ahead point.
_LOOK_AHEAD = Formula("look_ahead", lambda p, before, beta: (p, p + beta * (p - before)), 3)


class Nesterov(WrappingOptimizer):
    r"""Nesterov's momentum around any optimizer: the gradient is taken at the look-ahead point.

        y = x_t + momentum (x_t - x_{t-1})
        x_{t+1} = the step of the base optimizer from y, with the gradient at y

    With :class:`SGD` as base this is Nesterov's method as it was written; with :class:`Adagrad`,
    :class:`RMSprop` or :class:`Adam` it is Nesterov's momentum on the adaptive ones.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        base_optimizer: the class of the optimizer that takes the step.
        momentum: how far to look ahead, relative to the last step.
        **kwargs: hyperparameters of the base optimizer.

    Raises:
        ValueError: the momentum is not in [0, 1], or the base optimizer refuses its hyperparameters.

    Source: Nesterov (1983), A method of solving a convex programming problem with convergence rate O(1/k^2);
        with RMSprop: Goodfellow, Bengio, Courville (2016), Deep Learning, algorithm 8.6.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.Nesterov([w], nbdl.optim.SGD, momentum=0.8, lr=0.1)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (w ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item()
        5.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Callable[..., Optimizer],
        momentum: float = 0.9,
        **kwargs: Any,
    ):
        if not 0.0 <= number("Nesterov", "momentum", momentum) <= 1.0:
            raise ValueError(f"Nesterov: momentum must be in [0, 1], got {momentum}")
        super().__init__(params, base_optimizer, {"look_ahead": momentum}, kwargs)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {"look_ahead": group["look_ahead"]}

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Look ahead, evaluate there, step.

        Raises:
            RuntimeError: there is no closure.
        """
        if closure is None:
            raise RuntimeError("Nesterov: step needs a closure, to evaluate at the look-ahead point")
        for index, group in enumerate(self.param_groups):
            (beta,) = self.scalars(index, group).values()
            rows: list[Any] = []
            for param in group["params"]:
                state = self.state[param]
                if "previous" not in state:
                    state["previous"] = param.detach().clone()
                rows.append([param, state["previous"], beta])
            overwrite(_LOOK_AHEAD, rows, (1, 0), 2)
        with enable_grad():
            loss = closure()
        self.base_optimizer.step()
        return loss
