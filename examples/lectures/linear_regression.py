#!/usr/bin/env python
"""Linear regression by SGD, momentum and Nesterov: the worked example of 30 samples.

y = 3 x + 2 + U(-0.1, 0.1); the model theta^T [1, x] begins at theta_0 = [10, 5] and takes 1000 steps, each
with the gradient of one sample. The slide does not say how x is distributed; here it is U(-5, 5). The three
solutions of the slide lie within the noise of [2, 3], and so do the ones found here.

Source: B, optimization (group 42).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import optim, viz
from nbdl.nn import functional as F

N_SAMPLES, TRUTH, START, N_STEPS = 30, (2.0, 3.0), (10.0, 5.0), 1000
NOISE = 0.1 / math.sqrt(3)  # the standard deviation of U(-0.1, 0.1)


class Method(NamedTuple):
    """An optimizer with the solution that the slide prints."""

    make: Callable[[list[nbdl.Tensor]], optim.Optimizer]
    slide: tuple[float, float]


METHODS = {
    "SGD, alpha 0.005": Method(lambda p: optim.SGD(p, lr=0.005), (1.9882, 2.9975)),
    "momentum, beta 0.6": Method(lambda p: optim.SGD(p, lr=0.005, momentum=0.6), (1.9837, 2.9933)),
    "Nesterov, beta 0.8": Method(
        lambda p: optim.Nesterov(p, optim.SGD, momentum=0.8, lr=0.005), (1.9738, 2.9914)
    ),
}


class Data(NamedTuple):
    """The samples: inputs [1, x] of shape (30, 2), and targets (30,)."""

    inputs: nbdl.Tensor
    targets: nbdl.Tensor

    def loss(self, theta: nbdl.Tensor) -> nbdl.Tensor:
        """The mean squared error of theta^T [1, x]."""
        return F.mse_loss(self.inputs @ theta, self.targets)

    def least_squares(self) -> tuple[nbdl.Tensor, nbdl.Tensor]:
        """The best theta, and the standard deviations that the noise gives it."""
        best = nbdl.linalg.lstsq(self.inputs, self.targets).solution
        covariance = NOISE**2 * nbdl.linalg.inv(self.inputs.T @ self.inputs)
        return best, covariance.diagonal().sqrt()


def make_data() -> Data:
    """30 samples of 3 x + 2 + U(-0.1, 0.1)."""
    x = 10 * nbdl.rand(N_SAMPLES) - 5
    noise = 0.2 * nbdl.rand(N_SAMPLES) - 0.1
    return Data(nbdl.stack([nbdl.ones(N_SAMPLES), x], dim=1), TRUTH[1] * x + TRUTH[0] + noise)


def solve(data: Data, method: Method, n_steps: int = N_STEPS) -> nbdl.Tensor:
    """The path of theta, (n_steps + 1, 2); every epoch goes through the samples in a new order."""
    theta = nbdl.tensor(START, requires_grad=True)
    optimizer = method.make([theta])
    path = [theta.detach().clone()]
    while len(path) <= n_steps:
        for i in nbdl.randperm(N_SAMPLES).tolist()[: n_steps + 1 - len(path)]:

            def closure(i: int = i) -> nbdl.Tensor:
                optimizer.zero_grad()
                loss = (data.inputs[i] @ theta - data.targets[i]) ** 2
                loss.backward()
                return loss

            optimizer.step(closure)
            path.append(theta.detach().clone())
    return nbdl.stack(path)


def draw_paths(figure: Any, data: Data, paths: dict[str, Any]) -> None:
    """Each path in its panel, over the level sets of the mean squared error."""
    for k, (ax, (name, path)) in enumerate(
        zip(figure.subplots(1, 3, sharey=True), paths.items(), strict=True)
    ):
        viz.contours(data.loss, (-1.0, 11.0), (1.0, 6.0), ax, log=True)
        ax.plot(*path.T, color=f"C{k}", linewidth=1.5)
        ax.plot(*START, "o", color="black", label="start")
        ax.plot(*TRUTH, "*", color="C4", markersize=14, markeredgecolor="black", label="truth")
        ax.set(xlabel=r"$\theta_0$ (intercept)", title=name)
        ax.legend()
    figure.axes[0].set_ylabel(r"$\theta_1$ (slope)")


def draw_values(figure: Any, losses: dict[str, Any], floor: float) -> None:
    """The mean squared error against the steps."""
    ax = viz.training_curves(losses, figure.subplots(), xlabel="step", ylabel="mean squared error")
    ax.axhline(floor, color="black", linestyle=":", label="least squares")
    ax.set(xscale="log", title="Linear regression: function values")
    ax.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    data = make_data()
    best, deviation = data.least_squares()
    n_steps = 100 if lesson.quick else N_STEPS
    paths = {name: solve(data, method, n_steps) for name, method in METHODS.items()}
    found = {name: [f"{value:.4f}" for value in path[-1].tolist()] for name, path in paths.items()}
    lesson.table(
        f"theta after {n_steps} steps from {list(START)}; the truth is {list(TRUTH)}",
        ("method", "theta_0", "theta_1", "slide", "mean squared error"),
        [
            *[
                (name, *found[name], list(METHODS[name].slide), data.loss(path[-1]))
                for name, path in paths.items()
            ],
            ("least squares", *[f"{value:.4f}" for value in best.tolist()], "", data.loss(best)),
            ("its standard deviation", *[f"{value:.4f}" for value in deviation.tolist()], "", NOISE**2),
        ],
    )
    lesson.picture(
        "regression_paths", draw_paths, data, {n: lecture.array(p) for n, p in paths.items()}, size=(15, 5)
    )
    losses = {name: lecture.array(nbdl.func.vmap(data.loss)(path)) for name, path in paths.items()}
    lesson.picture("regression_values", draw_values, losses, data.loss(best).item())


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
