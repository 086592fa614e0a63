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
from nbdl.optim.closure import ClosureObjective
from nbdl.optim.iteration import Limits, Method, run
from nbdl.optim.methods import METHODS
from nbdl.optim.optimizer import Optimizer, check_at_least_zero
from nbdl.optim.result import OptimizeResult
from nbdl.optim.vectors import Layout


class ClosureOptimizer(Optimizer):
    """Base of the optimizers whose step needs a closure and treats all parameters as one vector.

    A subclass defines :meth:`run`.

    Args:
        params: parameters or groups; groups have no settings of their own.
        defaults: settings of the method.

    Attributes:
        result: how the last step ended: fun, status, message, success, nit, nfev, njev, nhev. None before.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        super().__init__(params, defaults)
        self.result: OptimizeResult | None = None
        Layout(type(self).__name__, self.parameters)  # checks dtypes and devices

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [tensor for group in self.param_groups for tensor in group["params"]]

    def check_group(self, group: dict[str, Any]) -> None:
        for name in ("max_iter", "tolerance_grad", "tolerance_change"):
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


def limits(max_iter: int, tolerance_grad: float, tolerance_change: float) -> dict[str, float]:
    """The settings that say when a step is over."""
    return {
        "max_iter": max_iter, "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
    }  # fmt: skip


class _Iterated(ClosureOptimizer):
    """An optimizer over a method of :mod:`nbdl.optim.methods`.

    Args:
        params: parameters.
        method: its name.
        max_iter: iterations a step.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter changes by more; 0: not tested.
        options: of the method.
    """

    def __init__(
        self,
        params: Iterable[Any],
        method: str,
        max_iter: int,
        tolerance_grad: float,
        tolerance_change: float,
        **options: Any,
    ):
        self._method: Method = METHODS[method](**options)
        super().__init__(params, {**options, **limits(max_iter, tolerance_grad, tolerance_change)})

    def run(self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]) -> Any:
        method = self._method
        method.load(state)
        objective = ClosureObjective(type(self).__name__, self.parameters, closure, method.needs_hessian)
        ends = Limits(group["tolerance_grad"], 0.0, group["tolerance_change"], group["max_iter"])
        outcome = run(method, objective, objective.evaluate(objective.start), ends)
        objective.place(outcome.point.x)
        method.save(state)
        self.result = OptimizeResult(fun=outcome.point.value, **outcome.report(objective))
        return objective.first_loss


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 20,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        line_search: Any = "more-thuente",
        formula: str = "bfgs",
    ):
        if formula not in ("bfgs", "dfp"):
            raise ValueError(f"BFGS: formula must be 'bfgs' or 'dfp', got {formula!r}")
        super().__init__(params, formula, max_iter, tolerance_grad, tolerance_change, line_search=line_search)


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 20,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        beta: str = "pr+",
        line_search: Any = "more-thuente",
    ):
        super().__init__(
            params, "cg", max_iter, tolerance_grad, tolerance_change, beta=beta, line_search=line_search
        )


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        line_search: Any = "more-thuente",
    ):
        super().__init__(
            params, "newton", max_iter, tolerance_grad, tolerance_change, line_search=line_search
        )


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        max_cg_iterations: int | None = None,
        line_search: Any = "more-thuente",
    ):
        super().__init__(
            params, "newton-cg", max_iter, tolerance_grad, tolerance_change,
            max_cg_iterations=max_cg_iterations, line_search=line_search,
        )  # fmt: skip


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        subspace: int | None = None,
        line_search: Any = "more-thuente",
    ):
        super().__init__(
            params, "saddle-free-newton", max_iter, tolerance_grad, tolerance_change,
            subspace=subspace, line_search=line_search,
        )  # fmt: skip


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        subproblem: str = "steihaug",
        initial_trust_radius: float = 1.0,
        max_trust_radius: float = 1e10,
        eta: float = 0.15,
    ):
        if subproblem not in self._METHODS:
            raise ValueError(
                f"TrustRegion: subproblem must be one of {', '.join(self._METHODS)}, got {subproblem!r}"
            )
        super().__init__(
            params, self._METHODS[subproblem], max_iter, tolerance_grad, tolerance_change,
            initial_trust_radius=initial_trust_radius, max_trust_radius=max_trust_radius, eta=eta,
        )  # fmt: skip


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

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 0.0,
        initial_weight: float = 1.0,
    ):
        super().__init__(
            params, "arc", max_iter, tolerance_grad, tolerance_change, initial_weight=initial_weight
        )
