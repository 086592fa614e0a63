#!/usr/bin/env python
"""Schedules of the learning rate: linear decrease, halving, 1-cycle, warm restarts.

A constant rate reaches a noise floor that is proportional to it; every schedule ends with small steps and
gets below. All begin at, or rise to, the same rate, and see the same noise.

Source: B, learning rates (group 43).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import optim
from nbdl.optim import lr_scheduler

RATE, FINAL_RATE, CURVATURES, NOISE = 0.1, 0.001, (1.0, 10.0), 1.0


class Run(NamedTuple):
    """The rate and the value of the function at each step, each (n_steps,)."""

    rates: nbdl.Tensor
    values: nbdl.Tensor


Make = Callable[[optim.Optimizer, int], Any]
SCHEDULES: dict[str, Make] = {
    "constant": lambda o, n: lr_scheduler.ConstantLR(o, factor=1.0),
    "linear from a_0 to a_f": lambda o, n: lr_scheduler.LinearToFinalLR(o, FINAL_RATE, n),
    "halved on plateau": lambda o, n: lr_scheduler.HalveOnPlateau(o, patience=n // 20, min_lr=FINAL_RATE),
    "halved on schedule": lambda o, n: lr_scheduler.HalveEvery(o, n // 7),
    "1-cycle": lambda o, n: lr_scheduler.OneCycleLR(o, max_lr=RATE, total_steps=n, cycle_momentum=False),
    "warm restarts": lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(
        o, T_0=max(1, n // 7), T_mult=2, eta_min=FINAL_RATE
    ),
}


def train(make: Make, n_steps: int, n_copies: int, seed: int) -> Run:
    """SGD on a quadratic with a noisy gradient, many copies at once, whose mean value is reported."""
    nbdl.manual_seed(seed)
    curvatures = nbdl.tensor(CURVATURES)
    x = nbdl.full((n_copies, 2), 2.0, requires_grad=True)
    optimizer = optim.SGD([x], lr=RATE)
    scheduler = make(optimizer, n_steps)
    rates, values = [], []
    for _ in range(n_steps):
        value = (curvatures * x.detach() ** 2).sum(1).mean().item() / 2
        x.grad = curvatures * x.detach() + NOISE * nbdl.randn(*x.shape)
        rates.append(optimizer.param_groups[0]["lr"])
        values.append(value)
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(value)
        else:
            scheduler.step()
    return Run(nbdl.tensor(rates), nbdl.tensor(values))


def noise_floor(rate: float) -> float:
    """The mean value at a constant rate in the long run: the sum of rate NOISE^2 / (4 - 2 rate curvature)."""
    return sum(rate * NOISE**2 / (4 - 2 * rate * curvature) for curvature in CURVATURES)


def draw(figure: Any, runs: dict[str, Any]) -> None:
    """Rates on the left, values on the right."""
    left, right = figure.subplots(1, 2)
    styles = ("-", "--", "-.", ":", (0, (6, 1, 1, 1)), (0, (3, 1)))
    for (name, (rates, values)), style in zip(runs.items(), styles, strict=True):
        left.plot(rates, linestyle=style, label=name)
        right.plot(values, linestyle=style, label=name)
    left.set(xlabel="step", ylabel="learning rate", title="Schedules")
    right.set(
        xlabel="step", ylabel="function value (mean of all copies)", yscale="log",
        title="SGD with a noisy gradient",
    )  # fmt: skip
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=11)


def show(lesson: Lesson) -> None:
    """The program."""
    n_steps, n_copies = (70, 20) if lesson.quick else (700, 200)
    runs = {name: train(make, n_steps, n_copies, lesson.seed) for name, make in SCHEDULES.items()}
    tail = n_steps // 10
    lesson.table(
        f"{n_steps} steps of SGD from rate {RATE}; the floor of the constant rate is {noise_floor(RATE):.4f}",
        ("schedule", "first rate", "largest", "last", "value over the last tenth"),
        [
            (name, run.rates[0], run.rates.max(), run.rates[-1], run.values[-tail:].mean())
            for name, run in runs.items()
        ],
    )
    lesson.picture(
        "schedules",
        draw,
        {name: (lecture.array(run.rates), lecture.array(run.values)) for name, run in runs.items()},
        size=(13, 5),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
