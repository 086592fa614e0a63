"""Second-order methods as optimizers: ``step(closure)`` runs iterations of a method on the parameters.

Which closure is wanted: methods that use gradients call one that clears the gradients, computes the loss,
calls ``backward`` and returns the loss, as PyTorch's L-BFGS does. Methods that use the Hessian call one that
only returns the loss, and differentiate it themselves. Least-squares methods call one that returns the tensor
of the residuals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.optim.checks import count, one_of
from nbdl.optim.closure import ClosureObjective
from nbdl.optim.iteration import Limits, Method, run
from nbdl.optim.methods import METHODS, options_of
from nbdl.optim.optimizer import Optimizer, check_at_least_zero
from nbdl.optim.result import OptimizeResult, reported
from nbdl.optim.vectors import Layout


class ClosureOptimizer(Optimizer):
    """Base of the optimizers whose step needs a closure and treats all parameters as one vector.

    Complex parameters are two real ones each, as in PyTorch's L-BFGS.

    A subclass defines :meth:`run`.

    Args:
        params: parameters or groups; groups have no settings of their own.
        defaults: settings of the method.

    Attributes:
        result: how the last step ended: fun, status, message, success, nit, nfev, njev, nhev. None before.
    """

    accepts_complex = True

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        super().__init__(params, defaults)
        self.result: OptimizeResult | None = None
        Layout(type(self).__name__, self.parameters)  # checks dtypes and devices

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [tensor for group in self.param_groups for tensor in group["params"]]

    @property
    def trained(self) -> list[Tensor]:
        """Those that require a gradient.

        Raises:
            RuntimeError: there is none.
        """
        found = [p for p in self.parameters if p.requires_grad]
        if not found:
            raise RuntimeError(f"{type(self).__name__}: no parameter requires a gradient")
        return found

    def check_group(self, group: dict[str, Any]) -> None:
        count(type(self).__name__, "max_iter", group["max_iter"])
        for name in ("tolerance_grad", "tolerance_change"):
            check_at_least_zero(type(self).__name__, name, group[name])

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None:
            raise TypeError(f"{type(self).__name__}: step needs a closure")
        with no_grad():
            return self.run(closure, self.param_groups[0], self.state[self.parameters[0]])

    def run(self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]) -> Any:
        """Iterate, and return what the first call of the closure returned.

        Args:
            closure: see the module.
            group: the settings.
            state: what earlier steps left; this step adds to it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no run")

    def iterate(
        self, method: Method, objective: ClosureObjective, group: dict[str, Any], state: dict[str, Any]
    ) -> Any:
        """Iterate a method; the parameters get the best point, and ``result`` tells how it ended."""
        method.load(state)
        ends = Limits(group["tolerance_grad"], 0.0, group["tolerance_change"], group["max_iter"])
        outcome = run(method, objective, objective.evaluate(objective.start), ends)
        objective.place(outcome.point.x)
        method.save(state)
        self.result = reported(
            outcome.status, outcome.point.value, note=outcome.note, **outcome.counts(objective)
        )
        return objective.first_loss


def limits(max_iter: int, tolerance_grad: float, tolerance_change: float) -> dict[str, float]:
    """The settings that say when a step is over."""
    return {
        "max_iter": max_iter, "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
    }  # fmt: skip


class _Iterated(ClosureOptimizer):
    """An optimizer over a method of :mod:`nbdl.optim.methods`, whose options are its settings, too.

    Args:
        params: parameters.
        max_iter: iterations a step; default: ``iterations``.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        options: of the method.

    Attributes:
        method: its name.
        iterations: the default of ``max_iter``.
    """

    method: str
    iterations = 1

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        **options: Any,
    ):
        settings = options_of(type(self).__name__, self.method, options)
        self._method: Method = METHODS[self.method](**settings)
        ends = limits(self.iterations if max_iter is None else max_iter, tolerance_grad, tolerance_change)
        super().__init__(params, {**settings, **ends})

    def run(self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]) -> Any:
        label, records = type(self).__name__, self._method.needs_hessian
        objective = ClosureObjective(label, self.trained if records else self.parameters, closure, records)
        return self.iterate(self._method, objective, group, state)


