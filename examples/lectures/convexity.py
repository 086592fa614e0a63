#!/usr/bin/env python
"""Convexity and stationarity: random tests with counterexamples, descent directions, and log-sum-exp.

Sets are tested by segments, functions by chords and by tangents. f(x) = log sum exp(a_i^T x + b_i) has a
minimum exactly if 0 lies in the relative interior of the convex hull of the a_i; the weights that show it are
the softmax at the minimum, since the gradient there is A^T softmax(A x + b) = 0.

Source: D, convex optimization and stationarity (groups 37, 38, 39).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl.func import grad, hessian
from nbdl.optim import minimize
from nbdl.utils.convexity import (
    convex_function_counterexample,
    convex_set_counterexample,
    first_order_counterexample,
)

Function = Callable[[nbdl.Tensor], nbdl.Tensor]

SETS: dict[str, Function] = {
    "ball |x| <= 1": lambda x: nbdl.linalg.norm(x) <= 1,
    "half-space 1^T x <= 1": lambda x: x.sum() <= 1,
    "outside of a ball |x| >= 1": lambda x: nbdl.linalg.norm(x) >= 1,
}
FUNCTIONS: dict[str, Function] = {
    "|x|_1": lambda x: x.abs().sum(),
    "|x|_2": nbdl.linalg.norm,
    "|x|_inf": lambda x: x.abs().max(),
    "log sum exp x": lambda x: x.logsumexp(0),
    "x_1 x_2": lambda x: x[0] * x[1],
    "sum sin x": lambda x: x.sin().sum(),
}


def written(counterexample: Any) -> str:
    """A counterexample as text."""
    if counterexample is None:
        return "not refuted"
    x, y = (", ".join(f"{value:.2f}" for value in point.tolist()) for point in counterexample[:2])
    return f"x = ({x}), y = ({y}), t = {counterexample.t:.2f}"


def refutations(trials: int) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """What the random tests say of the sets, and of the functions by chords and by tangents."""
    points = 4 * nbdl.rand(500, 2) - 2
    sets = [(name, written(convex_set_counterexample(f, points, trials))) for name, f in SETS.items()]
    functions = []
    for name, f in FUNCTIONS.items():
        chord = convex_function_counterexample(f, points, trials)
        tangent = first_order_counterexample(f, points, trials)
        functions.append((name, written(chord), "not refuted" if tangent is None else "refuted"))
    return sets, functions


def slope_and_change(step: float = 1e-4) -> list[tuple[str, float, float]]:
    """Directions d at a point of f = x_1^2 + 3 x_2^2 with d^T g, and the change of f along a short step."""

    def f(x: nbdl.Tensor) -> nbdl.Tensor:
        return x[0] ** 2 + 3 * x[1] ** 2

    x = nbdl.tensor([1.0, 1.0])
    g = grad(f)(x)
    directions = {
        "-g": -g,
        "Newton, -H^-1 g": -nbdl.linalg.solve(hessian(f)(x), g),
        "-e_1": nbdl.tensor([-1.0, 0.0]),
        "normal to g": nbdl.stack([-g[1], g[0]]),
        "g": g,
    }
    return [
        (name, (d @ g).item(), ((f(x + step * d) - f(x)) / step).item()) for name, d in directions.items()
    ]


class Minimum(NamedTuple):
    """The minimum of a function in a set.

    Attributes:
        x: where it is.
        value: of the function.
        slope: the length of the gradient, which need not be 0 at the boundary.
        least: the least g^T (y - x) over random y of the set, which is not negative: nothing there is below.
    """

    x: nbdl.Tensor
    value: float
    slope: float
    least: float


def constrained(half_width: float, trials: int) -> Minimum:
    """min f(x) = (x_1 - 2)^2 + 3 (x_2 - 1/2)^2 + x_1 x_2 subject to |x_1|, |x_2| <= half_width."""

    def f(x: nbdl.Tensor) -> nbdl.Tensor:
        return (x[0] - 2) ** 2 + 3 * (x[1] - 0.5) ** 2 + x[0] * x[1]

    bounds = [(-half_width, half_width)] * 2
    found = minimize(f, nbdl.zeros(2), method="l-bfgs-b", bounds=bounds, tol=1e-10)
    g = grad(f)(found.x)
    y = half_width * (2 * nbdl.rand(trials, 2) - 1)
    return Minimum(found.x, float(found.fun), nbdl.linalg.norm(g).item(), ((y - found.x) @ g).min().item())


def log_sum_exp(A: nbdl.Tensor, b: nbdl.Tensor) -> Function:
    """f(x) = log sum exp(a_i^T x + b_i), the a_i being the rows of A."""
    return lambda x: (A @ x + b).logsumexp(0)


def random_problem(m: int, n: int) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """m vectors a_i of R^n, scattered about 0, and b."""
    return nbdl.randn(m, n), nbdl.randn(m)


def certificate(A: nbdl.Tensor, b: nbdl.Tensor, x: nbdl.Tensor) -> tuple[float, float]:
    """The weights softmax(A x + b): the largest element of A^T p, and the smallest weight."""
    p = (A @ x + b).softmax(0)
    return (A.T @ p).abs().max().item(), p.min().item()


def three_hulls() -> dict[str, nbdl.Tensor]:
    """Vectors whose hull has 0 in its interior, on its boundary, and outside."""
    triangle = nbdl.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]])
    return {
        "0 inside": triangle,
        "0 on the boundary": triangle - (triangle[0] + triangle[1]) / 2,
        "0 outside": triangle + nbdl.tensor([2.0, 0.0]),
    }


def draw_hulls(figure: Any, hulls: dict[str, Any]) -> None:
    """The hulls above, and the level sets of their functions below."""
    from nbdl import viz

    limits = (-6.0, 6.0)
    for k, (name, vectors) in enumerate(hulls.items(), 1):
        above = figure.add_subplot(2, 3, k, aspect="equal")
        above.fill(*vectors.T, color="C5", alpha=0.5)
        above.plot(*vectors.T, "o", color="C0", label="$a_i$")
        above.plot(0, 0, "+", color="C1", markersize=14, markeredgewidth=2.5, label="0")
        above.set(title=name, xlabel="$a_1$", ylabel="$a_2$", xlim=(-1.2, 3.3), ylim=(-1.7, 1.7))
        above.legend(fontsize=10)
        f = log_sum_exp(nbdl.tensor(vectors), nbdl.zeros(3))
        below = viz.contours(f, limits, limits, figure.add_subplot(2, 3, 3 + k, aspect="equal"), levels=15)
        viz.vector_field(lambda x, f=f: -grad(f)(x), limits, limits, below, points=9)
        below.set(xlabel="$x_1$", ylabel="$x_2$")


def show(lesson: Lesson) -> None:
    """The program."""
    trials = 500 if lesson.quick else 20_000
    sets, functions = refutations(trials)
    lesson.table(f"Convex sets: {trials:,} random segments", ("set", "segment that leaves it"), sets)
    lesson.table(
        f"Convex functions: {trials:,} random chords and tangents; every norm is convex",
        ("function", "chord below the function", "by tangents"),
        functions,
    )
    minima = {"|x_i| <= 3": constrained(3.0, trials), "|x_i| <= 1": constrained(1.0, trials)}
    lesson.table(
        f"min f(x), x in a convex set: no way down inside, g^T (y - x) >= 0 ({trials:,} random y)",
        ("set", "x_1", "x_2", "f", "|gradient|", "least g^T (y - x)"),
        [(name, *m.x.tolist(), m.value, f"{m.slope:.1g}", f"{m.least:.1g}") for name, m in minima.items()],
    )
    lesson.table(
        "f falls along d exactly if d^T g < 0 (g not 0): at d^T g = 0 it may rise",
        ("direction d", "d^T g", "change of f for a step of 0.0001, relative to it"),
        slope_and_change(),
    )
    A, b = random_problem(*((30, 5) if lesson.quick else (200, 20)))
    f = log_sum_exp(A, b)
    rows = []
    for method in ("gradient-descent", "cg", "bfgs", "newton"):
        result = minimize(f, nbdl.zeros(A.shape[1]), method=method, tol=1e-8)
        residual, smallest = certificate(A, b, result.x)
        rows.append((method, result.nit, f"{result.fun:.8f}", f"{residual:.1e}", f"{smallest:.1e}"))
    lesson.table(
        f"Minimum of log sum exp(a_i^T x + b_i), {len(A)} vectors in R^{A.shape[1]}; stop at |g|_inf < 1e-8",
        ("method", "iterations", "f", "|A^T p|_inf", "min p > 0"),
        rows,
    )
    rows = []
    for name, vectors in three_hulls().items():
        result = minimize(
            log_sum_exp(vectors, nbdl.zeros(3)), nbdl.ones(2), options={"maxiter": 60}, tol=1e-9
        )
        size = nbdl.linalg.norm(result.x)
        rows.append(
            (name, f"{result.fun:.3g}", size, nbdl.linalg.norm(result.jac), result.status.name.lower())
        )
    lesson.table(
        "A minimum exists exactly if 0 is inside the hull; on the boundary log 2 is approached, not reached",
        ("hull of the a_i", "f", "|x|", "|gradient|", "stopped"),
        rows,
    )
    hulls = {name: lecture.array(vectors) for name, vectors in three_hulls().items()}
    lesson.picture("log_sum_exp", draw_hulls, hulls, size=(13, 8.5))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
