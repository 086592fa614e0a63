"""Averages of the iterates: stochastic weight averaging and exponential moving averages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula
from nbdl.nn.batch_normalization import _BatchNorm
from nbdl.nn.module import Module
from nbdl.ops.creation import tensor
from nbdl.optim.elementwise import overwrite
from nbdl.optim.lr_scheduler.base import Schedule, one_per_group
from nbdl.optim.optimizer import Optimizer

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
    "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip

AverageFunction = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverageFunction = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def _mixed(average: Expr, value: Expr, weight: Expr) -> Expr:
    return average + weight * (value - average)


_MIXED = Formula("average", _mixed, 3)


def _mix(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """Move ``averages`` towards ``values``, in place; what is no float is rounded down, as a cast does."""
    scalar = np.array(weight)
    rows: list[Any] = [[a, v, scalar] for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
    if rows:
        overwrite(_MIXED, rows, (0,), 2)
    for average, value in zip(averages, values, strict=True):
        if not average.is_floating_point():
            average.copy_(average * (1 - weight) + value * weight)


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverageFunction:
    """The exponential moving average of lists of tensors: a <- decay a + (1 - decay) p.

    Raises:
        ValueError: the decay is not in [0, 1].
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], _: Any) -> None:
        _mix(ema_param_list, current_param_list, 1 - decay)

    return ema_update


def get_swa_multi_avg_fn() -> MultiAverageFunction:
    """The plain mean of lists of tensors: a <- a + (p - a) / (n + 1)."""

    @no_grad()
    def swa_update(
        averaged_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], num_averaged: Any
    ) -> None:
        _mix(averaged_param_list, current_param_list, 1 / (float(num_averaged) + 1))

    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> AverageFunction:
    """The exponential moving average of a tensor: decay a + (1 - decay) p.

    Raises:
        ValueError: the decay is not in [0, 1].
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> AverageFunction:
    """The plain mean of a tensor: a + (p - a) / (n + 1)."""

    @no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's over time.

    Args:
        model: the model that is trained.
        device: where the copy lives; None: beside the model.
        avg_fn: ``avg_fn(average, parameter, n_averaged)``, the new average; default: the plain mean.
        multi_avg_fn: ``multi_avg_fn(averages, parameters, n_averaged)``, in place, for all at once.
        use_buffers: average the buffers too, instead of copying them.

    Attributes:
        module: the copy.
        n_averaged: how often parameters were averaged, a 0-d tensor.

    Raises:
        AssertionError: both functions are given.

    Source: Izmailov et al. (2018), Averaging weights leads to wider optima and better generalization,
        algorithm 1.

    Example:
        >>> import nbdl
        >>> model = nbdl.nn.Linear(1, 1, bias=False)
        >>> average = nbdl.optim.swa_utils.AveragedModel(model)
        >>> for value in [1.0, 2.0, 6.0]:
        ...     _ = nbdl.nn.init.constant_(model.weight, value)
        ...     average.update_parameters(model)
        >>> average.module.weight.item()
        3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: AverageFunction | None = None,
        multi_avg_fn: MultiAverageFunction | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("AveragedModel: Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=np.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model gives."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the present parameters of ``model`` into the averages; the first time, copy them."""
        averages = [entry.detach() for entry in self._averaged(self.module)]
        devices = [average.device for average in averages]
        values = [
            entry.detach().to(device) for entry, device in zip(self._averaged(model), devices, strict=True)
        ]
        if self.n_averaged == 0:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
        elif self.avg_fn is not None:
            for average, value in zip(averages, values, strict=True):
                average.copy_(self.avg_fn(average, value, self.n_averaged.to(average.device)))
        else:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, values, self.n_averaged)
        if not self.use_buffers:
            for ours, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
                ours.copy_(theirs.detach().to(ours.device))
        self.n_averaged += 1

    def _averaged(self, model: Module) -> Iterable[Tensor]:
        """What of ``model`` is averaged."""
        return itertools.chain(model.parameters(), model.buffers() if self.use_buffers else ())


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the statistics of a model's batch norms afresh, as means over the batches of ``loader``.

    Args:
        loader: gives inputs, or tuples and lists that begin with one.
        model: the model; averaged parameters do not go with the statistics of any of their parts.
        device: where inputs are put.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in loader:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(inputs if device is None else inputs.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


_ANNEALINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda part: part,
    "cos": lambda part: (1 - math.cos(math.pi * part)) / 2,
}


class SWALR(Schedule):
    """From the present rate to a constant one, at which iterates are averaged.

    Args:
        optimizer: whose rates change.
        swa_lr: the constant rate, or one for each group.
        anneal_epochs: epochs until then.
        anneal_strategy: "cos" or "linear".
        last_epoch: the epoch before the next one.

    Raises:
        ValueError: something is out of its range.
    """

    _transient = ("optimizer", "anneal_func")

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):
        for rate, group in zip(
            one_per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True
        ):
            group["swa_lr"] = rate
        if anneal_strategy not in _ANNEALINGS:
            raise ValueError(
                f"SWALR: anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"SWALR: anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        self.anneal_func = _ANNEALINGS[anneal_strategy]
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        """From the present rates, so that another schedule may have set them."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (self._part(epoch) for epoch in (step - 1, step))
        rates = []
        for group in self.optimizer.param_groups:
            final = group["swa_lr"]
            start = final if before == 1 else (float(group["lr"]) - before * final) / (1 - before)
            rates.append(final * now + start * (1 - now))
        return rates

    def _part(self, epoch: int) -> float:
        return self.anneal_func(max(0, min(1, epoch / max(1, self.anneal_epochs))))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        super().load_state_dict(state_dict)
        self.anneal_func = _ANNEALINGS[self._anneal_strategy]