class BFGS(_Iterated):
    """BFGS with a dense inverse Hessian, Nocedal & Wright (2006), algorithm 6.1.

    The closure computes gradients, see :mod:`nbdl.optim.second_order`.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        line_search: "more-thuente", "strong-wolfe", "weak-wolfe", "hager-zhang", "armijo", "goldstein" or
            "fixed", or an object of :mod:`nbdl.optim.search`.
        formula: "bfgs" or "dfp".

    Example:
        >>> import nbdl
        >>> w = nbdl.zeros(2, dtype=nbdl.float64, requires_grad=True)
        >>> optimizer = nbdl.optim.BFGS([w], max_iter=20)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = ((w - 3) ** 2).sum() + w[0] ** 4
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> optimizer.result.success
        True
    """

    method = "bfgs"
    iterations = 20

    def __init__(self, params: Iterable[Any], *ends: Any, formula: str = "bfgs", **options: Any):
        one_of("BFGS", "formula", formula, ("bfgs", "dfp"))
        self.method = formula
        super().__init__(params, *ends, **options)


class NonlinearCG(_Iterated):
    """Nonlinear conjugate gradients, Nocedal & Wright (2006), algorithm 5.4.

    The closure computes gradients, see :mod:`nbdl.optim.second_order`.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        beta: "fr", "pr+", "hs", "dy" or "hz".
        line_search: as for :class:`BFGS`.
    """

    method = "cg"
    iterations = 20


class Newton(_Iterated):
    """Newton's method with the whole Hessian, shifted until it is positive definite, and a search.

    The closure only returns the loss. Costs n products with the Hessian, n^2 memory and O(n^3) time an
    iteration.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        line_search: as for :class:`BFGS`.

    Source: Nocedal & Wright (2006), algorithms 3.2 and 3.3.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([3.0, -1.0], dtype=nbdl.float64, requires_grad=True)
        >>> optimizer = nbdl.optim.Newton([w])
        >>> loss = optimizer.step(lambda: 5 * w[0] ** 2 + (w[1] - w[0]) ** 2)
        >>> bool((w.abs() < 1e-12).all())
        True
    """

    method = "newton"


class NewtonCG(_Iterated):
    """Newton's method with conjugate gradients in place of the matrix.

    The closure only returns the loss.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        max_cg_iterations: products with the Hessian an iteration; None: 20 n, at most 200.
        line_search: as for :class:`BFGS`.
    """

    method = "newton-cg"


class SaddleFreeNewton(_Iterated):
    """Newton's method with the magnitudes of the eigenvalues, which leaves saddle points.

    The closure only returns the loss.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        subspace: None for the whole Hessian, else the size of the Krylov subspace of the gradient.
        line_search: as for :class:`BFGS`.

    Source: Dauphin et al. (2014), Identifying and attacking the saddle point problem in high-dimensional
        non-convex optimization, algorithm 1.
    """

    method = "saddle-free-newton"


class TrustRegion(_Iterated):
    """Newton's method within a trust region, Nocedal & Wright (2006), algorithm 4.1.

    The closure only returns the loss.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        subproblem: "steihaug" (algorithm 7.2), "gltr", "dogleg", "exact" or "cauchy".
        initial_trust_radius: the first radius.
        max_trust_radius: the largest.
        eta: the share of the promised decrease for which a step is taken.

    Raises:
        ValueError: the subproblem is unknown, or a radius or eta is out of range.
    """

    _METHODS: ClassVar[dict[str, str]] = {
        "steihaug": "trust-ncg", "gltr": "trust-krylov", "dogleg": "dogleg", "exact": "trust-exact",
        "cauchy": "trust-cauchy",
    }  # fmt: skip

    def __init__(self, params: Iterable[Any], *ends: Any, subproblem: str = "steihaug", **options: Any):
        one_of("TrustRegion", "subproblem", subproblem, self._METHODS)
        self.method = self._METHODS[subproblem]
        super().__init__(params, *ends, **options)


class ARC(_Iterated):
    """Adaptive cubic regularisation of Newton's method, with the whole Hessian.

    The closure only returns the loss.

    Args:
        params: parameters.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        initial_weight: of the cubic term.

    Source: Cartis, Gould, Toint (2011), Adaptive cubic regularisation methods for unconstrained optimization,
        part I, algorithm 2.1.
    """

    method = "arc"
