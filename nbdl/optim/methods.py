"""The methods of :func:`nbdl.optim.minimize` by name: direction and search, or model and region."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from nbdl.optim.checks import one_of
from nbdl.optim.directions import ConjugateGradient, LimitedMemory, QuasiNewton, SteepestDescent
from nbdl.optim.iteration import CubicRegularization, LineSearchMethod, Method, TrustRegionMethod
from nbdl.optim.newton_directions import NewtonCG, NewtonDirection, SaddleFree
from nbdl.optim.search import (
    Armijo,
    FixedStep,
    Goldstein,
    HagerZhang,
    MoreThuente,
    Search,
    StrongWolfe,
    WeakWolfe,
)
from nbdl.optim.trust_region import GLTR, Cauchy, Dogleg, Exact, Steihaug, Subproblem

SEARCHES: dict[str, Callable[..., Search]] = {
    "armijo": Armijo,
    "goldstein": Goldstein,
    "more-thuente": MoreThuente,
    "strong-wolfe": StrongWolfe,
    "weak-wolfe": WeakWolfe,
    "hager-zhang": HagerZhang,
    "fixed": FixedStep,
}


def make_search(line_search: str | Search, **settings: float) -> Search:
    """A search by name, or the one that is given."""
    return line_search if isinstance(line_search, Search) else SEARCHES[line_search](**settings)


def _gradient_descent(line_search: Any = "armijo", **settings: float) -> Method:
    return LineSearchMethod(SteepestDescent(), make_search(line_search, **settings))


def _conjugate_gradient(beta: str = "pr+", line_search: Any = "more-thuente", **settings: float) -> Method:
    if line_search == "more-thuente":
        settings = {"c2": 0.4, **settings}
    return LineSearchMethod(ConjugateGradient(beta), make_search(line_search, **settings))


def _bfgs(line_search: Any = "more-thuente", **settings: float) -> Method:
    return LineSearchMethod(QuasiNewton("bfgs"), make_search(line_search, **settings))


def _dfp(line_search: Any = "more-thuente", **settings: float) -> Method:
    if line_search == "more-thuente":
        settings = {"c2": 0.1, **settings}  # DFP corrects bad curvature slowly, and wants exact searches
    return LineSearchMethod(QuasiNewton("dfp"), make_search(line_search, **settings))


def _l_bfgs(maxcor: int = 10, line_search: Any = "more-thuente", **settings: float) -> Method:
    return LineSearchMethod(LimitedMemory(maxcor), make_search(line_search, **settings))


def _newton(line_search: Any = "more-thuente", **settings: float) -> Method:
    method = LineSearchMethod(NewtonDirection(), make_search(line_search, **settings))
    method.dense = True
    return method


def _newton_cg(
    line_search: Any = "more-thuente", max_cg_iterations: int | None = None, **settings: float
) -> Method:
    return LineSearchMethod(NewtonCG(max_cg_iterations), make_search(line_search, **settings))


def _saddle_free(subspace: int | None = None, line_search: Any = "more-thuente", **settings: float) -> Method:
    method = LineSearchMethod(SaddleFree(subspace), make_search(line_search, **settings))
    method.dense = subspace is None
    return method


def _trust(subproblem: Callable[[], Subproblem]) -> Callable[..., Method]:
    def make(
        initial_trust_radius: float = 1.0, max_trust_radius: float = math.inf, eta: float = 0.15
    ) -> Method:
        return TrustRegionMethod(subproblem(), initial_trust_radius, max_trust_radius, eta)

    return make


def _arc(initial_weight: float = 1.0) -> Method:
    return CubicRegularization(initial_weight)


METHODS: dict[str, Callable[..., Method]] = {
    "gradient-descent": _gradient_descent,
    "cg": _conjugate_gradient,
    "bfgs": _bfgs,
    "dfp": _dfp,
    "l-bfgs": _l_bfgs,
    "newton": _newton,
    "newton-cg": _newton_cg,
    "saddle-free-newton": _saddle_free,
    "trust-cauchy": _trust(Cauchy),
    "dogleg": _trust(Dogleg),
    "trust-ncg": _trust(Steihaug),
    "trust-krylov": _trust(GLTR),
    "trust-exact": _trust(Exact),
    "arc": _arc,
}
ALIASES = {"lbfgs": "l-bfgs", "trust-dogleg": "dogleg", "gd": "gradient-descent", "sfn": "saddle-free-newton"}


def option_names(caller: str, method: str, given: dict[str, Any]) -> list[str]:
    """The names of the options of a method, of which the numbers of its search are a part.

    Args:
        caller: the name that errors begin with.
        method: a key of :data:`METHODS`.
        given: options, which may name a search.

    Raises:
        ValueError: the search is none.
    """
    parameters = inspect.signature(METHODS[method]).parameters
    names = [name for name in parameters if name != "settings"]
    if "settings" in parameters:
        search = given.get("line_search", parameters["line_search"].default)
        if not isinstance(search, Search):
            one_of(caller, "line_search", search, SEARCHES)
            names += inspect.signature(SEARCHES[search]).parameters
    return names


def options_of(caller: str, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """All options of a method: those that are given, and the defaults of the others.

    Raises:
        TypeError: there is no such option.
        ValueError: the search is none.
    """
    names = option_names(caller, method, given)
    for name in given:
        if name not in names:
            raise TypeError(
                f"{caller}: unexpected keyword argument {name!r}; besides those of all methods there are "
                f"{', '.join(names)}"
            )
    bound = inspect.signature(METHODS[method]).bind(**given)
    bound.apply_defaults()
    of_search = bound.arguments.pop("settings", {})
    return {**bound.arguments, **of_search}
