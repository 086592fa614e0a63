#!/usr/bin/env python
"""Fits scattered noisy measurements of a surface by radial basis functions, with Levenberg-Marquardt.

    python examples/rbf_regression.py
    python examples/rbf_regression.py --centers 60 --backend numba

The surface is Franke's: two peaks, a dip and a slope on the unit square. Centres start by k-means among the
samples, widths from the distances between centres, and weights from linear least squares; then all are
trained together. The error is measured on a grid without noise, and set against the start and against Adam
with as many steps.

Sources: Franke (1979), A critical comparison of some methods for interpolation of scattered data; Moré
(1978), The Levenberg-Marquardt algorithm: implementation and theory.
"""

from __future__ import annotations

import argparse
import copy
import sys

import application
import nbdl
from nbdl import nn
from nbdl.utils.metrics import r2_score

NOISE = 0.02
ITERATIONS = 5  # an epoch


def franke(points: nbdl.Tensor) -> nbdl.Tensor:
    """The surface at points (n, 2), with values (n,) from 0 to 1.2."""
    x, y = (9 * points).unbind(1)
    return (
        0.75 * (-((x - 2) ** 2 + (y - 2) ** 2) / 4).exp()
        + 0.75 * (-((x + 1) ** 2) / 49 - (y + 1) / 10).exp()
        + 0.5 * (-((x - 7) ** 2 + (y - 3) ** 2) / 4).exp()
        - 0.2 * (-((x - 4) ** 2) - (y - 7) ** 2).exp()
    )


def grid_of(n: int) -> nbdl.Tensor:
    """The points of an n x n grid on the unit square, (n^2, 2)."""
    ticks = nbdl.linspace(0, 1, n, dtype=nbdl.float64)
    return nbdl.stack(nbdl.meshgrid(ticks, ticks, indexing="ij"), 2).reshape(-1, 2)


@nbdl.no_grad()
def start(model: nn.RBFNetwork, points: nbdl.Tensor, values: nbdl.Tensor) -> None:
    """Centres and widths from where the points are, weights from linear least squares."""
    nn.rbf.place_centers(model, points)
    features = nbdl.cat([model.rbf(points), nbdl.ones(len(points), 1, dtype=nbdl.float64)], 1)
    weights = nbdl.linalg.lstsq(features, values.unsqueeze(1)).solution.squeeze(1)
    model.output.weight.copy_(weights[:-1])
    model.output.bias.copy_(weights[-1])


def fit_by_adam(
    options: argparse.Namespace, model: nn.Module, points: nbdl.Tensor, values: nbdl.Tensor, steps: int
) -> None:
    """The usual way, for comparison."""
    optimizer = nbdl.optim.Adam(model.parameters(), lr=5e-3)

    @application.compiled(options)
    def descend() -> None:
        optimizer.zero_grad()
        loss = (model(points).squeeze(1) - values).square().mean()
        loss.backward()
        optimizer.step()

    for _ in range(steps):
        descend()


def train(options: argparse.Namespace) -> application.Figures:
    """Fit the samples; returns errors."""
    count, centers, epochs = (100, 8, 3) if options.quick else (options.samples, options.centers, 8)
    points = nbdl.rand(count, 2, dtype=nbdl.float64)
    values = franke(points) + NOISE * nbdl.randn(count, dtype=nbdl.float64)
    grid = grid_of(20 if options.quick else 60)
    truth = franke(grid)
    model = nn.RBFNetwork(2, centers, dtype=nbdl.float64)
    start(model, points, values)
    rival = copy.deepcopy(model)
    optimizer = nbdl.optim.LevenbergMarquardt(model.parameters(), max_iter=ITERATIONS)

    @nbdl.no_grad()
    def error(network: nn.Module) -> float:
        return (network(grid).squeeze(1) - truth).square().mean().sqrt().item()

    at_start = error(model)
    history = application.fit(
        options,
        lambda batch: optimizer.step(lambda: model(points).squeeze(1) - values),
        [None], epochs, {"model": model, "optimizer": optimizer}, lambda: {"error": error(model)},
    )  # fmt: skip
    fit_by_adam(options, rival, points, values, epochs * ITERATIONS)
    with nbdl.no_grad():
        fitted = model(grid).squeeze(1)

    def draw(left, right):
        n = round(len(grid) ** 0.5)
        picture = left.pcolormesh(*[t.reshape(n, n).cpu().numpy() for t in (*grid.unbind(1), fitted)])
        left.figure.colorbar(picture, label="height")
        left.scatter(*points.T.cpu().numpy(), s=3, color="white", label="samples")
        left.scatter(*model.rbf.centers.detach().T.cpu().numpy(), marker="x", color="red", label="centres")
        left.set(xlim=(0, 1), ylim=(0, 1), xlabel="x", ylabel="y")
        left.legend(loc="upper right", facecolor="gray", labelcolor="white")
        iterations = range(0, ITERATIONS * len(history) + 1, ITERATIONS)
        right.semilogy(iterations, [at_start, *(epoch["error"] for epoch in history)], ".-")
        right.axhline(NOISE, color="gray", linestyle=":", label="noise of a sample")
        right.set(xlabel="iterations of Levenberg-Marquardt", ylabel="root mean squared error")
        right.legend()

    application.save_picture(options.out, draw, columns=2)
    return {
        "error at the start": at_start,
        "error after Levenberg-Marquardt": history[-1]["error"],
        "error after as many steps of Adam": error(rival),
        "R2": r2_score(fitted, truth).item(),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "rbf_regression.png")
    parser.add_argument("--samples", type=application.positive, default=600, help="default 600")
    parser.add_argument("--centers", type=application.positive, default=30, help="default 30")
    return application.run(parser, argv, train)


if __name__ == "__main__":
    sys.exit(main())
