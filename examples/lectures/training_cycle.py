#!/usr/bin/env python
"""The recipe (architecture, optimizer, objective, data) and the cycle (forward, loss, backward, update).

The objective is the empirical one, mean loss over the samples plus R(theta); the learning problem is the
expected loss over the distribution, which is estimated here from many fresh samples. The cycle is written as
the lectures write it: with `randperm` and fancy indexing, and with a data loader.

Source: N, D, the learning problem and the recipe; N, B, the training loop; L, determinism (groups 2, 3, 10,
16).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn
from nbdl.utils.data import DataLoader, TensorDataset

NOISE, PENALTY = 0.1, 1e-4
Batches = Callable[[], Iterator[tuple[nbdl.Tensor, nbdl.Tensor]]]


@dataclass
class Recipe:
    """The four parts of learning; each can be exchanged without the others."""

    architecture: nn.Module
    optimizer: nbdl.optim.Optimizer
    objective: Callable[[nn.Module, nbdl.Tensor, nbdl.Tensor], nbdl.Tensor]
    data: Batches


def sample(n: int) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """n samples of the distribution: y uniform on the square, c = sin(pi y_1) cos(pi y_2) + noise."""
    y = 2 * nbdl.rand(n, 2) - 1
    c = (math.pi * y[:, :1]).sin() * (math.pi * y[:, 1:]).cos()
    return y, c + NOISE * nbdl.randn(n, 1)


def regularised(net: nn.Module, yb: nbdl.Tensor, cb: nbdl.Tensor) -> nbdl.Tensor:
    """The objective of a batch of M samples, (1 / M) sum L(F(y, theta), c) + lambda R(theta), R = sum W^2."""
    return nn.functional.half_squared_error(net(yb), cb) + nn.L2(PENALTY)(net)


def partition(y: nbdl.Tensor, c: nbdl.Tensor, size: int) -> Batches:
    """Mini-batches as N writes them: a fresh random partition each epoch, by fancy indexing."""

    def epoch() -> Iterator[tuple[nbdl.Tensor, nbdl.Tensor]]:
        order = nbdl.randperm(len(y))
        for start in range(0, len(y), size):
            idx = order[start : start + size]
            yield y[idx], c[idx]

    return epoch


def loader(y: nbdl.Tensor, c: nbdl.Tensor, size: int) -> Batches:
    """Mini-batches as B writes them: `for x, y in train_dataloader`."""
    train_dataloader = DataLoader(TensorDataset(y, c), batch_size=size, shuffle=True)
    return lambda: iter(train_dataloader)


def full_batch(y: nbdl.Tensor, c: nbdl.Tensor) -> Batches:
    """All samples at once, so that nothing random is left."""
    return lambda: iter([(y, c)])


def train_epoch(recipe: Recipe) -> None:
    """The cycle: forward, loss, backward, update, once for each mini-batch."""
    for yb, cb in recipe.data():
        recipe.optimizer.zero_grad()
        phi = recipe.objective(recipe.architecture, yb, cb)
        phi.backward()
        recipe.optimizer.step()


@nbdl.no_grad()
def measure(net: nn.Module, y: nbdl.Tensor, c: nbdl.Tensor) -> float:
    """The mean loss without R(theta)."""
    return nn.functional.half_squared_error(net(y), c).item()


def make_recipe(data: Batches, seed: int, rate: float = 5e-3) -> Recipe:
    """The recipe of this program; theta is initialised once, here."""
    nbdl.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.ResidualLinear(24), nn.Linear(24, 1))
    return Recipe(net, nbdl.optim.Adam(net.parameters(), lr=rate), regularised, data)


def weights_after(data: Batches, seed: int, epochs: int) -> nbdl.Tensor:
    """All parameters after training, as one vector."""
    recipe = make_recipe(data, seed)
    for _ in range(epochs):
        train_epoch(recipe)
    return nn.utils.parameters_to_vector(recipe.architecture.parameters()).detach()


def draw_curves(figure: Any, epochs: list[int], curves: dict[str, list[float]]) -> None:
    """The empirical objective and the learning problem over the epochs."""
    axes = figure.subplots()
    for (name, values), style in zip(curves.items(), ("-", "--", ":"), strict=True):
        axes.plot(epochs, values, style, label=name)
    axes.axhline(NOISE**2 / 2, color="black", linewidth=1, label="of the noise alone")
    axes.set(xlabel="epoch", ylabel="mean of half the squared error", yscale="log")
    axes.set_title("The objective, and what it stands for")
    axes.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    n, n_epochs = 64, 8 if lesson.quick else 200
    y, c = sample(n)
    y_fresh, c_fresh = sample(20_000)
    recipe = make_recipe(partition(y, c, 16), lesson.seed)
    lesson.table(
        "The recipe: four objects that know nothing of each other",
        ("part", "here"),
        [
            ("architecture", ", ".join(type(layer).__name__ for layer in recipe.architecture)),
            ("optimizer", type(recipe.optimizer).__name__),
            ("objective", f"half squared error + {PENALTY} sum W^2"),
            ("data", f"{n} samples in mini-batches of 16"),
        ],
    )
    curves: dict[str, list[float]] = {"samples + lambda R": [], "samples": [], "distribution": []}
    for epoch in range(n_epochs + 1):
        if epoch:
            train_epoch(recipe)
        empirical = measure(recipe.architecture, y, c)
        penalty = nn.L2(PENALTY)(recipe.architecture).item()
        expected = measure(recipe.architecture, y_fresh, c_fresh)
        for curve, value in zip(curves.values(), (empirical + penalty, empirical, expected), strict=True):
            curve.append(value)
    lesson.table(
        f"The empirical objective of {n} samples, and the learning problem (20,000 fresh samples)",
        ("epoch", *curves, "gap"),
        [
            (epoch, total, empirical, expected, expected - empirical)
            for epoch, (total, empirical, expected) in enumerate(zip(*curves.values(), strict=True))
            if epoch % (n_epochs // 4) == 0
        ],
    )
    lesson.correction(
        "the gradient of a regularised mini-batch is (1/M) sum grad L_i + lambda grad R; theta is "
        "initialised once, and updated once for each mini-batch."
    )
    epochs = 2 if lesson.quick else 10
    seed = lesson.seed
    by_index, by_loader = (weights_after(make(y, c, 16), seed, epochs) for make in (partition, loader))
    again, other = (weights_after(partition(y, c, 16), s, epochs) for s in (seed, seed + 1))
    full, full_again = (weights_after(full_batch(y, c), seed, epochs) for _ in range(2))
    lesson.table(
        f"The same weights after {epochs} epochs? With a seed every run is repeated bit for bit",
        ("runs compared", "bit-equal", "largest difference"),
        [
            (name, str(nbdl.equal(a, b)), (a - b).abs().max())
            for name, a, b in (
                ("randperm and indexing, loader", by_index, by_loader),
                ("mini-batches, same seed", by_index, again),
                ("mini-batches, other seed", by_index, other),
                ("full batch, same initial theta", full, full_again),
            )
        ],
    )
    lesson.picture("training_cycle", draw_curves, list(range(n_epochs + 1)), curves)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
