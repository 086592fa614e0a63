#!/usr/bin/env python
"""Slopes of a hill: directional derivatives, the gradient as the steepest of them, and level sets.

The hill is h(x, y) = h0 / (1 + (x^2 + y^2) / R^2). Its slope in a direction is the dot product with the
gradient; the gradient of samples on a grid comes near to the exact one when it is told the spacing.

Source: L, gradients and steepest descent (group 36).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import lecture
from lecture import Lesson

import nbdl
from nbdl import viz
from nbdl.func import grad, jvp, vmap

HEIGHT, RADIUS, EDGE = 100.0, 20.0, 50.0  # metres
POINT = (18.0, -10.0)


def hill(p: nbdl.Tensor) -> nbdl.Tensor:
    """The height at a point (x, y)."""
    return HEIGHT / (1 + (p * p).sum() / RADIUS**2)


def directional_derivatives(angles: list[float]) -> list[tuple[float, float, float]]:
    """For each angle between direction and gradient, in degrees: slope by `jvp`, and the dot product."""
    p = nbdl.tensor(POINT)
    gradient = grad(hill)(p)
    uphill = gradient / nbdl.linalg.norm(gradient)
    sideways = nbdl.stack([-uphill[1], uphill[0]])
    rows = []
    for angle in angles:
        direction = math.cos(math.radians(angle)) * uphill + math.sin(math.radians(angle)) * sideways
        _, slope = jvp(hill, (p,), (direction,))
        rows.append((angle, slope.item(), (gradient @ direction).item()))
    return rows


def grid_gradients(n: int) -> tuple[float, float]:
    """Largest errors of the gradient by differences of n x n samples, with the spacing and without."""
    side = nbdl.linspace(-EDGE, EDGE, n)
    x, y = nbdl.meshgrid(side, side, indexing="ij")
    points = nbdl.stack([x, y], dim=-1)
    heights = vmap(vmap(hill))(points)
    exact = vmap(vmap(grad(hill)))(points)
    inner = (slice(1, -1), slice(1, -1))  # differences at the edge are one-sided
    errors = []
    for spacing in (2 * EDGE / (n - 1), 1.0):
        sampled = nbdl.stack(nbdl.gradient(heights, spacing=spacing), dim=-1)
        errors.append((sampled - exact)[inner].abs().max().item())
    return errors[0], errors[1]


def descend(rate: float, n_steps: int) -> nbdl.Tensor:
    """The path of steepest descent from near the top, (n_steps + 1, 2)."""
    p = nbdl.tensor([1.0, 2.0])
    path = [p]
    for _ in range(n_steps):
        p = p - rate * grad(hill)(p)
        path.append(p)
    return nbdl.stack(path)


def draw_hill(figure: Any, path: Any) -> None:
    """The hill in colours, as a surface, and its gradient over the level sets."""
    limits = (-EDGE, EDGE)
    side = nbdl.linspace(*limits, 101)
    x, y = nbdl.meshgrid(side, side, indexing="xy")
    heights = lecture.array(vmap(vmap(hill))(nbdl.stack([x, y], dim=-1)))
    first = figure.add_subplot(1, 3, 1, aspect="equal")
    colours = first.pcolormesh(lecture.array(side), lecture.array(side), heights, shading="nearest")
    figure.colorbar(colours, ax=first, label="height in m", shrink=0.7)
    first.grid(False)
    second = viz.surface(hill, limits, limits, figure.add_subplot(1, 3, 2, projection="3d"), cmap="cividis")
    second.set(zlabel="height in m")
    third = viz.contours(hill, limits, limits, figure.add_subplot(1, 3, 3, aspect="equal"), levels=12)
    viz.vector_field(grad(hill), limits, limits, third, points=13)
    third.plot(*path.T, color="C1", label="steepest descent")
    third.legend(loc="lower left", fontsize=10)
    for axes, title in ((first, "Height"), (second, "The graph"), (third, "Gradient, normal to level sets")):
        axes.set(xlabel="x in m", ylabel="y in m", title=title)


def show(lesson: Lesson) -> None:
    """The program."""
    gradient = grad(hill)(nbdl.tensor(POINT))
    lesson.table(
        f"At (x, y) = {POINT} the gradient is ({gradient[0].item():.4f}, {gradient[1].item():.4f})",
        ("angle to the gradient", "directional derivative", "gradient . direction"),
        directional_derivatives([0, 30, 60, 90, 120, 180]),
    )
    lesson.correction(
        "the gradient lies in the plane of (x, y), normal to the level sets, not on the surface; steepest "
        "descent reaches at best a stationary point."
    )
    lesson.table(
        "The gradient of samples: largest error inside the grid",
        ("grid", "with the spacing", "without: spacing 1"),
        [(f"{n} x {n}", *grid_gradients(n)) for n in (26, 51, 201)],
    )
    lesson.correction("np.gradient wants the spacing of the grid; without it the slopes are per grid step.")
    path = descend(rate=4.0, n_steps=40 if lesson.quick else 400)
    lesson.picture("hill", draw_hill, lecture.array(path), size=(17, 5.2))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
