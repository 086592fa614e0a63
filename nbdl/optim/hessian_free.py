"""Hessian-free optimization."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.matmul import dot
from nbdl.optim.closure import differentiable, place
from nbdl.optim.curvature.matrices import GGN, squared_gradients
from nbdl.optim.curvature.source import Source
from nbdl.optim.krylov import ConjugateGradients, Watch
from nbdl.optim.operators import DiagonalOperator, LinearOperator
from nbdl.optim.outputs import MATRICES, OutputsOptimizer
from nbdl.optim.result import Status, reported
from nbdl.optim.vectors import fetch, is_on_host, moved, norm
from nbdl.random import Generator

_SPACING = 1.3  # of the iterates that are kept, section 4.6 of Martens (2010)
_PROGRESS = 5e-4  # of the model in an iteration, below which CG stops, section 4.4
_SHORTER, _SUFFICIENT = 0.8, 1e-2  # of the search along the step
_SEARCHES = 60
_SIGNS = 8  # random sums of gradients, from which the preconditioner is estimated


class HessianFree(OutputsOptimizer):
    """Hessian-free optimization: Gauss-Newton steps by conjugate gradients, for large batches.

    Conjugate gradients minimize the quadratic model until they make little progress, starting from the step
    before. Of their iterates the one with the lowest loss is taken, and shortened until the loss decreases;
    the damping follows the share of the promised decrease that was found (Levenberg-Marquardt). A step that
    finds no decrease leaves the parameters as they are.

    The closure returns the outputs of the model and the targets; it is called several times a step, and must
    compute the same then. With ``structural_damping`` it returns the hidden states, too, whose change is
    damped then: a tensor (N, ...) with a row for each of the N examples.

    Args:
        params: parameters or groups; groups have no settings of their own.
        loss: a function of outputs and targets, convex in the outputs.
        lr: length of the step, relative to what was found.
        damping: the first value; ``state`` keeps the present one.
        matrix: "ggn", or a Fisher matrix: "exact", "mc", "empirical".
        max_cg_iterations: products with the matrix a step.
        decay: what the last step counts as the start of the next.
        weight_decay: coefficient of a penalty |p|^2 / 2 that belongs to the loss.
        preconditioner: alpha; conjugate gradients are preconditioned by (D + damping)^-alpha, where D
            estimates the mean squares of the examples' gradients; 0: not at all. The paper has 3/4.
        structural_damping: mu; damping mu / (2 N) |change of the states|^2 is added to the model.

    Attributes:
        result: how the last step ended: fun, status, message, success, nit, nfev, njev, nhev, damping, ratio.
            None before.

    Raises:
        ValueError: a setting is out of its range.
        TypeError: ``loss`` is no function, or the closure returns no pair.

    Source: Martens (2010), Deep learning via Hessian-free optimization, algorithm 2 and section 4; Martens,
        Sutskever (2011), Learning recurrent neural networks with Hessian-free optimization, section 3.1;
        Chapelle, Erhan (2011), Improved preconditioner for Hessian free optimization, for the random signs
        that estimate D.

    Example:
        >>> import nbdl
        >>> x = nbdl.linspace(-1, 1, 20).unsqueeze(1)
        >>> _ = nbdl.manual_seed(0)
        >>> model = nbdl.nn.Sequential(nbdl.nn.Linear(1, 8), nbdl.nn.Tanh(), nbdl.nn.Linear(8, 1))
        >>> optimizer = nbdl.optim.HessianFree(model.parameters(), nbdl.nn.MSELoss())
        >>> losses = [optimizer.step(lambda: (model(x), x ** 3)).item() for _ in range(12)]
        >>> losses[-1] < 1e-3
        True
    """

    not_negative = ("lr", "damping", "decay", "weight_decay", "preconditioner", "structural_damping")
    chooses_matrix = "matrix"

    def __init__(
        self,
        params: Iterable[Any],
        loss: Callable[[Tensor, Any], Tensor],
        lr: float = 1.0,
        damping: float = 0.1,
        matrix: str = "ggn",
        max_cg_iterations: int = 250,
        decay: float = 0.95,
        weight_decay: float = 0.0,
        preconditioner: float = 0.0,
        structural_damping: float = 0.0,
    ):
        self.watch = Watch()
        super().__init__(params, loss, {
            "lr": lr, "damping": damping, "matrix": matrix, "max_cg_iterations": max_cg_iterations,
            "decay": decay, "weight_decay": weight_decay, "preconditioner": preconditioner,
            "structural_damping": structural_damping,
        })  # fmt: skip

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        for name in ("preconditioner", "structural_damping"):
            if group[name] and group["damping"] == 0:
                raise ValueError(f"HessianFree: {name} needs a damping above 0, got {group['damping']}")

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None or not self.param_groups[0]["structural_damping"]:
            return _Step(self, self.evaluated(closure), closure).take()
        closure = _WithStates(differentiable(closure))
        return _Step(self, self.evaluated(closure), closure).take()


class _WithStates:
    """A closure that returns outputs, targets and hidden states; the states of the first call are kept.

    Attributes:
        states: the hidden states, recorded.
    """

    def __init__(self, closure: Callable[[], Any]):
        self._closure = closure
        self.states: Tensor | None = None

    def __call__(self) -> tuple[Any, Any]:
        found = self._closure()
        if not (isinstance(found, (tuple, list)) and len(found) == 3 and isinstance(found[2], Tensor)):
            raise TypeError(
                "HessianFree: with structural_damping the closure must return (outputs, targets, states), "
                f"the states as one tensor; got {type(found).__name__}"
            )
        if self.states is None:
            self.states = found[2]
        return found[0], found[1]


class _Candidate(NamedTuple):
    """An iterate of conjugate gradients.

    Attributes:
        step: the iterate.
        number: of the product that led to it.
        unread: the undamped model there, the slope along it, and how many steps were taken, 0-d each.
    """

    step: Tensor
    number: int
    unread: list[Tensor]


class _Step:
    """One step from where the parameters are; all losses contain the penalty."""

    def __init__(self, optimizer: HessianFree, source: Source, closure: Any):
        self.optimizer, self.source, self._closure = optimizer, source, closure
        self.group = optimizer.param_groups[0]
        self.state = optimizer.state[source.params[0]]
        self.damping = self.state.get("damping", self.group["damping"])
        self._penalty, self.nfev, self._watch = self.group["weight_decay"], 1, optimizer.watch
        with no_grad():
            self.x = source.layout.flat([p.detach() for p in source.params]).clone()

    def take(self) -> Tensor:
        """Go, and give the loss at the start."""
        loss, gradients = self.optimizer.differentiated(self.source)
        with no_grad():
            gradient = moved(self.source.layout.flat(gradients), self._penalty, self.x)
            self._start = [loss.reshape(()), dot(self.x, self.x), norm(gradient)]
            # On a device what is known of the start comes with the loss at the end of a step.
            known = fetch(*self._start) if is_on_host(loss) else None
        if known is not None and self._ended(known):
            return loss
        self.state["updates"] = self.state.get("updates", 0) + 1
        seed = self.state["updates"]
        matrix: LinearOperator = MATRICES[self.group["matrix"]](self.source, seed)
        last, others = self._candidates(matrix, gradient, self._preconditioner(seed))
        new_value, promised, slope, count, *known = self._value(last.step, 1.0, [*last.unread, *self._start])
        if self._ended(known):
            place(self.source.params, self.source.layout, self.x)
            return loss
        value = self._penalized(*known[:2])
        self._watch.learn(count)
        others = [one for one in others if one.number < count]
        best, new_value, promised, slope = self._lowest(others, last.step, new_value, promised, slope)
        ratio = self._ratio(value, new_value, promised)
        length, new_value = self._search(best, value, new_value, slope)
        if not ratio >= 0.25:
            self.damping *= 3 / 2
        elif ratio > 0.75:
            self.damping *= 2 / 3
        if length:
            self._move(best, length * self.group["lr"])
        else:
            place(self.source.params, self.source.layout, self.x)
        self.state["damping"], self.state["last_step"] = self.damping, best
        self.optimizer.result = reported(
            Status.STEPPED if length else Status.SEARCH_FAILED, new_value if length else value,
            nfev=self.nfev, njev=1, nhev=self._products, damping=self.damping, ratio=ratio,
        )  # fmt: skip
        return loss

    def _ended(self, known: Sequence[float]) -> bool:
        """Whether there is no step from a start of this loss, |x|^2 and |gradient|; says so."""
        value, size = self._penalized(*known[:2]), known[2]
        if math.isfinite(value) and size > 0:
            return False
        status = Status.CONVERGED if math.isfinite(value) and size == 0 else Status.NON_FINITE
        self.optimizer.result = reported(
            status, value, nfev=1, njev=1, nit=0, damping=self.damping, ratio=math.nan
        )
        return True

    def _ratio(self, value: float, new_value: float, promised: float) -> float:
        """The share of the promised change that was found; 1 where both are rounding errors of the loss."""
        rounding = 10 * float(np.finfo(self.x.dtype).eps) * abs(value)
        if abs(new_value - value) <= rounding and abs(promised) <= rounding:
            return 1.0
        return (new_value - value) / promised if promised < 0 else -math.inf

    def _structure(self) -> LinearOperator | None:
        """mu J^T J / N of the hidden states; None without structural damping."""
        mu = self.group["structural_damping"]
        if not mu:
            return None
        states = self._closure.states
        return mu * GGN(
            Source("HessianFree", self.source.params, lambda: [(states, None)], _half_squares, "mean", True)
        )

    def _preconditioner(self, seed: int) -> LinearOperator | None:
        """An approximation of the inverse of the damped matrix; None if there is to be none."""
        alpha = self.group["preconditioner"]
        if not alpha:
            return None
        squares = squared_gradients(self.source, _SIGNS, Generator(self.x.device).manual_seed(seed))
        with no_grad():
            return DiagonalOperator((squares + self.damping + self._penalty) ** -alpha)

    def _candidates(
        self, matrix: LinearOperator, gradient: Tensor, inverse: LinearOperator | None
    ) -> tuple[_Candidate, list[_Candidate]]:
        """The last iterate of conjugate gradients, and some before it, ever farther apart."""
        structure = self._structure()
        if structure is not None:
            matrix = matrix + self.damping * structure
        start, limit = self.state.get("last_step"), self.group["max_cg_iterations"]
        with no_grad():
            start = None if start is None else start * self.group["decay"]
            values = [self._model_value(matrix, gradient, start)]
        process = ConjugateGradients(matrix, -gradient, start, inverse, self.damping + self._penalty)
        others, following = [], 1.0

        def candidate(number: int) -> _Candidate:
            with no_grad():
                promised = values[-1] - self._damped_part(structure, process.x)
                return _Candidate(
                    process.x, number, [promised, dot(gradient, process.x), process.count.to(gradient.dtype)]
                )

        for index in self._watch.products(gradient, limit):
            if self._watch.is_over(process.active):
                break
            process.advance()
            with no_grad():
                values.append(values[0] - process.decrease)
                process.stop_where(_is_slow(values))
            if index >= following:
                others.append(candidate(index))
                while following <= index:
                    following *= _SPACING
        self._products = process.products + 2 * (start is not None)
        return candidate(len(values)), others

    def _damped_part(self, structure: LinearOperator | None, step: Tensor) -> Tensor:
        """What the damping adds to the model at a step, 0-d."""
        bent = step if structure is None else moved(step, 1.0, structure @ step)
        return self.damping * dot(step, bent) / 2

    def _model_value(self, matrix: LinearOperator, gradient: Tensor, start: Tensor | None) -> Tensor:
        """The damped model at the start of conjugate gradients, 0-d."""
        if start is None:
            return gradient.new_zeros(())
        product = moved(matrix @ start, self.damping + self._penalty, start)
        return dot(gradient, start) + dot(start, product) / 2

    def _lowest(
        self, candidates: list[_Candidate], best: Tensor, value: float, promised: float, slope: float
    ) -> tuple[Tensor, float, float, float]:
        """Go back from the last iterate as long as the loss falls.

        Args:
            candidates: the iterates before the last one.
            best: the last one.
            value: the loss there.
            promised: the model.
            slope: along the step.

        Returns:
            The last four of the iterate that was found.
        """
        for candidate in reversed(candidates):
            before, *told = self._value(candidate.step, 1.0, candidate.unread)
            if not (before < value or math.isnan(value)):
                break
            best, value, (promised, slope, _) = candidate.step, before, told
        return best, value, promised, slope

    def _search(self, step: Tensor, value: float, new_value: float, slope: float) -> tuple[float, float]:
        """A length for which the loss decreases enough, and the loss there; length 0 if there is none."""
        length = 1.0
        for _ in range(_SEARCHES):
            if new_value <= value + _SUFFICIENT * length * min(slope, 0.0):
                return length, new_value
            length *= _SHORTER
            (new_value,) = self._value(step, length)
        return 0.0, value

    def _value(self, step: Tensor, length: float, extra: Sequence[Tensor] = ()) -> list[float]:
        """The loss after a step, and the values of 0-d tensors that are read together with it."""
        self._move(step, length)
        self.nfev += 1
        with no_grad():
            loss, x = self.source.loss(*self._closure()), moved(self.x, length, step)
            value, squared, *others = fetch(loss.detach().reshape(()), dot(x, x), *extra)
        return [self._penalized(value, squared), *others]

    def _penalized(self, value: float, squared: float) -> float:
        return value + self._penalty * squared / 2

    def _move(self, step: Tensor, length: float) -> None:
        with no_grad():
            place(self.source.params, self.source.layout, moved(self.x, length, step))


def _half_squares(states: Tensor, targets: None) -> Tensor:
    return states.square().sum() / (2 * states.shape[0])


def _is_slow(values: list[Tensor]) -> Tensor:
    """Whether the model has made little progress in the last iterations, Martens (2010), section 4.4; 0-d."""
    count = len(values) - 1
    window = max(10, count // 10)
    if count <= window:
        return values[-1].isnan()
    change = values[-1] - values[-1 - window]
    return (values[-1] < 0) & (change > window * _PROGRESS * values[-1])
