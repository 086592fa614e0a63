#!/usr/bin/env python
"""Stochastic gradients: full batch, single samples and mini-batches; step sizes; redundant data.

The three ways of descent are compared on one least-squares problem by the examples that they have seen. On a
quadratic with noisy gradients, step sizes after Robbins and Monro are compared with others, and the bound

    sum a_t E|grad f(theta_t)|^2 / sum a_t <= (f(theta_0) - f* + L M^2 / 2 sum a_t^2) / sum a_t

is evaluated (L: Lipschitz constant of the gradient, E|g_t|^2 <= M^2, E g_t = grad f). Ten copies of the data
are worth ten epochs to online learning, and nothing to the full batch.

Source: N, D, L, stochastic gradient descent; N, B, step sizes; D, redundant data (groups 11, 12, 13).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl.optim import SGD, lr_scheduler

CURVATURES, NOISE = (1.0, 5.0), 1.0  # of the quadratic, and the standard deviation of its gradients
FIRST_RATE = 0.2


class LeastSquares:
    """f(theta) = 1/2 mean (x_i^T theta - y_i)^2 over examples (x_i, y_i)."""

    def __init__(self, x: nbdl.Tensor, y: nbdl.Tensor):
        self.x, self.y = x, y
        self.least = self(nbdl.linalg.lstsq(x, y).solution).item()

    def __call__(self, theta: nbdl.Tensor, rows: Any = slice(None)) -> nbdl.Tensor:
        return (self.x[rows] @ theta - self.y[rows]).square().mean() / 2

    def __len__(self) -> int:
        return len(self.y)


def noisy_line(n: int) -> LeastSquares:
    """n examples of y = 2 + 3 t + noise, with x = (1, t)."""
    x = nbdl.stack([nbdl.ones(n), nbdl.linspace(-1, 1, n)], dim=1)
    return LeastSquares(x, x @ nbdl.tensor([2.0, 3.0]) + 0.2 * nbdl.randn(n))


def batches(n: int, size: int, epochs: int) -> Iterator[nbdl.Tensor]:
    """Row numbers of mini-batches, in a fresh random partition each epoch."""
    for _ in range(epochs):
        yield from nbdl.randperm(n).split(size)


def descend(
    problem: LeastSquares, order: Iterable[nbdl.Tensor], rate: float, every: int
) -> tuple[list[int], list[float]]:
    """Examples seen, and f - min f, after every so many examples."""
    theta = nbdl.zeros(2, requires_grad=True)
    optimizer = SGD([theta], lr=rate)
    seen, gaps, total = [0], [problem(theta).item() - problem.least], 0
    for rows in order:
        optimizer.zero_grad()
        problem(theta, rows).backward()
        optimizer.step()
        total += len(rows)
        if total - seen[-1] >= every:
            seen.append(total)
            gaps.append(problem(theta).item() - problem.least)
    return seen, gaps


def gradient_noise(problem: LeastSquares, size: int, n_epochs: int) -> tuple[float, float]:
    """At theta = 0: the distance of the mean mini-batch gradient to the gradient, and E|g - grad f|^2."""
    theta = nbdl.zeros(2, requires_grad=True)
    (exact,) = nbdl.autograd.grad(problem(theta), [theta])
    estimates = nbdl.stack(
        [
            nbdl.autograd.grad(problem(theta, rows), [theta])[0]
            for rows in batches(len(problem), size, n_epochs)
        ]
    )
    return (estimates.mean(0) - exact).norm().item(), (estimates - exact).square().sum(1).mean().item()


class Run(NamedTuple):
    """Steps of the noisy quadratic, as means over many runs.

    Attributes:
        rates: a_t.
        gaps: f(theta_t) - f*, from t = 0 to the end.
        left: the weighted mean of |grad f|^2, the left side of the bound.
        right: its right side.
    """

    rates: list[float]
    gaps: list[float]
    left: float
    right: float


def noisy_quadratic(make_schedule: Callable[[SGD], Any], n_steps: int, n_runs: int) -> Run:
    """Descend f = 1/2 sum lambda_i theta_i^2 with gradients lambda theta + noise, in many runs at once."""
    curvature = nbdl.tensor(CURVATURES)
    theta = nbdl.ones(n_runs, len(CURVATURES), requires_grad=True)
    optimizer = SGD([theta], lr=FIRST_RATE)
    schedule = make_schedule(optimizer)

    def value() -> nbdl.Tensor:
        return (curvature * theta.detach().square()).sum(1).mean() / 2

    rates, gaps, slopes, moments = [], [value()], [], []
    for _ in range(n_steps):
        slope = curvature * theta.detach()
        theta.grad = slope + NOISE * nbdl.randn(*theta.shape)
        slopes.append(slope.square().sum(1).mean())
        moments.append(theta.grad.square().sum(1).mean())
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        gaps.append(value())
    a = nbdl.tensor(rates)
    second_moment = nbdl.stack(moments).max()
    bound = gaps[0] + max(CURVATURES) * second_moment / 2 * a.square().sum()
    left = (a * nbdl.stack(slopes)).sum() / a.sum()
    return Run(rates, nbdl.stack(gaps).tolist(), left.item(), (bound / a.sum()).item())


SCHEDULES: dict[str, Callable[[SGD], Any]] = {
    "constant": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda t: 1.0),
    "1 / t": lambda optimizer: lr_scheduler.RobbinsMonroLR(optimizer, decay_steps=5),
    "1 / t^0.6": lambda optimizer: lr_scheduler.RobbinsMonroLR(optimizer, decay_steps=5, power=0.6),
    "1 / t^2": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda t: (1 + t) ** -2.0),
}
SUMS = {
    "constant": "inf, inf",
    "1 / t": "inf, finite",
    "1 / t^0.6": "inf, finite",
    "1 / t^2": "finite, finite",
}


def redundancy(n: int, rate: float) -> dict[str, tuple[list[int], list[float]]]:
    """Online learning and the full batch, on n examples for ten epochs, and on ten copies for one."""
    small = noisy_line(n)
    large = LeastSquares(small.x.repeat(10, 1), small.y.repeat(10))
    return {
        "online, 10 copies, 1 epoch": descend(large, batches(10 * n, 1, 1), rate, n // 10),
        "online, 10 epochs": descend(small, batches(n, 1, 10), rate, n // 10),
        "full batch, 10 copies, 1 epoch": descend(large, batches(10 * n, 10 * n, 1), rate, n // 10),
        "full batch, 10 epochs": descend(small, batches(n, n, 10), rate, n // 10),
    }


def draw_descents(figure: Any, descents: dict[str, tuple[list[int], list[float]]], title: str) -> None:
    """f - min f over the examples seen."""
    axes = figure.subplots()
    for (name, (seen, gaps)), style in zip(descents.items(), ("-", "--", "-.", ":"), strict=False):
        axes.plot(seen, gaps, style, label=name, markersize=7)
    axes.set(xlabel="examples seen", ylabel="f($\\theta$) - min f", yscale="log", title=title)
    axes.legend()


def draw_schedules(figure: Any, runs: dict[str, Run]) -> None:
    """f - f* over the steps, for each schedule."""
    axes = figure.subplots()
    for (name, run), style in zip(runs.items(), ("-", "--", "-.", ":"), strict=True):
        axes.plot(range(1, len(run.gaps) + 1), run.gaps, style, label=f"$a_t$: {name}")
    axes.set(xlabel="step t", ylabel="E f($\\theta_t$) - f*", xscale="log", yscale="log")
    axes.set_title("A quadratic with noisy gradients")
    axes.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    n, epochs = (40, 3) if lesson.quick else (200, 10)
    problem = noisy_line(n)
    sizes = {"full batch": n, f"mini-batch of {n // 10}": n // 10, "single samples": 1}
    descents = {
        name: descend(problem, batches(n, size, epochs), 0.1, n // 10) for name, size in sizes.items()
    }
    rows = []
    for name, size in sizes.items():
        off, noise = gradient_noise(problem, size, 5)
        seen, gaps = descents[name]
        rows.append((name, n // size, off, noise, gaps[seen.index(n)], gaps[-1]))
    lesson.table(
        f"{n} examples, rate 0.1: the gradient at theta = 0, and f - min f after 1 and {epochs} epochs",
        ("", "updates an epoch", "|E g - grad f|", "E|g - grad f|^2", "after 1", f"after {epochs}"),
        rows,
    )
    n_steps, n_runs = (200, 100) if lesson.quick else (3000, 400)
    runs = {name: noisy_quadratic(make, n_steps, n_runs) for name, make in SCHEDULES.items()}
    lesson.table(
        f"Step sizes on a noisy quadratic, {n_steps} steps, means of {n_runs} runs",
        ("a_t", "sum a, sum a^2", "f - f* at the end", "weighted |grad f|^2", "bound"),
        [(name, SUMS[name], run.gaps[-1], run.left, run.right) for name, run in runs.items()],
    )
    lesson.correction(
        "gradient descent reaches at best a stationary point, which this convex f has at its minimum."
    )
    copies = redundancy(20 if lesson.quick else 100, 0.03)
    lesson.table(
        "Redundant data: the same number of examples seen, and what became of f - min f",
        ("", "examples seen", "f - min f"),
        [(name, seen[-1], gaps[-1]) for name, (seen, gaps) in copies.items()],
    )
    lesson.picture("stochastic_batches", draw_descents, descents, f"{n} examples, {epochs} epochs, rate 0.1")
    lesson.picture("stochastic_schedules", draw_schedules, runs)
    lesson.picture("stochastic_redundancy", draw_descents, copies, "Ten copies of the data, or ten epochs")


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
