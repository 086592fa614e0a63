#!/usr/bin/env python
"""Paths of optimizers: an ill-conditioned bowl, a local minimum, a saddle, and a noisy gradient.

SGD, momentum, Nesterov, AdaGrad, RMSProp and Adam begin at the same point of each landscape; their paths are
drawn side by side, still and animated.

Source: N, D, B and L, optimization (group 41).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import optim, viz

Function = Callable[[nbdl.Tensor], nbdl.Tensor]


class Landscape(NamedTuple):
    """A function of two variables, with what the picture shows of it."""

    function: Function
    start: tuple[float, float]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    noise: float = 0.0

    def sampled(self, p: nbdl.Tensor) -> nbdl.Tensor:
        """The function with a gradient that is noisy: unbiased, of this standard deviation."""
        return self.function(p) + self.noise * (nbdl.randn(2) @ p)


def bowl(p: nbdl.Tensor) -> nbdl.Tensor:
    """Steep one way, shallow the other: condition number 40."""
    return (p[0] ** 2 + 40 * p[1] ** 2) / 2


def two_valleys(p: nbdl.Tensor) -> nbdl.Tensor:
    """A local minimum near (1, 0), and the global one near (-1, 0)."""
    return (p[0] ** 2 - 1) ** 2 + 0.4 * p[0] + p[1] ** 2


def saddle(p: nbdl.Tensor) -> nbdl.Tensor:
    """A saddle at 0 between minima at (0, -2) and (0, 2)."""
    return p[0] ** 2 / 2 - p[1] ** 2 / 2 + p[1] ** 4 / 16


LANDSCAPES = {
    "ill-conditioned bowl": Landscape(bowl, (-4.0, 1.2), (-4.8, 1.6), (-1.6, 1.6)),
    "local minimum": Landscape(two_valleys, (1.8, 0.8), (-1.8, 2.0), (-1.1, 1.1)),
    "saddle": Landscape(saddle, (-2.0, 0.001), (-2.3, 1.4), (-0.7, 2.6)),
    "noisy gradient": Landscape(bowl, (-4.0, 1.2), (-4.8, 1.6), (-1.6, 1.6), noise=3.0),
}
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.03),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
    "Nesterov": lambda p: optim.Nesterov(p, optim.SGD, momentum=0.9, lr=0.01),
    "AdaGrad": lambda p: optim.Adagrad(p, lr=0.4),
    "RMSProp": lambda p: optim.RMSprop(p, lr=0.05, alpha=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.15),
}


def tracks(landscape: Landscape, n_steps: int) -> dict[str, Any]:
    """The path of each optimizer."""
    return {
        name: viz.optimizer_path(landscape.sampled, landscape.start, make, n_steps)
        for name, make in OPTIMIZERS.items()
    }


def draw(figure: Any, found: dict[str, dict[str, Any]]) -> None:
    """The landscapes side by side, one legend for all."""
    axes = figure.subplots(2, 2)
    for ax, (name, paths) in zip(axes.flat, found.items(), strict=True):
        function, _, xlim, ylim, _ = LANDSCAPES[name]
        viz.paths(function, paths, xlim, ylim, ax).get_legend().remove()
        ax.set(title=name, xlabel="x", ylabel="y")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


def animate(figure: Any, name: str, paths: dict[str, Any], frames: int) -> Any:
    """One landscape, animated."""
    function, _, xlim, ylim, _ = LANDSCAPES[name]
    ax = figure.subplots()
    ax.set(xlabel="x", ylabel="y")
    return viz.animate_paths(function, paths, xlim, ylim, ax, frames)


def show(lesson: Lesson) -> None:
    """The program."""
    n_steps = 30 if lesson.quick else 200
    found = {name: tracks(landscape, n_steps) for name, landscape in LANDSCAPES.items()}
    for name, paths in found.items():
        function = LANDSCAPES[name].function
        rows = []
        for optimizer, path in paths.items():
            values = [function(nbdl.tensor(path[k])) for k in (0, len(path) // 10, len(path) - 1)]
            rows.append((optimizer, *values, *path[-1].tolist()))
        lesson.table(
            f"{name}: {n_steps} steps",
            ("optimizer", "f at first", "after a tenth", "at last", "x", "y"),
            rows,
        )
    lesson.picture("optimizer_paths", draw, found, size=(13, 9.5))
    frames = 2 if lesson.quick else 30
    for name in ("ill-conditioned bowl", "saddle"):
        lesson.animation(f"paths_{name.split()[-1]}", animate, name, found[name], frames, size=(8, 5), fps=8)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
