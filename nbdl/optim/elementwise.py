"""What optimizers are made of: one formula for each parameter, or operations on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from nbdl.autograd.modes import mode, no_grad
from nbdl.autograd.tape import apply, mark_changed
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.formula import Formula
from nbdl.ops.creation import full
from nbdl.ops.pointwise import Pointwise
from nbdl.optim.optimizer import (
    COUNT,
    Optimizer,
    check_at_least_zero,
    reject_differentiable,
    update,
)
from nbdl.optim.skipping import device_of_counters, overwrite_arrays
from nbdl.optim.vectors import real_view

_DESCRIPTIONS = {"lr": "learning rate", "eps": "epsilon value"}


class CheckedOptimizer(Optimizer):
    """An optimizer that checks its defaults and its groups alike.

    Attributes:
        not_negative: the hyperparameters that must be 0 or more.
    """

    not_negative: ClassVar[tuple[str, ...]] = ("lr", "eps", "weight_decay")

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.check(defaults)
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        """Names in ``not_negative`` are 0 or more, betas in [0, 1); steps are not differentiable."""
        label = type(self).__name__
        rate = group["lr"]
        if isinstance(rate, Tensor) and rate.numel() != 1:
            raise ValueError(f"{label}: Tensor lr must be 1-element, got shape {tuple(rate.shape)}")
        for name in self.not_negative:
            check_at_least_zero(label, _DESCRIPTIONS.get(name, f"{name} value"), group[name])
        for k, beta in enumerate(group.get("betas", ())):
            if not 0.0 <= float(beta) < 1.0:
                raise ValueError(f"{label}: Invalid beta parameter at index {k}: {beta} (must be in [0, 1))")
        reject_differentiable(label, group.get("differentiable", False))


class ElementwiseOptimizer(CheckedOptimizer):
    """The base of optimizers that update each parameter by one formula.

    The operands of the formula are parameter, gradient, the state named by :meth:`state_names`, the counters,
    and the hyperparameters in the order of :meth:`Optimizer.hyperparameters`. Its outputs are the parameter
    and the state.

    Attributes:
        counting: the new counters, a formula of the counters and the hyperparameters, run before the step;
            None if the only one is ``step``, which is increased by 1.
    """

    can_skip = True
    counting: ClassVar[Formula | None] = None

    def rule(self, group: dict[str, Any]) -> Formula:
        """The formula of a step."""
        raise NotImplementedError(f"{type(self).__name__} defines no rule")

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """What is remembered of a parameter, in the order of the formula."""
        raise NotImplementedError(f"{type(self).__name__} defines no state_names")

    def initial_state(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        """The state called ``name`` before the first step: zeros, where a subclass says nothing else."""
        return param.detach().zeros_like()

    @staticmethod
    def filled(param: Tensor, value: float) -> Tensor:
        """A state with this value everywhere, in both parts of complex numbers."""
        return param.detach().full_like(complex(value, value) if param.is_complex() else value)

    def initial_counter(self, name: str, group: dict[str, Any]) -> float:
        """The counter called ``name`` before the first step."""
        return 0.0

    def state_of(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The state of ``param``, complete."""
        state = self.state[param]
        for name in self.counters:
            if name not in state:
                state[name] = counter(self.initial_counter(name, group))
        for name in self.state_names(group):
            if name not in state:
                state[name] = self.initial_state(name, param, group)
        return state

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        """One formula for all parameters."""
        names, numbers = self.state_names(group), list(scalars.values())
        known = [self.state_of(param, group) for param in params]
        states = [[state[name] for name in names] for state in known]
        if self.counting is None:
            steps = [state["step"] for state in known]
            update(self.rule(group), params, grads, states, numbers, steps)
            return
        counts = [[state[name] for name in self.counters] for state in known]
        count(self.counting, counts, numbers)
        rows = [
            [param, grad, *state, *counters, *numbers]
            for param, grad, state, counters in zip(params, grads, states, counts, strict=True)
        ]
        overwrite(self.rule(group), rows, (0, *range(2, 2 + len(names))), 2 + len(names))


class TwoMeans(ElementwiseOptimizer):
    """What the relatives of Adam share: a mean of gradients and one of their squares."""

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            **rates(group), "sign": sign_of(group),
            **decays(group, group["decoupled_weight_decay"]),
        }  # fmt: skip


