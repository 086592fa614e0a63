#!/usr/bin/env python
"""Learning rates and batch sizes: slow, good, divergent, the largest stable rate, and M from 1 to N.

On a quadratic the largest stable rate of gradient descent is 2 / lambda_max, which is known from the Hessian;
a small network is trained over rates and over batch sizes, and a range test suggests a rate for it.

Source: B, hyperparameters of training (group 15).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn
from nbdl.func import hessian
from nbdl.optim import SGD, largest_stable_rate, rate_range_test

N = 256  # examples of the network's problem
CURVATURES = (0.5, 2.0, 8.0)


def bowl(theta: nbdl.Tensor) -> nbdl.Tensor:
    """1/2 sum lambda_i theta_i^2."""
    return (nbdl.tensor(CURVATURES) * theta.square()).sum() / 2


def stable_rates() -> tuple[float, float]:
    """The largest stable rate for the bowl: 2 / lambda_max from the Hessian, and found by trying."""
    theta = nbdl.ones(len(CURVATURES), requires_grad=True)
    largest = nbdl.linalg.eigvalsh(hessian(bowl)(theta.detach())).max().item()
    study = largest_stable_rate(lambda: bowl(theta), SGD([theta]), low=1e-3, high=10.0)
    return 2 / largest, study.largest_stable


def bowl_losses(rate: float, n_steps: int) -> list[float]:
    """Losses of gradient descent on the bowl."""
    theta = nbdl.ones(len(CURVATURES), requires_grad=True)
    optimizer = SGD([theta], lr=rate)
    losses = [bowl(theta).item()]
    for _ in range(n_steps):
        optimizer.zero_grad()
        bowl(theta).backward()
        optimizer.step()
        losses.append(bowl(theta).item())
    return losses


class Problem:
    """Two classes in spirals, the sign of sin(3 r + angle), and a small network for them."""

    def __init__(self, seed: int):
        nbdl.manual_seed(seed)
        self.x = 2 * nbdl.rand(N, 2) - 1
        angle = nbdl.atan2(self.x[:, 1], self.x[:, 0])
        self.y = ((3 * self.x.norm(dim=1) + angle).sin() > 0).to(self.x.dtype)
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss(self, rows: Any = slice(None)) -> nbdl.Tensor:
        """Binary cross-entropy of some examples."""
        scores = self.net(self.x[rows]).squeeze(1)
        return nn.functional.binary_cross_entropy_with_logits(scores, self.y[rows])


class Training(NamedTuple):
    """What a training run did.

    Attributes:
        losses: over all examples, before training and after each epoch.
        updates: number of updates.
        noise: mean squared distance of a mini-batch gradient to the full one at the start.
    """

    losses: list[float]
    updates: int
    noise: float


def train(seed: int, size: int, rate: float, epochs: int) -> Training:
    """Train the network with mini-batches of one size."""
    problem = Problem(seed)
    optimizer = SGD(problem.net.parameters(), lr=rate)
    noise = gradient_noise(problem, size)

    @nbdl.compile
    def step(rows: nbdl.Tensor) -> None:
        optimizer.zero_grad()
        problem.loss(rows).backward()
        optimizer.step()

    losses, updates = [problem.loss().item()], 0
    for _ in range(epochs):
        for rows in nbdl.randperm(N).split(size):
            step(rows)
            updates += 1
        losses.append(problem.loss().item())
    return Training(losses, updates, noise)


def gradient_noise(problem: Problem, size: int) -> float:
    """E|g - grad f|^2 over random partitions into mini-batches, some 64 of them or more."""

    def gradient(rows: Any) -> nbdl.Tensor:
        grads = nbdl.autograd.grad(problem.loss(rows), list(problem.net.parameters()))
        return nn.utils.parameters_to_vector(grads)

    exact = gradient(slice(None))
    squares = [
        (gradient(rows) - exact).square().sum()
        for _ in range(-(-64 * size // N))
        for rows in nbdl.randperm(N).split(size)
    ]
    return nbdl.stack(squares).mean().item()


def range_test(seed: int, size: int) -> Any:
    """Train while the rate rises, on mini-batches."""
    problem = Problem(seed)

    def rows() -> Iterator[nbdl.Tensor]:
        while True:
            yield from nbdl.randperm(N).split(size)

    batches = rows()
    return rate_range_test(
        lambda: problem.loss(next(batches)), SGD(problem.net.parameters()), low=1e-3, high=100.0, n_steps=150
    )


def draw_rates(figure: Any, bowl_runs: dict[str, list[float]], runs: dict[str, Training]) -> None:
    """Losses for each rate: on the bowl over the steps, of the network over the epochs."""
    left, right = figure.subplots(1, 2)
    for (name, losses), style in zip(bowl_runs.items(), ("-", "--", "-.", ":"), strict=True):
        left.plot(losses, style, label=name)
    left.set(
        xlabel="step",
        ylabel="loss",
        yscale="log",
        ylim=(1e-6, 1e4),
        title="Quadratic, $\\lambda$ = 0.5, 2, 8",
    )
    for (name, run), style in zip(runs.items(), ("-", "--", "-.", ":"), strict=True):
        right.plot(run.losses, style, label=name)
    right.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, 1.5), title="Network, batches of 32")
    for axes in (left, right):
        axes.legend(title="rate")


def draw_batches(figure: Any, runs: dict[int, Training]) -> None:
    """Losses over epochs and over updates, and the noise of the gradient over the batch size."""
    from matplotlib import colormaps

    by_epoch, by_update, noise = figure.subplots(1, 3)
    for k, (size, run) in enumerate(runs.items()):
        color = colormaps["viridis"](0.92 * k / (len(runs) - 1))
        by_epoch.plot(run.losses, color=color, label=f"{size}")
        each = run.updates // (len(run.losses) - 1)
        by_update.plot([each * (e + 1) for e in range(len(run.losses) - 1)], run.losses[1:], color=color)
    by_epoch.set(xlabel="epoch", ylabel="cross-entropy")
    by_update.set(xlabel="updates", xscale="log")
    figure.legend(*by_epoch.get_legend_handles_labels(), title="batch size M", loc="outside left center")
    sizes = [size for size, run in runs.items() if size < N]
    noise.plot(sizes, [runs[size].noise for size in sizes], "o-", label="measured")
    first = runs[sizes[0]].noise * sizes[0]
    noise.plot(
        sizes, [first * (N - size) / ((N - 1) * size) for size in sizes], "k--", label="(N - M) / (N - 1) / M"
    )
    noise.set(xlabel="batch size M", ylabel="E|g - grad f|$^2$", xscale="log", yscale="log")
    noise.legend(fontsize=10)


def draw_range_test(figure: Any, study: Any) -> None:
    """The loss while the rate rises."""
    axes = study.plot(figure.subplots())
    axes.set(ylim=(0, 1.2), ylabel="cross-entropy (running mean)", title="The rate rises while training")


def show(lesson: Lesson) -> None:
    """The program."""
    exact, found = stable_rates()
    rates = {
        "0.01 (slow)": 0.01,
        "0.12 (good)": 0.12,
        "0.249 (nearly unstable)": 0.249,
        "0.27 (divergent)": 0.27,
    }
    bowl_runs = {name: bowl_losses(rate, 60) for name, rate in rates.items()}
    lesson.table(
        f"A quadratic: 2 / lambda_max = {exact:.4g}, the largest rate found stable is {found:.4g}",
        ("rate", "loss after 10", "after 60", "factor a step: max |1 - rate lambda|"),
        [
            (name, bowl_runs[name][10], bowl_runs[name][60], max(abs(1 - rate * c) for c in CURVATURES))
            for name, rate in rates.items()
        ],
    )
    epochs = 4 if lesson.quick else 150
    runs = {
        f"{rate} ({kind})": train(lesson.seed, 32, rate, epochs)
        for rate, kind in ((0.02, "slow"), (0.5, "good"), (4.0, "unsteady"), (30.0, "divergent"))
    }
    lesson.table(
        f"The network, batches of 32, {epochs} epochs",
        ("rate", "best loss", "last loss"),
        [(name, min(run.losses), run.losses[-1]) for name, run in runs.items()],
    )
    sizes = (16, 64, N) if lesson.quick else (1, 4, 16, 64, N)
    batch_runs = {size: train(lesson.seed, size, 0.1, 2 if lesson.quick else 40) for size in sizes}
    lesson.table(
        f"Batch sizes M of N = {N}, rate 0.1",
        ("M", "updates", "E|g - grad f|^2", "last loss"),
        [(size, run.updates, run.noise, run.losses[-1]) for size, run in batch_runs.items()],
    )
    study = range_test(lesson.seed, 32)
    lesson.table(
        "Range test of the network",
        ("quantity", "rate"),
        [("the loss falls fastest", study.suggestion), ("the loss is smallest", study.largest_stable)],
    )
    lesson.picture("learning_rates", draw_rates, bowl_runs, runs, size=(12, 5))
    lesson.picture("batch_sizes", draw_batches, batch_runs, size=(14, 4.5))
    lesson.picture("learning_rate_finder", draw_range_test, study)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
