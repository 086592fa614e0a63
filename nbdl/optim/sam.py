"""Sharpness-aware minimization."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, where
from nbdl.ops.joining import stack
from nbdl.optim.elementwise import overwrite
from nbdl.optim.optimizer import Optimizer, check_at_least_zero
from nbdl.optim.wrapper import WrappingOptimizer


def _climb(p: Expr, before: Expr, g: Expr, norm: Expr, rho: Expr, adaptive: Expr) -> tuple[Expr, Expr]:
    """The point that is left, and the worst point nearby."""
    return p, p + rho / (norm + 1e-12) * (where(adaptive, p * p, 1) * g)


_CLIMB = Formula("sam_climb", _climb, 6)


class SAM(WrappingOptimizer):
    r"""SAM: descends along the gradient at the worst point within a distance rho, towards flat minima.

        e = rho g / |g|,  p <- the step of the base optimizer from p, with the gradient at p + e

    Adaptive SAM measures distance relative to each weight: e = rho p^2 g / |p g|. The norm goes over all
    parameters.

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        base_optimizer: the class of the optimizer that takes the step.
        rho: size of the neighbourhood.
        adaptive: measure distances relative to the weights.
        **kwargs: hyperparameters of the base optimizer.

    Raises:
        ValueError: rho is negative, or the base optimizer refuses its hyperparameters.

    Source: Foret, Kleiner, Mobahi, Neyshabur (2021), Sharpness-aware minimization for efficiently improving
        generalization, algorithm 1; adaptive: Kwon et al. (2021), ASAM, algorithm 1.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = nbdl.optim.SAM([w], nbdl.optim.SGD, rho=0.5, lr=0.1)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (w ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item()
        25.0
        >>> w.detach()
        tensor([2.3400, 3.1200])
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        adaptive: bool = False,
        **kwargs: Any,
    ):
        check_at_least_zero("SAM", "rho", rho)
        super().__init__(params, base_optimizer, {"rho": rho, "adaptive": adaptive}, kwargs)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {"rho": group["rho"], "adaptive": float(group["adaptive"])}

    def first_step(self, zero_grad: bool = False) -> None:
        """Climb to the worst point nearby; the gradients at the present point must be there."""
        norm = self._gradient_norm()
        for index, group in enumerate(self.param_groups):
            numbers = self.scalars(index, group).values()
            rows: list[Any] = []
            for param in _with_gradient(group):
                state = self.state[param]
                if "before" not in state:
                    state["before"] = param.detach().zeros_like()
                rows.append([param, state["before"], param.grad, norm, *numbers])
            overwrite(_CLIMB, rows, (1, 0), 3)
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad: bool = False) -> None:
        """Return, and take the step of the base optimizer with the gradients found at the worst point."""
        with no_grad():
            for group in self.param_groups:
                for param in _with_gradient(group):
                    param.copy_(self.state[param]["before"])
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate, climb, evaluate again, step.

        Returns:
            What the closure returned first.

        Raises:
            RuntimeError: there is no closure.
        """
        if closure is None:
            raise RuntimeError("SAM: step needs a closure; without one call first_step and second_step")
        with enable_grad():
            loss = closure()
            self.first_step(zero_grad=True)
            closure()
        self.second_step()
        return loss

    @no_grad()
    def _gradient_norm(self) -> Tensor:
        """The norm of all gradients together."""
        norms: list[Tensor] = []
        for group in self.param_groups:
            for param in _with_gradient(group):
                gradient: Any = param.grad
                norms.append((param * gradient if group["adaptive"] else gradient).norm())
        return stack(norms).norm()


def _with_gradient(group: dict[str, Any]) -> list[Tensor]:
    return [param for param in group["params"] if param.grad is not None]
