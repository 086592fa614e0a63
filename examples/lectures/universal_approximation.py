#!/usr/bin/env python
"""Universal approximation: w^T sigma(K x + b) comes as close to a continuous function as one likes.

Two ways to show it. By construction, in one dimension: a staircase of steep sigmoids, one for each small rise
of the function, whose error is bounded by the rises. By least squares: random K and b, and the best w for
them, on the unit interval and the unit square; the width is doubled until the largest error is below eps.

Source: N, B, universal approximation (group 5).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl

Function = Callable[[nbdl.Tensor], nbdl.Tensor]


class OneLayer(NamedTuple):
    """x -> sigmoid(K x + b) w for x (N, n)."""

    K: nbdl.Tensor
    b: nbdl.Tensor
    w: nbdl.Tensor

    def __call__(self, x: nbdl.Tensor) -> nbdl.Tensor:
        return (x @ self.K.T + self.b).sigmoid() @ self.w


def wave(x: nbdl.Tensor) -> nbdl.Tensor:
    """sin(2 pi x) + |x - 1/2| on [0, 1], which has a kink."""
    return (2 * math.pi * x[:, 0]).sin() + (x[:, 0] - 0.5).abs()


def hill(x: nbdl.Tensor) -> nbdl.Tensor:
    """A hill and a ripple on [0, 1]^2."""
    return (-8 * (x - 0.4).square().sum(1)).exp() + 0.2 * (5 * x[:, 0] * x[:, 1]).sin()


def grid(dims: int, n: int) -> nbdl.Tensor:
    """Points of [0, 1]^dims, (n^dims, dims)."""
    axes = nbdl.meshgrid(*[nbdl.linspace(0, 1, n)] * dims, indexing="ij")
    return nbdl.stack([a.flatten() for a in axes], dim=1)


def staircase(f: Function, width: int) -> OneLayer:
    """f(0) + sum_i (f(x_i) - f(x_{i-1})) step(x - (x_{i-1} + x_i) / 2), each step being a steep sigmoid.

    The first unit is constant, with weight f(0); the others have a step each.
    """
    x = nbdl.linspace(0, 1, width)
    values = f(x.unsqueeze(1))
    slope = 10.0 * width
    middles = (x[1:] + x[:-1]) / 2
    zero = nbdl.zeros(1)
    K = nbdl.cat([zero, nbdl.full((width - 1,), slope)]).unsqueeze(1)
    b = nbdl.cat([nbdl.full((1,), 40.0), -slope * middles])
    return OneLayer(K, b, nbdl.cat([values[:1], values.diff()]))


def random_features(f: Function, points: nbdl.Tensor, width: int) -> OneLayer:
    """Random K, hinges b through the cube, and the w of least squares at points (N, n)."""
    dims = points.shape[1]
    K = (4 + 4 * width / dims) ** (1 / dims) * nbdl.randn(width, dims)
    b = -(K * nbdl.rand(width, dims)).sum(1)
    features = (points @ K.T + b).sigmoid()
    return OneLayer(K, b, nbdl.linalg.lstsq(features, f(points), driver="gelsd").solution)


def error(f: Function, net: OneLayer, dims: int) -> float:
    """The largest difference on a fine grid."""
    x = grid(dims, 2001 if dims == 1 else 81)
    return (net(x) - f(x)).abs().max().item()


class Fit(NamedTuple):
    """The first width, of those that double, that reaches eps."""

    eps: float
    width: int
    error: float
    net: OneLayer


def width_for(eps: float, make: Callable[[int], OneLayer], f: Function, dims: int, most: int = 4096) -> Fit:
    """Double the width until the error is at most eps.

    Raises:
        ValueError: even the largest width does not reach it.
    """
    width = 4
    while width <= most:
        net = make(width)
        reached = error(f, net, dims)
        if reached <= eps:
            return Fit(eps, width, reached, net)
        width *= 2
    raise ValueError(f"width_for: {most} units do not reach {eps}")


def draw_fits(figure: Any, x: Any, target: Any, columns: dict[str, list[tuple[str, Any]]]) -> None:
    """The function with its approximations, and the errors below."""
    axes = figure.subplots(2, len(columns), sharex=True, sharey="row", height_ratios=(2, 1))
    for (title, fits), upper, lower in zip(columns.items(), *axes, strict=True):
        upper.plot(x, target, color="black", linewidth=4, alpha=0.25, label="f")
        for (label, values), style in zip(fits, ("-", "--", "-."), strict=False):
            upper.plot(x, values, style, label=label, linewidth=1.6)
            lower.plot(x, abs(values - target).clip(1e-7), style, linewidth=1.2)
        upper.set(title=title)
        lower.set(xlabel="x", yscale="log")
        upper.legend(fontsize=11)
    axes[0, 0].set_ylabel("value")
    axes[1, 0].set_ylabel("error")


def draw_square(figure: Any, target: Any, value: Any, width: int) -> None:
    """The function on the square, its approximation, and the error."""
    panels = (("f", target), (f"{width} units", value), ("error", value - target))
    for axes, (title, image) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        shown = axes.imshow(image.T, origin="lower", extent=(0, 1, 0, 1))
        axes.set(title=title, xlabel="$x_1$")
        axes.grid(False)
        figure.colorbar(shown, ax=axes, orientation="horizontal", shrink=0.9, label="value")
    figure.axes[0].set_ylabel("$x_2$")


def show(lesson: Lesson) -> None:
    """The program."""
    line, square = grid(1, 301 if lesson.quick else 1501), grid(2, 21 if lesson.quick else 41)
    ways: list[tuple[str, Function, int, Callable[[int], OneLayer], tuple[float, ...]]] = [
        ("staircase on [0, 1]", wave, 1, partial(staircase, wave), (0.3, 0.1, 0.03)),
        ("least squares on [0, 1]", wave, 1, partial(random_features, wave, line), (0.3, 0.1, 0.01)),
        ("least squares on [0, 1]^2", hill, 2, partial(random_features, hill, square), (0.1, 0.01, 1e-3)),
    ]
    if lesson.quick:
        ways = [(*way[:-1], way[-1][:2]) for way in ways]
    found = {
        name: [width_for(eps, make, f, dims) for eps in tolerances]
        for name, f, dims, make, tolerances in ways
    }
    lesson.table(
        "The first width, of 4, 8, 16, ..., whose largest error is at most eps",
        ("", "eps", "width", "largest error"),
        [(name, fit.eps, fit.width, fit.error) for name, fits in found.items() for fit in fits],
    )
    x, fine = grid(1, 1000), grid(2, 81)
    one_dimensional = {
        name: [(f"{fit.width} units", lecture.array(fit.net(x))) for fit in fits]
        for name, fits in list(found.items())[:2]
    }
    lesson.picture(
        "universal_approximation", draw_fits, lecture.array(x[:, 0]), lecture.array(wave(x)), one_dimensional,
        size=(12, 6),
    )  # fmt: skip
    best = found["least squares on [0, 1]^2"][-1]
    images = (lecture.array(v.reshape(81, 81)) for v in (hill(fine), best.net(fine)))
    lesson.picture("universal_approximation_square", draw_square, *images, best.width, size=(12, 4.8))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
