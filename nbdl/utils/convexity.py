"""Random tests of convexity, which answer with a counterexample.

A test that finds none proves nothing; one that finds a counterexample disproves convexity, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.func import grad_and_value, vmap
from nbdl.ops.functions import rand, randint, where


class Counterexample(NamedTuple):
    """Two points that break an inequality or leave a set.

    Attributes:
        x: the first point.
        y: the second point.
        t: the point between them is t x + (1 - t) y; 0 in the first-order test, which looks at y itself.
        excess: by how much the inequality is broken; 1 for a set.
    """

    x: Tensor
    y: Tensor
    t: float
    excess: float


def convex_set_counterexample(
    contains: Callable[[Tensor], Tensor], points: Tensor, trials: int = 1000
) -> Counterexample | None:
    """Look for a segment between two points of a set that leaves the set.

    Args:
        contains: takes a point and returns a boolean scalar tensor; evaluated by ``vmap``.
        points: (n, ...), where pairs are drawn from; those outside the set are left out.
        trials: number of random pairs, each with a random point between them.

    Returns:
        A pair with a point between them that is not in the set, or None.

    Raises:
        ValueError: no point is in the set, or ``trials`` is below 1.

    Source: Boyd, Vandenberghe (2004), Convex Optimization, section 2.1.4.

    Example:
        >>> import nbdl
        >>> generator = nbdl.manual_seed(0)
        >>> points = 4 * nbdl.rand(100, 2) - 2
        >>> nbdl.utils.convexity.convex_set_counterexample(lambda p: (p * p).sum() <= 1, points) is None
        True
        >>> nbdl.utils.convexity.convex_set_counterexample(lambda p: (p * p).sum() >= 1, points) is None
        False
    """
    inside = points[vmap(contains)(points)]
    if len(inside) == 0:
        raise ValueError("convex_set_counterexample: none of the points is in the set")
    x, y, t = _pairs("convex_set_counterexample", inside, trials)
    outside = vmap(contains)(_between(x, y, t)).logical_not()
    return _worst(x, y, t, outside.to(dtype=t.dtype), 0.0)


@no_grad()
def convex_function_counterexample(
    function: Callable[[Tensor], Tensor], points: Tensor, trials: int = 1000, rtol: float = 1e-6
) -> Counterexample | None:
    """Look for a chord below a function: f(t x + (1 - t) y) > t f(x) + (1 - t) f(y).

    Args:
        function: takes a point and returns a scalar; evaluated by ``vmap``.
        points: (n, ...), a sample of the domain, where pairs are drawn from.
        trials: number of random pairs, each with a random t.
        rtol: how much of the largest magnitude among the three values is taken for rounding.

    Returns:
        The pair whose chord is broken most, or None.

    Raises:
        ValueError: there is no point, or ``trials`` is below 1.

    Source: Boyd, Vandenberghe (2004), Convex Optimization, section 3.1.1.

    Example:
        >>> import nbdl
        >>> points = nbdl.linspace(-3, 3, 50)
        >>> nbdl.utils.convexity.convex_function_counterexample(lambda x: x ** 2, points) is None
        True
        >>> found = nbdl.utils.convexity.convex_function_counterexample(nbdl.sin, points)
        >>> (found.t * found.x + (1 - found.t) * found.y).item() > 0  # sin is concave there
        True
    """
    x, y, t = _pairs("convex_function_counterexample", points, trials)
    f = vmap(function)
    left, right, middle = f(x), f(y), f(_between(x, y, t))
    return _worst(x, y, t, middle - (t * left + (1 - t) * right), rtol, left, right, middle)


def first_order_counterexample(
    function: Callable[[Tensor], Tensor], points: Tensor, trials: int = 1000, rtol: float = 1e-6
) -> Counterexample | None:
    """Look for a tangent above a differentiable function: f(x) + grad f(x)^T (y - x) > f(y).

    Args:
        function: takes a point and returns a scalar; differentiated, and evaluated by ``vmap``.
        points: (n, ...), a sample of the domain, where pairs are drawn from.
        trials: number of random pairs.
        rtol: how much of the largest magnitude among the three terms is taken for rounding.

    Returns:
        The pair whose tangent is furthest above, or None.

    Raises:
        ValueError: there is no point, or ``trials`` is below 1.

    Source: Boyd, Vandenberghe (2004), Convex Optimization, section 3.1.3.

    Example:
        >>> import nbdl
        >>> points = nbdl.linspace(-3, 3, 50)
        >>> nbdl.utils.convexity.first_order_counterexample(nbdl.exp, points) is None
        True
        >>> nbdl.utils.convexity.first_order_counterexample(lambda x: x ** 3, points) is None
        False
    """
    x, y, t = _pairs("first_order_counterexample", points, trials)
    gradient, value = vmap(grad_and_value(function))(x)
    with no_grad():
        slope = (gradient * (y - x)).reshape(trials, -1).sum(1)
        target = vmap(function)(y)
        return _worst(x, y, 0 * t, value + slope - target, rtol, value, slope, target)


def _pairs(label: str, points: Tensor, trials: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of points, (trials, ...) each, and weights (trials,)."""
    if points.ndim == 0 or len(points) == 0 or trials < 1:
        raise ValueError(
            f"{label}: need at least one point, as (n, ...), and one trial, got points of shape "
            f"{tuple(points.shape)} and trials={trials}"
        )
    indices = randint(0, len(points), (2, trials), device=points.device)
    return points[indices[0]], points[indices[1]], rand(trials, dtype=points.dtype, device=points.device)


def _between(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    weight = t.reshape(-1, *[1] * (x.ndim - 1))
    return weight * x + (1 - weight) * y


def _worst(
    x: Tensor, y: Tensor, t: Tensor, excess: Tensor, rtol: float, *terms: Tensor
) -> Counterexample | None:
    """The pair with the largest excess above rounding, None if there is none."""
    for term in terms:
        excess = where(excess > rtol * term.abs(), excess, 0.0)
    k = int(excess.argmax())
    found = float(excess[k])
    return Counterexample(x[k], y[k], float(t[k]), found) if found > 0 else None
