#!/usr/bin/env python
"""Networks of radial basis functions: y = g(w^T phi(x)), phi_i(x) = exp(-|x - mu_i|^2 / (2 sigma_i^2)).

Regression, two classes and three classes; centres at random, by k-means++, by k-means and by growing neural
gas; training in two steps (centres and widths, then w) and in three (then everything by gradient); any
function from enough of them; and how sigmoids combine into bumps, and bumps into something like a Gaussian.

Source: B, radial basis function networks (groups 27, 28).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.nn import rbf
from nbdl.utils.metrics import accuracy

METHODS = ("random", "k-means++", "k-means", "growing neural gas")
N_CENTERS = 12


def wave(x: nbdl.Tensor) -> nbdl.Tensor:
    """What the regression learns, on [-3, 3]."""
    return (2 * x).sin() * (-x.square() / 6).exp()


def moons(n: int) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """Two interleaved half circles of n points each, with noise; labels 0 and 1, (2 n, 1)."""
    angle = math.pi * nbdl.rand(2, n)
    upper = nbdl.stack([angle[0].cos(), angle[0].sin()], dim=1)
    lower = nbdl.stack([1 - angle[1].cos(), 0.5 - angle[1].sin()], dim=1)
    x = nbdl.cat([upper, lower]) + 0.15 * nbdl.randn(2 * n, 2)
    return x, nbdl.cat([nbdl.zeros(n, 1), nbdl.ones(n, 1)])


def blobs(n: int) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """Three classes of n points: a disc in the middle, and two clouds beside it; labels 0, 1, 2."""
    places = nbdl.tensor([[0.0, 0.0], [2.0, 1.0], [-1.5, 1.8]])
    labels = nbdl.arange(3).repeat_interleave(n)
    return places[labels] + 0.6 * nbdl.randn(3 * n, 2), labels


class Task(NamedTuple):
    """A problem with the output activation and loss that go with it.

    Attributes:
        x: samples.
        target: what the loss takes.
        outputs: of the network.
        loss: of scores, which has g built in where g is not the identity.
        score: how good scores are.
        what: the name of the score.
    """

    x: nbdl.Tensor
    target: nbdl.Tensor
    outputs: int
    loss: Callable[[nbdl.Tensor, nbdl.Tensor], nbdl.Tensor]
    score: Callable[[nbdl.Tensor, nbdl.Tensor], nbdl.Tensor]
    what: str


def make_tasks(n: int) -> dict[str, Task]:
    """Regression with g = identity, two classes with the sigmoid, three with softmax."""
    x = nbdl.linspace(-3, 3, n).unsqueeze(1)
    return {
        "regression, g = identity, l2": Task(
            x, wave(x) + 0.05 * nbdl.randn(n, 1), 1, F.mse_loss, F.mse_loss, "mean squared error"
        ),
        "two classes, g = sigmoid, BCE": Task(
            *moons(n // 2), 1, F.binary_cross_entropy_with_logits,
            lambda s, c: (s > 0).eq(c > 0).to(s.dtype).mean(), "accuracy",
        ),
        "three classes, g = softmax, CE": Task(*blobs(n // 3), 3, F.cross_entropy, accuracy, "accuracy"),
    }  # fmt: skip


def adam(parameters: Any) -> nbdl.optim.Optimizer:
    """The optimizer of the gradient steps."""
    return nbdl.optim.Adam(parameters, lr=0.02)


def train(task: Task, centers: str, steps: int, epochs: int, seed: int) -> tuple[nn.RBFNetwork, float]:
    """A network trained in two or three steps, and its score; three get no more epochs altogether."""
    nbdl.manual_seed(seed)
    network = nn.RBFNetwork(task.x.shape[1], N_CENTERS, task.outputs)
    options: dict[str, Any] = {"centers": centers, "optimizer": adam}
    if steps == 2:
        rbf.train_two_step(network, task.x, task.target, task.loss, epochs=epochs, **options)
    else:
        rbf.train_three_step(
            network, task.x, task.target, task.loss, epochs=epochs // 2, final_epochs=epochs // 2, **options
        )
    with nbdl.no_grad():
        return network, task.score(network(task.x), task.target).item()


def quantization(x: nbdl.Tensor, method: str, seed: int) -> tuple[nbdl.Tensor, float]:
    """Centres, and the mean squared distance of samples to the nearest one."""
    nbdl.manual_seed(seed)
    network = nn.RBFNetwork(x.shape[1], N_CENTERS)
    rbf.place_centers(network, x, method)
    centers = network.rbf.centers.detach()
    return centers, nbdl.cdist(x, centers).amin(1).square().mean().item()


def approximation_errors(numbers: list[int]) -> list[float]:
    """Largest errors on [-3, 3] of the best w for so many equidistant centres: it falls to what one likes."""
    x = nbdl.linspace(-3, 3, 1001).unsqueeze(1)
    errors = []
    for n in numbers:
        layer = nn.RBF(1, n)
        with nbdl.no_grad():
            layer.centers.copy_(nbdl.linspace(-3.3, 3.3, n).unsqueeze(1))
            layer.widths.fill_(9.0 / n)
            features = layer(x)
        w = nbdl.linalg.lstsq(features, wave(x), driver="gelsd").solution
        errors.append((features @ w - wave(x)).abs().max().item())
    return errors


def bump(x: nbdl.Tensor, width: float, slope: float) -> nbdl.Tensor:
    """The difference of two sigmoids: about 1 within `width` of 0, about 0 further out."""
    return (slope * (x + width)).sigmoid() - (slope * (x - width)).sigmoid()


def bumps_to_gaussian(x: nbdl.Tensor, n: int) -> nbdl.Tensor:
    """n bumps on each other, as wide as exp(-x^2 / 2) is at n heights, give a Gaussian."""
    heights = (nbdl.arange(n) + 0.5) / n
    return nbdl.stack([bump(x, (-2 * h.log()).sqrt().item(), 8.0) for h in heights]).mean(0)


def draw_classes(figure: Any, regions: dict[str, Any]) -> None:
    """Fit or regions of each task, the samples, and the centres with their widths as circles."""
    from matplotlib.patches import Circle

    for axes, (title, (grid, values, x, target, centers, widths)) in zip(
        figure.subplots(1, 3), regions.items(), strict=True
    ):
        axes.set(title=title, xlabel="$x_1$", ylabel="$x_2$")
        if x.shape[1] == 1:
            axes.plot(x, target, ".", color="0.6", label="samples")
            axes.plot(grid, values, color="C1", label="network")
            axes.plot(centers, 0 * centers - 1.3, "k^", label="centres")
            axes.set(xlabel="x", ylabel="y", ylim=(-1.45, 1.45))
            axes.legend(fontsize=10, ncols=2)
            continue
        horizontal, vertical = grid
        axes.contourf(
            horizontal, vertical, values, levels=(-0.5, 0.5, 1.5, 2.5), colors=("C5", "C4", "C2"), alpha=0.35
        )
        for label, (color, marker) in enumerate((("C0", "o"), ("C1", "s"), ("C2", "v"))):
            chosen = x[target.ravel() == label]
            axes.plot(*chosen.T, marker, color=color, markersize=3)
        axes.plot(*centers.T, "k^", markersize=8)
        axes.set(xlim=(horizontal.min(), horizontal.max()), ylim=(vertical.min(), vertical.max()))
        for center, width in zip(centers, widths, strict=True):
            axes.add_patch(Circle(center, abs(width), fill=False, linewidth=0.8))
        axes.grid(False)


def draw_centers(figure: Any, x: Any, found: dict[str, tuple[Any, float]]) -> None:
    """The samples, and where each method puts the centres."""
    for axes, (method, (centers, error)) in zip(
        figure.subplots(1, 4, sharex=True, sharey=True), found.items(), strict=True
    ):
        axes.plot(*x.T, ".", color="0.7", markersize=4)
        axes.plot(*centers.T, "^", color="C1", markeredgecolor="k", markersize=10)
        axes.set(title=f"{method}\nmean squared distance {error:.3f}", xlabel="$x_1$", aspect="equal")
    figure.axes[0].set_ylabel("$x_2$")


def draw_bumps(figure: Any, x: Any, curves: dict[str, Any], numbers: list[int], errors: list[float]) -> None:
    """Sigmoids that become bumps that become a Gaussian; errors over the number of functions."""
    left, right = figure.subplots(1, 2)
    for (name, values), style in zip(curves.items(), (":", "--", "-.", "-", "k--"), strict=True):
        left.plot(x, values, style, label=name, linewidth=1.5 if style == "k--" else None)
    left.set(xlabel="x", ylabel="value", title="Sigmoids make bumps, bumps a Gaussian")
    left.legend(fontsize=11)
    right.plot(numbers, errors, "o-")
    right.set(
        xlabel="number of radial basis functions",
        ylabel="largest error on [-3, 3]",
        yscale="log",
        xscale="log",
    )
    right.set_xticks(numbers, numbers)
    right.minorticks_off()
    right.set_title("Best weights for equidistant centres")


def region(network: nn.RBFNetwork, task: Task) -> tuple[Any, ...]:
    """What `draw_classes` needs of a network."""
    centers, widths = lecture.array(network.rbf.centers), lecture.array(network.rbf.widths)
    x, target = lecture.array(task.x), lecture.array(task.target)
    with nbdl.no_grad():
        if task.x.shape[1] == 1:
            return x, lecture.array(network(task.x)), x, target, centers, widths
        low, high = task.x.amin(0).tolist(), task.x.amax(0).tolist()
        sides = [nbdl.linspace(a - 0.3, b + 0.3, 80) for a, b in zip(low, high, strict=True)]
        grid = nbdl.meshgrid(*sides, indexing="xy")
        scores = network(nbdl.stack([g.flatten() for g in grid], dim=1))
        label = scores.argmax(1) if task.outputs > 1 else (scores[:, 0] > 0).long()
    return tuple(map(lecture.array, grid)), lecture.array(label).reshape(80, 80), x, target, centers, widths


def show(lesson: Lesson) -> None:
    """The program."""
    n, epochs = (90, 10) if lesson.quick else (300, 120)
    tasks = make_tasks(n)
    rows, regions = [], {}
    for name, task in tasks.items():
        for steps in (2, 3):
            network, score = train(task, "k-means", steps, epochs, lesson.seed)
            rows.append((name, f"{steps} steps", task.what, score))
        regions[name] = region(network, task)
    lesson.table(
        f"{N_CENTERS} radial basis functions, k-means, {epochs} epochs in all",
        ("task", "training", "score", "value"),
        rows,
    )
    x = tasks["two classes, g = sigmoid, BCE"].x
    found = {method: quantization(x, method, lesson.seed) for method in METHODS}
    lesson.table(
        "Centres of the two classes, and the accuracy after two steps",
        ("centres", "mean squared distance to the nearest", "accuracy"),
        [
            (method, value, train(tasks["two classes, g = sigmoid, BCE"], method, 2, epochs, lesson.seed)[1])
            for method, (_, value) in found.items()
        ],
    )
    lesson.correction(
        "phi(x) = exp(-|x - mu|^2 / (2 sigma^2)), and the family is sum_i w_i phi_i with weights w_i."
    )
    numbers = [4, 8, 16, 32]
    errors = approximation_errors(numbers)
    lesson.table(
        "Universal approximation: the best weights for equidistant centres",
        ("functions", "largest error"),
        list(zip(numbers, errors, strict=True)),
    )
    t = nbdl.linspace(-4, 4, 400)
    curves = {
        "a sigmoid": (8 * (t + 1)).sigmoid(),
        "bump: two sigmoids": bump(t, 1.0, 8.0),
        "mean of 4 bumps": bumps_to_gaussian(t, 4),
        "mean of 40 bumps": bumps_to_gaussian(t, 40),
        "exp(-x$^2$ / 2)": (-t.square() / 2).exp(),
    }
    gap = (curves["mean of 40 bumps"] - curves["exp(-x$^2$ / 2)"]).abs().max().item()
    print(f"\n40 bumps differ from the Gaussian by at most {gap:.3f}")
    lesson.picture("rbf_networks", draw_classes, regions, size=(16, 5))
    lesson.picture(
        "rbf_centers", draw_centers, lecture.array(x),
        {method: (lecture.array(centers), value) for method, (centers, value) in found.items()}, size=(16, 4),
    )  # fmt: skip
    shown = {name: lecture.array(values) for name, values in curves.items()}
    lesson.picture("rbf_bumps", draw_bumps, lecture.array(t), shown, numbers, errors, size=(12, 5))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
