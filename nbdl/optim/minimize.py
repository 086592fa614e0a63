"""``minimize``: SciPy's signature over all methods of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.optim.bounded import BoundedLBFGS
from nbdl.optim.bounds import Box
from nbdl.optim.checks import count, function, limit, number
from nbdl.optim.function import DIFFERENCES, FunctionObjective, Variables
from nbdl.optim.iteration import Limits, Method, Outcome, run
from nbdl.optim.methods import ALIASES, METHODS, option_names
from nbdl.optim.objective import Objective, Point
from nbdl.optim.result import OptimizeResult, caller_of, ending

_LIMITS = {
    "gtol": "gtol", "ftol": "ftol", "xtol": "xtol", "maxiter": "max_iterations", "maxfun": "max_evaluations",
    "maxfev": "max_evaluations",
}  # fmt: skip
_BOUNDED = "l-bfgs-b"
_DENSE_BFGS_LIMIT = 1000  # variables, from which the default method keeps no dense matrix


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    method: str | Method | None = None,
    jac: Any = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    bounds: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
) -> OptimizeResult:
    """Minimize a function of one or more variables.

    ``fun`` is differentiated automatically: the gradient in reverse mode, products with the Hessian by
    another pass over the recorded gradient. Vectors stay on the device of x0, in its dtype.

    ===========================  ===========================================================================
    ``method``                   options beside those of all methods
    ===========================  ===========================================================================
    gradient-descent             line_search
    cg                           beta ("pr+", "fr", "hs", "dy", "hz"), line_search
    bfgs, dfp                    line_search
    l-bfgs                       maxcor (10), line_search
    l-bfgs-b                     maxcor (10); takes bounds
    newton                       line_search; Cholesky with added multiple of the identity
    newton-cg                    line_search, max_cg_iterations
    saddle-free-newton           line_search, subspace (None: the whole Hessian; else a Krylov space's size)
    dogleg, trust-ncg,           initial_trust_radius (1), max_trust_radius (inf), eta (0.15)
    trust-krylov, trust-exact
    arc                          initial_weight (1); adaptive cubic regularisation
    ===========================  ===========================================================================

    Options of all methods: ``gtol`` (1e-5), the largest magnitude in the gradient; ``ftol`` and ``xtol`` (0:
    not tested), the relative change of the function and the change of x in one iteration; ``maxiter`` (200 n,
    at least 1000); ``maxfun``; ``disp`` (False), whether to print how it ended. ``line_search`` is "armijo",
    "goldstein", "more-thuente", "strong-wolfe", "weak-wolfe", "hager-zhang", "fixed" or an object of
    :mod:`nbdl.optim.search`; its numbers (``c1``, ``c2``, ``lr`` ...) are options too.

    Where a trial is not finite the step is shortened; where no lower value is found what the method has
    learned is forgotten once; a Hessian that is not positive definite is shifted, or its negative curvature
    followed. The best point of all is returned, and ``status`` and ``message`` say why the method stopped.
    Methods that use the Hessian leave saddle points, and say if the Hessian is singular where they end.

    Args:
        fun: ``fun(x, *args)`` returns a tensor with one element; a pair (value, gradient) with ``jac=True``.
            With a ``jac`` function it may return a number.
        x0: where to begin: a tensor, an array, a list of numbers, or a nest (tuples, lists, dicts) of
            tensors, as ``fun`` takes it. Arrays become tensors.
        args: further arguments of ``fun`` and its derivatives; something else than a tuple is the only one.
        method: a name, in upper or lower case, or a :class:`~nbdl.optim.iteration.Method`; default: l-bfgs-b
            with bounds, bfgs up to 1000 variables, else l-bfgs.
        jac: a function that returns the gradient, or True; default: automatic, and so is it with SciPy's
            "2-point", "3-point" and "cs", since no differences are needed.
        hess: a function that returns the Hessian (n, n); default: automatic.
        hessp: a function of (x, p, *args) that returns the Hessian times p; default: automatic.
        bounds: n pairs (low, high) with None for no bound, or an object with ``lb`` and ``ub``.
        tol: the same as the option ``gtol``.
        callback: called after each iteration as ``callback(intermediate_result=...)`` if its parameter has
            this name, else with x; StopIteration stops.
        options: see above.

    Returns:
        An :class:`~nbdl.optim.result.OptimizeResult`; x and jac have the form of x0.

    Raises:
        ValueError: the method or an option is unknown, a tolerance is negative, bounds cross or are given to
            a method that has none, or a derivative has the wrong size.
        TypeError: an argument is of another kind than those above, or ``fun`` does not return a tensor.
        RuntimeError: x0 is empty, or ``fun`` returns no scalar, or does not depend on x differentiably.

    Example:
        >>> import nbdl
        >>> def rosenbrock(x):
        ...     return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        >>> result = nbdl.optim.minimize(rosenbrock, [-1.2, 1.0], method="trust-exact", tol=1e-10)
        >>> result.success, result.x.round(6).tolist()
        (True, [1.0, 1.0])
    """
    function("minimize", "fun", fun)
    if not isinstance(args, tuple):
        args = (args,)
    if not (options is None or isinstance(options, dict)):
        raise TypeError(f"minimize: options must be a dict or None, got {options!r}")
    variables = Variables("minimize", x0)
    start = variables.start
    if variables.layout.size == 0:
        raise RuntimeError("minimize: x0 has no elements")
    box = Box.of("minimize", bounds, start)
    settings = dict(options or {})
    prints = settings.pop("disp", False)
    limits = _limits(settings, tol, variables.layout.size)
    chosen = _method(method, box, bounds is not None, settings, variables.layout.size)
    jac, hess = [None if isinstance(x, str) and x in DIFFERENCES else x for x in (jac, hess)]
    for name, value in (("jac", jac), ("hess", hess), ("hessp", hessp)):
        if not (value is None or callable(value) or (name == "jac" and isinstance(value, bool))):
            raise ValueError(
                f"minimize: {name} must be a function or None, got {value!r}; derivatives are exact "
                "without it"
            )
    objective = FunctionObjective(
        "minimize", variables, fun, args, jac, hess, hessp, chosen.needs_hessian, box
    )
    with no_grad():
        first = objective.evaluate(start if box is None else box.project(start))
        outcome = run(chosen, objective, first, limits, _callback(callback, variables))
    found = _result(variables, objective, outcome)
    if prints:
        print(f"{found.message} {found.nit} iterations, {found.nfev} evaluations, fun {found.fun:.6g}")
    return found


def _limits(settings: dict[str, Any], tol: float | None, n: int) -> Limits:
    """The limits, taken out of the options."""
    values: dict[str, Any] = {"max_iterations": max(1000, 200 * n)}
    if tol is not None:
        settings.setdefault("gtol", tol)
    for option, name in _LIMITS.items():
        if option in settings:
            check = limit if option.startswith("max") else _tolerance
            values[name] = check("minimize", option, settings.pop(option))
    return Limits(**values)


def _method(
    method: str | Method | None, box: Box | None, has_bounds: bool, settings: dict[str, Any], n: int
) -> Method:
    """The method by name, with the options that are left."""
    if isinstance(method, Method):
        if has_bounds or settings:
            raise ValueError("minimize: a Method object takes neither bounds nor options of a method")
        return method
    if method is None:
        name = _BOUNDED if has_bounds else "bfgs" if n <= _DENSE_BFGS_LIMIT else "l-bfgs"
    else:
        name = str(method).lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name != _BOUNDED and name not in METHODS:
        raise ValueError(
            f"minimize: method must be one of {', '.join([*METHODS, _BOUNDED])}, or a Method; got {method!r}"
        )
    if has_bounds and name != _BOUNDED:
        raise ValueError(f"minimize: method {name} takes no bounds; {_BOUNDED} does")
    if name == _BOUNDED and box is None:
        name = "l-bfgs"
    names = ["maxcor"] if name == _BOUNDED else option_names("minimize", name, settings)
    unknown = [option for option in settings if option not in names]
    if unknown:
        raise ValueError(
            f"minimize: method {name} has no option {', '.join(map(repr, unknown))}; it has "
            f"{', '.join([*_LIMITS, 'disp', *names])}"
        )
    if "maxcor" in settings:
        count("minimize", "maxcor", settings["maxcor"], 1)
    if name != _BOUNDED:
        return METHODS[name](**settings)
    assert box is not None
    return BoundedLBFGS(box, settings.get("maxcor", 10))


def _tolerance(caller: str, name: str, value: Any) -> float:
    return number(caller, name, value, least=0)


def _callback(
    callback: Callable[..., Any] | None, variables: Variables
) -> Callable[[Point, int], bool] | None:
    """A callback as :func:`run` takes it."""
    if callback is None:
        return None
    report = caller_of("minimize", callback)
    return lambda point, iterations: report(variables.returned(point.x), point.value)


def _result(variables: Variables, objective: Objective, outcome: Outcome) -> OptimizeResult:
    point = outcome.point
    found = OptimizeResult(
        x=variables.returned(point.x), fun=point.value, jac=variables.returned(point.gradient)
    )
    found.update({**ending(outcome.status, outcome.note), **outcome.counts(objective)})
    return found
