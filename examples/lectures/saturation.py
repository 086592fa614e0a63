#!/usr/bin/env python
"""What activations do to gradients: vanishing through saturation, and ReLUs that die.

The gradients of all layers of a deep network are measured at its initial weights, for several activations.
Then ReLU networks are trained at rising rates, and the share of units that are 0 for all data, and thus get
no gradient any more, is counted.

Source: B, saturating activations and dying ReLU (group 26).
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn

WIDTH = 32


class Case(NamedTuple):
    """An activation; initial weights have variance gain^2 / n_in, initial biases this standard deviation."""

    activation: nn.Module
    gain: float = 1.0
    bias: float = 0.0


CASES = {
    "sigmoid": Case(nn.Sigmoid()),
    "tanh, saturated by biases": Case(nn.Tanh(), bias=3.0),
    "tanh": Case(nn.Tanh()),
    "ReLU, gain sqrt 2": Case(nn.ReLU(), gain=2**0.5),
    "SELU": Case(nn.SELU()),
}


def deep_network(depth: int, case: Case) -> nn.Sequential:
    """So many hidden layers of one width, with normal weights and biases at first."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), case.activation]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, 1))
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=case.gain / WIDTH**0.5)
            nn.init.normal_(module.bias, std=case.bias)
    return network


def gradient_norms(depth: int, case: Case) -> list[float]:
    """The norm of the gradient of each hidden layer's weights, from the first layer on."""
    network, x = deep_network(depth, case), nbdl.randn(128, WIDTH)
    nn.functional.mse_loss(network(x), nbdl.ones(128, 1)).backward()
    return [m.weight.grad.norm().item() for m in network if isinstance(m, nn.Linear)][:-1]


class Dying(NamedTuple):
    """A training run: the share of dead units and the loss, before training and after each epoch."""

    dead: list[float]
    losses: list[float]


def dead_share(features: list[nbdl.Tensor]) -> float:
    """The share of hidden units whose slope is 0 for all examples."""
    silent = nbdl.cat([(u <= 0).all(0) for u in features])
    return silent.float().mean().item()


def train(activation: nn.Module, rate: float, epochs: int, seed: int) -> Dying:
    """Learn a sum of sines with two hidden layers, by gradient descent on mini-batches."""
    nbdl.manual_seed(seed)
    x = 2 * nbdl.rand(256, 4) - 1
    y = (3 * x).sin().sum(1, keepdim=True)
    first = nn.Sequential(nn.Linear(4, WIDTH), activation)
    second = nn.Sequential(nn.Linear(WIDTH, WIDTH), activation)
    network = nn.Sequential(first, second, nn.Linear(WIDTH, 1))
    optimizer = nbdl.optim.SGD(network.parameters(), lr=rate)

    @nbdl.compile
    def step(xb: nbdl.Tensor, yb: nbdl.Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(network(xb), yb).backward()
        optimizer.step()

    @nbdl.no_grad()
    def measure() -> tuple[float, float]:
        u1 = first(x)
        u2 = second(u1)
        return dead_share([u1, u2]), nn.functional.mse_loss(network(x), y).item()

    history = [measure()]
    for _ in range(epochs):
        order = nbdl.randperm(len(x))
        for xb, yb in zip(x[order].split(32), y[order].split(32), strict=True):
            step(xb, yb)
        history.append(measure())
    return Dying(*map(list, zip(*history, strict=True)))


def draw_vanishing(figure: Any, norms: dict[str, list[float]]) -> None:
    """Gradient norms over the layers."""
    axes = figure.subplots()
    for (name, values), style in zip(norms.items(), ("o-", "s--", "v:", "D-.", "^-"), strict=True):
        axes.plot(range(1, len(values) + 1), values, style, label=name, markersize=5)
    axes.set(
        xlabel="layer (1: next to the input)", ylabel="norm of the gradient of its weights", yscale="log"
    )
    axes.set_title("At the initial weights")
    axes.legend()


def draw_dying(figure: Any, runs: dict[str, Dying]) -> None:
    """Dead units and losses over the epochs."""
    left, right = figure.subplots(1, 2)
    for (name, run), style in zip(runs.items(), ("-", "--", "-.", ":"), strict=True):
        left.plot([100 * share for share in run.dead], style, label=name)
        right.plot(run.losses, style, label=name)
    left.set(xlabel="epoch", ylabel="units that are never positive, in %", ylim=(-3, 103))
    right.set(xlabel="epoch", ylabel="mean squared error", yscale="log")
    left.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    depth = 8 if lesson.quick else 24
    norms = {name: gradient_norms(depth, case) for name, case in CASES.items()}
    lesson.table(
        f"Vanishing gradients: {depth} hidden layers of {WIDTH} units",
        ("activation", "first layer", "last layer", "factor a layer"),
        [
            (name, values[0], values[-1], (values[0] / values[-1]) ** (1 / (depth - 1)))
            for name, values in norms.items()
        ],
    )
    epochs = 3 if lesson.quick else 60
    runs = {
        f"{name}, rate {rate:g}": train(activation, rate, epochs, lesson.seed)
        for name, activation, rate in (
            ("ReLU", nn.ReLU(), 0.05),
            ("ReLU", nn.ReLU(), 0.2),
            ("ReLU", nn.ReLU(), 0.4),
            ("leaky ReLU", nn.LeakyReLU(0.01), 0.4),
        )
    }
    lesson.table(
        f"Dying ReLU, {epochs} epochs: units that are at most 0 for all examples (a leaky one still learns)",
        ("activation, rate", "at first", "at the end", "loss at the end"),
        [(name, f"{run.dead[0]:.0%}", f"{run.dead[-1]:.0%}", run.losses[-1]) for name, run in runs.items()],
    )
    lesson.picture("vanishing_gradients", draw_vanishing, norms)
    lesson.picture("dying_relu", draw_dying, runs, size=(12, 5))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
