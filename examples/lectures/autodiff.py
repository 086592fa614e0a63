#!/usr/bin/env python
"""Automatic differentiation: the computational graph, forward and reverse mode, and what they cost.

The same small graph is walked forward (one pass an input) and in reverse (one pass an output); the
multiplications and additions of the Jacobians of wide and tall networks are counted; and automatic
differentiation is set beside symbolic (which repeats itself) and numerical differentiation (which rounds).

Source: B, computational graphs and automatic differentiation (groups 33, 34).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import viz
from nbdl.formula import Formula
from nbdl.func import grad, jacfwd, jacrev, jvp

POINT = (2.0, 5.0)


def regression_graph(n_samples: int = 64, n_features: int = 8) -> viz.Graph:
    """The graph of linear regression R^8 -> R: the mean over the samples of the squared error."""
    X, t = nbdl.randn(n_samples, n_features), nbdl.randn(n_samples, requires_grad=True)
    w, b = nbdl.randn(n_features, requires_grad=True), nbdl.zeros((), requires_grad=True)
    loss = ((X @ w + b - t) ** 2).mean()
    return viz.graph(loss, {"X": X, "w": w, "b": b, "t": t})


def steps(x1: nbdl.Tensor, x2: nbdl.Tensor) -> tuple[nbdl.Tensor, ...]:
    """The values of the graph y = ln x1 + x1 x2 - sin x2, one operation each."""
    v1, v2 = x1, x2
    v3 = v1.log()
    v4 = v1 * v2
    v5 = v2.sin()
    v6 = v3 + v4
    return v1, v2, v3, v4, v5, v6, v6 - v5


STEPS = ("x1", "x2", "ln v1", "v1 v2", "sin v2", "v3 + v4", "v6 - v5")


class Trace(NamedTuple):
    """A value of the graph with its derivatives by x1 and x2, and the derivative of y by it."""

    value: float
    by_x1: float
    by_x2: float
    adjoint: float


def traces() -> list[Trace]:
    """Forward traces by both inputs, and the reverse trace, of the worked graph."""
    x1, x2 = (nbdl.tensor(x, requires_grad=True) for x in POINT)
    one, zero = nbdl.tensor(1.0), nbdl.tensor(0.0)
    _, by_x1 = jvp(steps, (x1, x2), (one, zero))
    _, by_x2 = jvp(steps, (x1, x2), (zero, one))
    values = steps(x1, x2)
    adjoints = nbdl.autograd.grad(values[-1], values)
    columns = (values, by_x1, by_x2, adjoints)
    return [Trace(*[tensor.item() for tensor in row]) for row in zip(*columns, strict=True)]


def worked_counts() -> dict[str, int]:
    """Operations on scalars for y alone, and for y with both derivatives, as each mode computes them."""
    one, zero = nbdl.tensor(1.0), nbdl.tensor(0.0)

    def forward() -> None:
        x = [nbdl.tensor(value) for value in POINT]
        for seeds in ((one, zero), (zero, one)):
            jvp(lambda *v: steps(*v)[-1], tuple(x), seeds)

    def reverse() -> None:
        x = [nbdl.tensor(value, requires_grad=True) for value in POINT]
        nbdl.autograd.grad(steps(*x)[-1], x)

    ways: dict[str, Callable[[], Any]] = {
        "y alone": lambda: steps(*[nbdl.tensor(value) for value in POINT]),
        "forward mode, a pass for each input": forward,
        "reverse mode, one pass": reverse,
    }
    counts = {}
    for name, way in ways.items():
        with nbdl.profiler.profile() as profile:
            way()
        counts[name] = len(profile.events)
    return counts


class Cost(NamedTuple):
    """Multiplications and additions of the matrix products in a Jacobian."""

    inputs: int
    outputs: int
    forward: int
    reverse: int


def cost(n_in: int, n_out: int, hidden: int = 64) -> Cost:
    """Count the operations of both modes for a network n_in -> hidden -> hidden -> n_out."""
    K1, K2, K3 = nbdl.randn(hidden, n_in), nbdl.randn(hidden, hidden), nbdl.randn(n_out, hidden)

    def network(x: nbdl.Tensor) -> nbdl.Tensor:
        return K3 @ (K2 @ (K1 @ x).tanh()).tanh()

    x = nbdl.randn(n_in)
    counts = []
    for jacobian in (jacfwd, jacrev):
        with nbdl.profiler.profile() as profile:
            jacobian(network)(x)
        counts.append(sum(event.flops for event in profile.events))
    return Cost(n_in, n_out, *counts)


class Swell(NamedTuple):
    """How the derivative of an iterated map grows."""

    iterations: int
    symbolic: int
    shared: int


def swell(iterations: int) -> Swell:
    """The derivative of l <- 4 l (1 - l), iterated: characters when written out, operations when shared."""

    def iterated(x: Any) -> Any:
        for _ in range(iterations):
            x = 4 * x * (1 - x)
        return x

    derivative = Formula("logistic", iterated, 1).vjp(1).terms[0].formula
    return Swell(iterations, len(repr(derivative.outputs[0])), len(derivative.nodes))


def errors_of_differences(h: list[float]) -> dict[str, list[float]]:
    """The errors of differences, one-sided and central, and of automatic differentiation: exp(sin x) at 1."""

    def f(x: nbdl.Tensor) -> nbdl.Tensor:
        return x.sin().exp()

    x = nbdl.tensor(1.0)
    exact = math.cos(1) * math.exp(math.sin(1))

    def error(slope: Callable[[float], nbdl.Tensor]) -> list[float]:
        return [abs(slope(step).item() - exact) for step in h]

    return {
        "one-sided": error(lambda step: (f(x + step) - f(x)) / step),
        "central": error(lambda step: (f(x + step) - f(x - step)) / (2 * step)),
        "automatic": error(lambda step: grad(f)(x)),
    }


def draw_graph(figure: Any, graph: viz.Graph) -> None:
    """The graph of linear regression."""
    axes = graph.draw(figure.subplots())
    axes.set_title("Linear regression R^8 -> R on 64 samples: blue gets a gradient, grey gets none")


def draw_errors(figure: Any, h: list[float], errors: dict[str, list[float]]) -> None:
    """Errors against the step."""
    axes = figure.subplots()
    floor = 1e-17  # an error of 0 has no logarithm
    for (name, values), style in zip(errors.items(), ("-o", "-s", "--"), strict=True):
        axes.plot(h, [max(value, floor) for value in values], style, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="step h", ylabel="error of the derivative",
        title="exp(sin x) at 1: truncation to the right, rounding to the left",
    )  # fmt: skip
    axes.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    graph = regression_graph()
    lesson.table(
        "The graph of linear regression: variables and operators, operands before what reads them",
        ("vertex", "kind", "shape", "reads"),
        [
            (v.label, v.kind, v.shape, ", ".join(graph.vertices[a].label for a, b in graph.edges if b == k))
            for k, v in enumerate(graph.vertices)
        ],
    )
    lesson.picture("computational_graph", draw_graph, graph, size=graph.size)

    rows = [(f"v{k}", name, *trace) for k, (name, trace) in enumerate(zip(STEPS, traces(), strict=True), 1)]
    lesson.table(
        "y = ln x1 + x1 x2 - sin x2 at (2, 5): two forward passes, or one reverse pass",
        ("value", "operation", "v", "dv/dx1", "dv/dx2", "dy/dv (reverse)"),
        rows,
    )
    lesson.table(
        "Operations on the worked graph", ("what is computed", "operations"), list(worked_counts().items())
    )
    sizes = [(256, 1), (32, 32), (1, 256)]
    lesson.table(
        "Operations of the Jacobian: forward mode costs inputs, reverse mode costs outputs",
        ("inputs", "outputs", "forward", "reverse", "cheaper"),
        [
            (*c, "forward" if c.forward < c.reverse else "reverse")
            for c in (cost(n_in, n_out) for n_in, n_out in sizes)
        ],
    )
    lesson.table(
        "Symbolic differentiation writes common parts again and again; automatic differentiation shares them",
        ("iterations of l <- 4 l (1 - l)", "characters written out", "operations shared"),
        [swell(n) for n in (1, 2, 4, 6, 8)],
    )
    h = [10.0 ** (-k / 2) for k in range(2, 31)]
    errors = errors_of_differences(h)
    lesson.table(
        "Numerical differentiation of exp(sin x) at 1: the best error of each",
        ("method", "smallest error", "at h"),
        [
            (name, f"{min(values):.1e}", f"{h[values.index(min(values))]:.1e}" if name != "automatic" else "")
            for name, values in errors.items()
        ],
    )
    lesson.picture("errors_of_differences", draw_errors, h, errors)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
