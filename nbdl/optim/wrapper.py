"""What optimizers around another optimizer share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbdl.optim.optimizer import Optimizer


class WrappingOptimizer(Optimizer):
    """An optimizer that leaves the step itself to another one, whose parameter groups it shares.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        base_optimizer: the class of the other optimizer.
        defaults: hyperparameters of this one.
        base_options: hyperparameters of the other one.

    Attributes:
        base_optimizer: the other optimizer.
    """

    counters = ()

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Callable[..., Optimizer],
        defaults: dict[str, Any],
        base_options: dict[str, Any],
    ):
        super().__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **base_options)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults = {**self.base_optimizer.defaults, **defaults}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As :meth:`Optimizer.add_param_group`, for both optimizers."""
        base = getattr(self, "base_optimizer", None)
        if base is None:  # while this one is made
            super().add_param_group(param_group)
        else:
            base.add_param_group({**_own(self, base), **param_group})

    def state_dict(self) -> dict[str, Any]:
        """That of an optimizer, with the state of the other one under ``base_optimizer``."""
        return {**super().state_dict(), "base_optimizer": self.base_optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state of both optimizers; see :meth:`Optimizer.load_state_dict`."""
        self.base_optimizer.load_state_dict(state_dict["base_optimizer"])
        super().load_state_dict(state_dict)


def _own(wrapper: Optimizer, base: Optimizer) -> dict[str, Any]:
    """The hyperparameters that only the wrapper has."""
    return {name: value for name, value in wrapper.defaults.items() if name not in base.defaults}