def counter(value: float) -> Tensor:
    """A 0-d float64 tensor where step counts are: on the host, as a rule."""
    return full((), value, dtype=np.float64, device=device_of_counters())


def sign_of(group: dict[str, Any]) -> float:
    """What gradients are multiplied by: -1 to climb."""
    return -1.0 if group["maximize"] else 1.0


def rates(group: dict[str, Any]) -> dict[str, float]:
    """What all relatives of Adam read: the learning rate, the decays of two means, and epsilon."""
    beta1, beta2 = group["betas"]
    return {"lr": group["lr"], "beta1": beta1, "beta2": beta2, "eps": group["eps"]}


def decays(group: dict[str, Any], decoupled: bool) -> dict[str, float]:
    """The weight decay as coefficient of an L2 penalty, or decoupled from the gradient; the other is 0."""
    weight_decay = group["weight_decay"]
    return {"penalty": 0.0 if decoupled else weight_decay, "decay": weight_decay if decoupled else 0.0}


def overwrite(
    rule: Formula,
    rows: Sequence[Sequence[Tensor | np.ndarray]],
    positions: tuple[int, ...],
    n_arrays: int,
) -> None:
    """Run ``rule`` on every row of operands; its outputs overwrite the operands at ``positions``.

    Args:
        rule: the formula.
        rows: operands, the parameter first, which broadcast to those that are overwritten.
        positions: which operand each output overwrites. An output that is an operand unchanged must come
            before the one that overwrites this operand.
        n_arrays: how many operands there are before the scalars, which do not decide the dtype.
    """
    _execute(rule, rows, positions, n_arrays)
    mark_changed([row[0] for row in rows])  # type: ignore[misc]  # parameters are tensors


def count(rule: Formula, rows: Sequence[Sequence[Tensor]], scalars: Sequence[np.ndarray]) -> None:
    """Replace every row of counters by ``rule`` of the counters and the hyperparameters."""
    n_counters = len(rule.outputs)
    _execute(rule, [[*row, *scalars] for row in rows], tuple(range(n_counters)), n_counters)


def _execute(
    rule: Formula, rows: Sequence[Sequence[Tensor | np.ndarray]], positions: tuple[int, ...], n_arrays: int
) -> None:
    backend = mode.backend or registry.cpu or registry.select()
    arrays = [[entry.array if isinstance(entry, Tensor) else entry for entry in row] for row in rows]
    arrays = [list(map(real_view, row)) if row[0].dtype.kind == "c" else row for row in arrays]
    overwrite_arrays(backend, Pointwise.of(rule, (1 << rule.arity) - (1 << n_arrays)), arrays, positions)


def compute(rule: Formula, tensors: Sequence[Tensor], scalars: Sequence[Tensor | np.ndarray]) -> Any:
    """``rule`` of tensors and of scalars, which do not decide the dtype, as new tensors."""
    operands = [*tensors, *[entry if isinstance(entry, Tensor) else Tensor(entry) for entry in scalars]]
    return apply(Pointwise.of(rule, (1 << rule.arity) - (1 << len(tensors))), *operands)


class ParameterwiseOptimizer(CheckedOptimizer):
    """The base of optimizers that need norms or products of whole parameters, and so take them one by one.

    Steps are counted in ``state["step"]`` unless ``counters`` is empty.
    """

    def update_parameter(
        self,
        group: dict[str, Any],
        param: Tensor,
        grad: Tensor,
        state: dict[str, Any],
        scalars: dict[str, np.ndarray],
    ) -> None:
        """One step of ``param``, in place, from its gradient and its state; nothing is recorded."""
        raise NotImplementedError(f"{type(self).__name__} defines no update_parameter")

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        """The step counts first, then every parameter on its own."""
        if self.counters:
            for param in params:
                self.state[param].setdefault("step", counter(0.0))
            count(COUNT, [[self.state[param]["step"]] for param in params], ())
        with no_grad():
            for param, grad in zip(params, grads, strict=True):
                self.update_parameter(group, param, grad, self.state[param], scalars)


def zeros_state(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """The entry ``name`` of a parameter's state, zeros of the shape of ``like`` before the first step."""
    if name not in state:
        state[name] = like.detach().zeros_like()
    return state[name]
