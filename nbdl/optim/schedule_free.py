"""Schedule-free learning: averaging in place of a schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, maximum, minimum, pow, sqrt, where
from nbdl.optim.elementwise import ElementwiseOptimizer, overwrite, sign_of

Rule = tuple[Expr, ...]


def _rate(step: Expr, lr: Expr, warmup_steps: Expr) -> Expr:
    """The learning rate, which rises linearly during the warm-up."""
    return lr * minimum(1, step / maximum(warmup_steps, 1))


def _counts(step: Expr, weight_sum: Expr, lr_max: Expr, *scalars: Expr) -> Rule:
    """Step count, the sum of the weights of all iterates, and the largest rate so far."""
    lr, _, warmup_steps, r, weight_lr_power, *_ = scalars
    step = step + 1
    lr_max = maximum(lr_max, _rate(step, lr, warmup_steps))
    return step, weight_sum + pow(step, r) * pow(lr_max, weight_lr_power), lr_max


def _moved(y: Expr, z: Expr, move: Expr, counters: Rule, scalars: Rule) -> Rule:
    """y and z after a step of z along -move and the new average."""
    (step, weight_sum, lr_max), (lr, beta, warmup_steps, r, weight_lr_power, *_) = counters, scalars
    rate = _rate(step, lr, warmup_steps)
    weight = where(weight_sum > 0, pow(step, r) * pow(lr_max, weight_lr_power) / weight_sum, 0)
    return y + weight * (z - y) + rate * (beta * (1 - weight) - 1) * move, z - rate * move


def _sgd(y: Expr, g: Expr, z: Expr, *numbers: Expr) -> Rule:
    counters, scalars = numbers[:3], numbers[3:]
    *_, penalty, sign = scalars
    return _moved(y, z, sign * g + penalty * y, counters, scalars)


def _adamw(y: Expr, g: Expr, z: Expr, v: Expr, *numbers: Expr) -> Rule:
    counters, scalars = numbers[:3], numbers[3:]
    *_, penalty, sign, beta2, eps = scalars
    v = beta2 * v + (1 - beta2) * (g * g)
    direction = sign * g / (sqrt(v / (1 - pow(beta2, counters[0]))) + eps)
    return (*_moved(y, z, direction + penalty * y, counters, scalars), v)


_SGD = Formula("sgd_schedule_free", _sgd, 13)
_SGD_COUNTS = Formula("sgd_schedule_free_counts", _counts, 10)
_ADAMW = Formula("adamw_schedule_free", _adamw, 16)
_ADAMW_COUNTS = Formula("adamw_schedule_free_counts", _counts, 12)
# y = (1 - beta) z + beta x
_TO_AVERAGE = Formula("to_average", lambda y, z, beta: y + (1 - 1 / beta) * (z - y), 3)
_TO_TRAINING = Formula("to_training", lambda x, z, beta: x + (1 - beta) * (z - x), 3)


class _ScheduleFree(ElementwiseOptimizer):
    """What both methods share: parameters are y while training, and their average x for evaluation."""

    counters = ("step", "weight_sum", "lr_max")

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        super().__init__(params, {**defaults, "train_mode": True})

    def averaging(self, group: dict[str, Any]) -> float:
        """The weight of x in y."""
        raise NotImplementedError(f"{type(self).__name__} defines no averaging")

    def initial_state(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        return param.detach().clone() if name == "z" else super().initial_state(name, param, group)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "averaging": self.averaging(group), "warmup_steps": group["warmup_steps"],
            "r": group["r"], "weight_lr_power": group["weight_lr_power"],
            "penalty": group["weight_decay"], "sign": sign_of(group),
        }  # fmt: skip

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step from y.

        Raises:
            RuntimeError: the parameters are in the form for evaluation.
        """
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                f"{type(self).__name__}: step needs the parameters in the form for training; call "
                "optimizer.train() before the training loop and optimizer.eval() before evaluation"
            )
        return super().take_step(closure)

    def train(self) -> None:
        """Put the parameters into the form for training, y."""
        self._switch(True, _TO_TRAINING)

    def eval(self) -> None:
        """Put the parameters into the form for evaluation, the average x."""
        self._switch(False, _TO_AVERAGE)

    def _switch(self, train_mode: bool, rule: Formula) -> None:
        for index, group in enumerate(self.param_groups):
            if group["train_mode"] == train_mode:
                continue
            group["train_mode"] = train_mode
            beta = self.scalars(index, group)["averaging"]
            rows = [[p, self.state[p]["z"], beta] for p in group["params"] if "z" in self.state[p]]
            if rows:
                overwrite(rule, rows, (0,), 2)


class SGDScheduleFree(_ScheduleFree):
    r"""Schedule-free SGD: gradients at a point between the iterate z and the average x of all iterates.

        y = (1 - momentum) z + momentum x,  z <- z - lr g(y),  x <- (1 - c) x + c z

    c is the weight of z in a mean with weights t^r lr_max^weight_lr_power. While training the parameters
    are y; call :meth:`eval` to get x, before a model is evaluated or saved, and :meth:`train` to go on.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        momentum: the weight of x in y.
        weight_decay: coefficient of the L2 penalty, at y.
        warmup_steps: steps during which the rate rises linearly.
        r: power of the step count in the weights.
        weight_lr_power: power of the learning rate in the weights.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or the momentum is not in (0, 1).

    Source: Defazio et al. (2024), The road less scheduled, equations 3-5 and section 4.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.SGDScheduleFree([w], lr=0.2)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     (w ** 2).sum().backward()
        ...     optimizer.step()
        >>> optimizer.eval()
        >>> bool((w.abs() < 0.01).all())
        True
    """

    counting = _SGD_COUNTS
    not_negative = ("lr", "weight_decay", "warmup_steps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "warmup_steps": warmup_steps,
            "r": r, "weight_lr_power": weight_lr_power, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if not 0.0 < group["momentum"] < 1.0:
            raise ValueError(f"SGDScheduleFree: momentum must be in (0, 1), got {group['momentum']}")

    def averaging(self, group: dict[str, Any]) -> float:
        return group["momentum"]

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("z",)

    def rule(self, group: dict[str, Any]) -> Formula:
        return _SGD


class AdamWScheduleFree(_ScheduleFree):
    r"""Schedule-free AdamW: as :class:`SGDScheduleFree`, with steps scaled as Adam's; its momentum is beta1.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: the weight of the average, and the decay of the mean of squared gradients.
        eps: added to the denominator.
        weight_decay: how much parameters shrink, at y.
        warmup_steps: steps during which the rate rises linearly.
        r: power of the step count in the weights.
        weight_lr_power: power of the learning rate in the weights.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, a beta is not in [0, 1), or the first is 0.

    Source: Defazio et al. (2024), The road less scheduled, algorithm 1.
    """

    counting = _ADAMW_COUNTS
    not_negative = ("lr", "eps", "weight_decay", "warmup_steps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if not group["betas"][0] > 0.0:
            raise ValueError(f"AdamWScheduleFree: the first beta must be above 0, got {group['betas'][0]}")

    def averaging(self, group: dict[str, Any]) -> float:
        return group["betas"][0]

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("z", "exp_avg_sq")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {**super().hyperparameters(group), "beta2": group["betas"][1], "eps": group["eps"]}

    def rule(self, group: dict[str, Any]) -> Formula:
        return _ADAMW
