"""How an optimization ended."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nbdl.optim.checks import function


class Status(enum.IntEnum):
    """Why a method stopped. Where SciPy's ``minimize`` has a number for it, it is that number.

    Methods for mini-batches take one step at a time, and look for no end: ``STEPPED``.
    """

    CONVERGED = 0
    MAX_ITERATIONS = 1
    SEARCH_FAILED = 2
    NON_FINITE = 3
    MAX_EVALUATIONS = 4
    UNBOUNDED = 5
    SMALL_CHANGE = 6
    SMALL_STEP = 7
    STEPPED = 8
    STOPPED = 99

    @property
    def success(self) -> bool:
        """Whether a stationary point was found as exactly as it was asked for, or the one step was taken."""
        return self in (Status.CONVERGED, Status.SMALL_CHANGE, Status.SMALL_STEP, Status.STEPPED)


MESSAGES = {
    Status.CONVERGED: "The gradient is as small as asked for.",
    Status.MAX_ITERATIONS: "The maximum number of iterations was reached.",
    Status.SEARCH_FAILED: "No lower value was found along the last direction: the limit of the precision, a "
    "wrong gradient, or a function that is not smooth.",
    Status.NON_FINITE: "The function or its gradient is not finite at the start, or the Hessian later.",
    Status.MAX_EVALUATIONS: "The maximum number of function evaluations was reached.",
    Status.UNBOUNDED: "The function seems to be unbounded from below.",
    Status.SMALL_CHANGE: "The relative reduction of the function is as small as asked for.",
    Status.SMALL_STEP: "The step is as small as asked for.",
    Status.STEPPED: "A step was taken.",
    Status.STOPPED: "The callback stopped the iteration.",
}


def ending(status: Status, note: str = "") -> dict[str, Any]:
    """Status, message and success as entries of an :class:`OptimizeResult`."""
    message = " ".join(filter(None, (MESSAGES[status], note)))
    return {"success": status.success, "status": status, "message": message}


class OptimizeResult(dict):
    """The result of an optimization: a dict whose entries are attributes, like SciPy's.

    Attributes:
        x: the best point.
        fun: the value there.
        jac: the gradient there.
        success: whether it is a stationary point as exact as asked for.
        status: a :class:`Status`.
        message: the status in words.
        nit: iterations.
        nfev: evaluations of the function.
        njev: evaluations of the gradient.
        nhev: products of the Hessian with a vector, n for a whole Hessian; 1 for one that the user gives.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"OptimizeResult has no entry {name!r}; it has {', '.join(self)}") from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return sorted(self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:>{width}}: {value!r}" for name, value in self.items())


def reported(
    status: Status,
    fun: float,
    *,
    nfev: int,
    njev: int,
    nit: int = 1,
    nhev: int = 0,
    note: str = "",
    **more: Any,
) -> OptimizeResult:
    """How a step of an optimizer ended: value, status, message, all counts, and what a method adds."""
    return OptimizeResult(fun=fun, **ending(status, note), nit=nit, nfev=nfev, njev=njev, nhev=nhev, **more)


def caller_of(caller: str, callback: Callable[..., Any]) -> Callable[[Any, float], bool]:
    """A function of x and the value that calls a user's callback, and tells whether it wants to stop.

    The callback gets an :class:`OptimizeResult` if its only parameter is called ``intermediate_result``, else
    x.

    Args:
        caller: the name that errors begin with.
        callback: of the user.

    Raises:
        TypeError: it is no function of one argument.
    """
    function(caller, "callback", callback)
    takes_result = False
    with suppress(ValueError):  # a builtin without a signature
        signature = inspect.signature(callback)
        takes_result = list(signature.parameters) == ["intermediate_result"]
        try:
            signature.bind(None)
        except TypeError:
            if not takes_result:
                raise TypeError(
                    f"{caller}: callback must take one argument, x or intermediate_result; its signature is "
                    f"{signature}"
                ) from None

    def call(x: Any, value: float) -> bool:
        try:
            if takes_result:
                callback(intermediate_result=OptimizeResult(x=x, fun=value))
            else:
                callback(x)
        except StopIteration:
            return True
        return False

    return call
