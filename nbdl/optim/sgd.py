"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula
from nbdl.formula.functions import where
from nbdl.ops.creation import zeros
from nbdl.optim.optimizer import Optimizer, check_at_least_zero, reject_differentiable, update
from nbdl.optim.skipping import device_of_counters

# Parameter, gradient, and what is updated with the parameter.
_Row = tuple[Tensor, Tensor, tuple[Tensor]]


def _with_momentum(looks_ahead: bool) -> Callable[..., tuple[Expr, Expr]]:
    def rule(
        p: Expr, g: Expr, velocity: Expr, lr: Expr, momentum: Expr, dampening: Expr, weight_decay: Expr,
        sign: Expr,
    ) -> tuple[Expr, Expr]:  # fmt: skip
        g = sign * g + weight_decay * p
        velocity = momentum * velocity + (1 - dampening) * g
        return p - lr * (g + momentum * velocity if looks_ahead else velocity), velocity

    return rule


_PLAIN = Formula("sgd", lambda p, g, lr, weight_decay, sign: p - lr * (sign * g + weight_decay * p), 5)
_MOMENTUM = Formula("sgd_momentum", _with_momentum(looks_ahead=False), 8)
_NESTEROV = Formula("sgd_nesterov", _with_momentum(looks_ahead=True), 8)
# Where it is not known which step is a parameter's first one, its steps are counted.
_COUNTED = Formula(
    "sgd_counted",
    lambda p, g, velocity, step, lr, momentum, dampening, *rest: _with_momentum(looks_ahead=False)(
        p, g, velocity, lr, momentum, where(step > 1, dampening, 0), *rest
    ),
    9,
)

_NO_DAMPENING = np.zeros((), np.float64)


class SGD(Optimizer):
    r"""Stochastic gradient descent: p <- p - lr v with v <- momentum v + (1 - dampening) g.

    With ``nesterov`` the step is lr (g + momentum v). Without momentum v is the gradient g, to which
    ``weight_decay`` p is added first. The first step of a parameter is not dampened, as in PyTorch.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        momentum: how much of the last step is kept.
        dampening: how much of the gradient is left out of the momentum.
        weight_decay: coefficient of the L2 penalty.
        nesterov: look ahead; needs momentum and no dampening.
        maximize: climb instead of descend.
        foreach: accepted for compatibility; updates are always fused.
        differentiable: must be False.
        fused: accepted for compatibility; updates are always fused.

    Raises:
        ValueError: a hyperparameter is negative, or ``nesterov`` lacks momentum or has dampening.

    Source: Sutskever, Martens, Dahl, Hinton (2013), On the importance of initialization and momentum in deep
        learning.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.SGD([w], lr=0.1, momentum=0.9)
        >>> (w ** 2).sum().backward()
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.8000, 1.6000])
    """

    accepts_complex = True
    can_skip = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach, "differentiable": differentiable,
            "fused": fused,
        }  # fmt: skip
        self.check(defaults)
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        check_at_least_zero("SGD", "learning rate", group["lr"])
        check_at_least_zero("SGD", "momentum value", group["momentum"])
        check_at_least_zero("SGD", "weight_decay value", group["weight_decay"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: Nesterov momentum requires a momentum and zero dampening, "
                f"got momentum={group['momentum']}, dampening={group['dampening']}"
            )
        reject_differentiable("SGD", group["differentiable"])

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "momentum": group["momentum"], "dampening": group["dampening"],
            "weight_decay": group["weight_decay"], "sign": -1.0 if group["maximize"] else 1.0,
        }  # fmt: skip

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        if group["momentum"] == 0:
            update(_PLAIN, params, grads, (), [scalars["lr"], scalars["weight_decay"], scalars["sign"]])
            return
        going: list[_Row] = []
        fresh: list[_Row] = []
        counted: list[_Row] = []
        for param, grad in zip(params, grads, strict=True):
            state = self.state[param]
            buffer = state.get("momentum_buffer")
            chosen = going
            if buffer is None:
                buffer = state["momentum_buffer"] = param.detach().zeros_like()
                chosen = fresh
                if mode.skipped is not None and group["dampening"] != 0:
                    state["step"] = zeros((), dtype=np.float64, device=device_of_counters())
            (counted if "step" in state else chosen).append((param, grad, (buffer,)))
        rule = _NESTEROV if group["nesterov"] else _MOMENTUM
        for formula, rows, dampening in (
            (rule, going, scalars["dampening"]),
            (rule, fresh, _NO_DAMPENING),
            (_COUNTED, counted, scalars["dampening"]),
        ):
            if rows:
                numbers = [
                    scalars["lr"], scalars["momentum"], dampening, scalars["weight_decay"], scalars["sign"]
                ]  # fmt: skip
                parameters, gradients, buffers = zip(*rows, strict=True)
                steps = [self.state[param]["step"] for param in parameters] if formula is _COUNTED else ()
                update(formula, parameters, gradients, buffers, numbers, steps)
