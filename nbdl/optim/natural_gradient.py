"""Natural gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.curvature.solvers import Solution, solution_of
from nbdl.optim.curvature.source import Source
from nbdl.optim.elementwise import zeros_state
from nbdl.optim.krylov import ConjugateGradients, Watch
from nbdl.optim.optimizer import check_at_least_zero, update
from nbdl.optim.outputs import MATRICES, MOMENTUM_STEP, OutputsOptimizer, shortening
from nbdl.optim.result import Status, reported
from nbdl.optim.vectors import fetch

_NO_CURVATURE = "The Fisher matrix has no positive curvature along the gradient: damping gives it one."


class NaturalGradient(OutputsOptimizer):
    r"""Natural gradient descent: steps along F^-1 g, the steepest descent where lengths are KL divergences.

        (F + damping I) d = g by conjugate gradients,  v <- momentum v + d,  p <- p - lr v

    The closure returns the outputs of the model and the targets; it calls no ``backward``. F is the Fisher
    matrix of the mini-batch, of which only products are computed. Where the loss or its gradient is not
    finite, or F has no positive curvature along g, nothing changes and ``result`` says so.

    Args:
        params: parameters or groups; groups may have their own ``lr``, ``momentum`` and ``weight_decay``, the
            other settings are those of the first group.
        loss: a function of outputs and targets, such as ``nn.CrossEntropyLoss()``.
        lr: the learning rate.
        momentum: how much of the last step is kept.
        damping: added to the diagonal of F.
        weight_decay: how much parameters shrink, relative to the learning rate.
        fisher: "exact", "mc" (targets drawn from the model), "empirical" (the targets of the data), or "ggn",
            the Gauss-Newton matrix, for losses of any kind.
        max_cg_iterations: products with F a step.
        tolerance: of the residual, relative to the gradient.
        max_kl: d is shortened to lr^2 d^T F d / 2 <= ``max_kl``; None: it is not.

    Attributes:
        solution: how the last equation was solved, see :class:`nbdl.optim.curvature.Solution`.

    Raises:
        ValueError: a setting is out of its range, or (from ``step``) the loss has no known likelihood.
        TypeError: ``loss`` is no function, or the closure returns no pair.

    Source: Amari (1998), Natural gradient works efficiently in learning; the solver and the limit are those
        of Schulman et al. (2015), Trust region policy optimization, appendix C.

    Example:
        >>> import nbdl
        >>> x, y = nbdl.tensor([[1.0], [2.0]]), nbdl.tensor([[3.0], [6.0]])
        >>> model = nbdl.nn.Linear(1, 1, bias=False)
        >>> optimizer = nbdl.optim.NaturalGradient(model.parameters(), nbdl.nn.MSELoss(), 1.0, damping=0.0)
        >>> loss = optimizer.step(lambda: (model(x), y))
        >>> model.weight.detach().round(decimals=4)
        tensor([[3.]])
    """

    not_negative = ("lr", "momentum", "damping", "weight_decay", "tolerance")
    chooses_matrix = "fisher"

    def __init__(
        self,
        params: Iterable[Any],
        loss: Callable[[Tensor, Any], Tensor],
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        damping: float = 1e-2,
        weight_decay: float = 0.0,
        fisher: str = "exact",
        max_cg_iterations: int = 20,
        tolerance: float = 1e-4,
        max_kl: float | None = None,
    ):
        self.solution: Solution | None = None
        self._watch = Watch()
        super().__init__(params, loss, {
            "lr": lr, "momentum": momentum, "damping": damping, "weight_decay": weight_decay,
            "fisher": fisher, "max_cg_iterations": max_cg_iterations, "tolerance": tolerance,
            "max_kl": max_kl,
        })  # fmt: skip

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if group["max_kl"] is not None:
            check_at_least_zero("NaturalGradient", "max_kl", group["max_kl"])

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {name: group[name] for name in ("lr", "momentum", "weight_decay")}

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        source, settings = self.evaluated(closure), self.param_groups[0]
        loss, gradients = self.differentiated(source)
        state = self.state[source.params[0]]
        seed, limit = state.get("updates", 0) + 1, settings["max_cg_iterations"]
        with no_grad():
            gradient = source.layout.flat(gradients)
            matrix = MATRICES[settings["fisher"]](source, seed)
            process = ConjugateGradients(matrix, gradient, damping=settings["damping"])
            size, target = process.residual, settings["tolerance"] * process.residual
            for _ in process.run(self._watch, limit, target):
                pass
            scalars = loss.reshape(()), size, process.count, process.residual, target
            value, length, *ended = fetch(*scalars)
        if not (math.isfinite(value) and math.isfinite(length)):
            self.result = reported(Status.NON_FINITE, value, nfev=1, njev=1, nit=0)
            return loss
        state["updates"] = seed
        self.solution = solution_of(process, limit, ended)
        self._watch.learn(self.solution.iterations)
        status, products = self._ending(length), process.products
        if status is Status.SEARCH_FAILED:
            self.result = reported(status, value, nfev=1, njev=1, nhev=products, nit=0, note=_NO_CURVATURE)
            return loss
        direction = self.solution.x
        if settings["max_kl"] is not None:
            product, products = matrix @ direction, products + 1
            with no_grad():
                divergence = float(settings["lr"]) ** 2 * dot(direction, product) / 2
                direction = direction * shortening(divergence, settings["max_kl"])
        self._move(source, direction)
        self.result = reported(status, value, nfev=1, njev=1, nhev=products)
        return loss

    def _ending(self, size: float) -> Status:
        """How a step with a gradient of this length ends, once the equation is solved."""
        assert self.solution is not None
        if size == 0:
            return Status.CONVERGED
        stuck = self.solution.info == -1 and self.solution.iterations == 0
        return Status.SEARCH_FAILED if stuck else Status.STEPPED

    def _move(self, source: Source, direction: Tensor) -> None:
        parts = dict(zip(map(id, source.params), source.layout.split(direction), strict=True))
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if id(p) in parts]
            states = [[zeros_state(self.state[p], "momentum_buffer", p)] for p in params]
            scalars = list(self.scalars(index, group).values())
            if params:
                update(MOMENTUM_STEP, params, [parts[id(p)] for p in params], states, scalars)
