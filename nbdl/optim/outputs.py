"""What optimizers share that look at the outputs of the model: natural gradient, Hessian-free, K-FAC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.modes import enable_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, sqrt, where
from nbdl.ops.pointwise import pointwise
from nbdl.optim.checks import count, one_of
from nbdl.optim.closure import differentiable
from nbdl.optim.curvature.matrices import GGN, CurvatureMatrix, EmpiricalFisher, Fisher, MonteCarloFisher
from nbdl.optim.curvature.source import Source
from nbdl.optim.optimizer import Optimizer, check_at_least_zero
from nbdl.optim.recorded import gradients_of
from nbdl.optim.result import OptimizeResult

MATRICES: dict[str, Callable[[Source, int], CurvatureMatrix]] = {
    "ggn": lambda source, seed: GGN(source),
    "exact": lambda source, seed: Fisher(source),
    "mc": lambda source, seed: MonteCarloFisher(source, seed=seed),
    "empirical": lambda source, seed: EmpiricalFisher(source),
}
"""Curvature by name, of a source and a seed."""


def _step(p: Any, d: Any, velocity: Any, lr: Any, momentum: Any, weight_decay: Any) -> tuple[Any, ...]:
    velocity = momentum * velocity + d
    return p - lr * (velocity + weight_decay * p), velocity


MOMENTUM_STEP = Formula("preconditioned_step", _step, 6)
"""Parameter and velocity after a step along a direction, with decoupled weight decay."""


shortening = pointwise(
    "shortening",
    lambda divergence, bound: sqrt(
        where(divergence > bound, bound / where(divergence > bound, divergence, 1), 1)
    ),
)
"""The factor of a step, at most 1, with which the divergence of its square keeps a bound."""


class OutputsOptimizer(Optimizer):
    """Base of the optimizers whose closure returns the outputs of the model and the targets.

    Args:
        params: parameters or groups.
        loss: a function of outputs and targets; with a mean over the rows of the outputs if its ``reduction``
            is "mean" (or it has none).
        defaults: settings of the groups.

    Attributes:
        loss: as given.
        result: how the last step ended: fun, status, message, success, nit, nfev, njev, nhev. None before.
    """

    not_negative: tuple[str, ...] = ("lr", "damping")
    chooses_matrix: str | None = None  # the setting that names one of MATRICES

    def __init__(
        self, params: Iterable[Any], loss: Callable[[Tensor, Any], Tensor], defaults: dict[str, Any]
    ):
        if not callable(loss):
            raise TypeError(
                f"{type(self).__name__}: loss must be a function of outputs and targets, got "
                f"{type(loss).__name__}"
            )
        self.loss = loss
        self.result: OptimizeResult | None = None
        super().__init__(params, defaults)

    def check_group(self, group: dict[str, Any]) -> None:
        for name in self.not_negative:
            check_at_least_zero(type(self).__name__, name, group[name])
        label, choice = type(self).__name__, self.chooses_matrix
        if choice is not None:
            one_of(label, choice, group[choice], MATRICES)
        count(label, "max_cg_iterations", group.get("max_cg_iterations", 1), 1)

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that require a gradient."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def evaluated(self, closure: Callable[[], Any] | None) -> Source:
        """What the closure returns now, as the source of curvature, with its outputs recorded.

        Raises:
            TypeError: there is no closure, or it returns no pair.
        """
        label = type(self).__name__
        if closure is None:
            raise TypeError(f"{label}: step needs a closure that returns the model's outputs and the targets")
        with enable_grad():
            pair = differentiable(closure)()
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(
                f"{label}: the closure must return a pair (outputs, targets), got {type(pair).__name__}"
            )
        outputs, targets = pair
        reduction = getattr(self.loss, "reduction", "mean")
        return Source(label, self.trained, lambda: [(outputs, targets)], self.loss, reduction, True)

    def differentiated(self, source: Source) -> tuple[Tensor, list[Tensor]]:
        """The loss and its gradients, which the parameters get, too. What is recorded is kept."""
        (term,) = source.terms()
        loss = source.loss_of(term)
        gradients = gradients_of(loss, source.params, create_graph=False, retain_graph=True)
        for param, gradient in zip(source.params, gradients, strict=True):
            param.grad = gradient
        return loss.detach(), gradients
