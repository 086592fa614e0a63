#!/usr/bin/env python
"""Width against depth: thirty networks learn a noisy sine.

The networks have a layer into the given width, so many hidden blocks (affine, tanh) of this width, and a
layer out of it. Those of one depth are trained side by side: a narrow network is a wide one whose further
units have no weights, and such units get no gradient, so they stay away.

Source: N, choosing an architecture, with the settings of its notebook (group 6).
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn
from nbdl.func import functional_call, vmap

NOISE = 0.2
DATA_SEED, NET_SEED = 123, 42
BATCH_SIZE, RATE = 5, 1e-3
LABELS = {0: "training", 1: "validation"}


class Study(NamedTuple):
    """What is varied, and how long everything is trained."""

    widths: tuple[int, ...] = (2, 4, 8, 16, 32)
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    epochs: int = 10
    n_train: int = 2000


QUICK = Study(widths=(4, 32), depths=(1, 4), epochs=2, n_train=100)


def make_data(n_train: int) -> list[tuple[nbdl.Tensor, nbdl.Tensor]]:
    """y = sin(x) + noise on [-3, 3], for training, validation and test."""
    nbdl.manual_seed(DATA_SEED)
    sizes = [n_train, 100, 100]
    x = 6 * nbdl.rand(sum(sizes), 1) - 3
    y = x.sin() + NOISE * nbdl.randn(*x.shape)
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def network(width: int, depth: int) -> nn.Sequential:
    """1 -> width, `depth` blocks width -> width, width -> 1."""
    layers: list[nn.Module] = [nn.Linear(1, width), nn.Tanh()]
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def side_by_side(widths: tuple[int, ...], depth: int, seed: int) -> tuple[nn.Module, nn.Parameter]:
    """The widest network, and theta (widths, parameters): all networks, filled up with zeros to its size."""
    widest = network(max(widths), depth)
    rows = []
    for width in widths:
        nbdl.manual_seed(seed)
        narrow = network(width, depth)
        for parameter, wide in zip(narrow.parameters(), widest.parameters(), strict=True):
            filled = nbdl.zeros(wide.shape)
            filled[tuple(map(slice, parameter.shape))] = parameter.detach()
            rows.append(filled.flatten())
    return widest, nn.Parameter(nbdl.cat(rows).reshape(len(widths), -1))


def by_name(net: nn.Module, theta: nbdl.Tensor) -> dict[str, nbdl.Tensor]:
    """The parameters of a network out of the vector of all of them."""
    named = dict(net.named_parameters())
    parts = theta.split([parameter.numel() for parameter in named.values()])
    return {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}


def train(
    widths: tuple[int, ...], depth: int, data: list[tuple[nbdl.Tensor, nbdl.Tensor]], epochs: int, seed: int
) -> nbdl.Tensor:
    """Mean squared errors (epochs + 1, widths, data sets), before training and after each epoch."""
    net, theta = side_by_side(widths, depth, seed)
    optimizer = nbdl.optim.Adam([theta], lr=RATE)
    loss = nn.MSELoss()

    def of_one(row: nbdl.Tensor, x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        return loss(functional_call(net, by_name(net, row), (x,)), y)

    losses = vmap(of_one, in_dims=(0, None, None))

    @nbdl.compile
    def step(x: nbdl.Tensor, y: nbdl.Tensor) -> None:
        optimizer.zero_grad()
        losses(theta, x, y).sum().backward()
        optimizer.step()

    @nbdl.no_grad()
    def evaluate() -> nbdl.Tensor:
        return nbdl.stack([losses(theta, x, y) for x, y in data], dim=1)

    x, y = data[0]
    history = [evaluate()]
    for _ in range(epochs):
        order = nbdl.randperm(len(x))
        for xb, yb in zip(x[order].split(BATCH_SIZE), y[order].split(BATCH_SIZE), strict=True):
            step(xb, yb)
        history.append(evaluate())
    return nbdl.stack(history)


def run_study(study: Study, seed: int) -> nbdl.Tensor:
    """All losses, (depths, epochs + 1, widths, data sets)."""
    data = make_data(study.n_train)
    return nbdl.stack([train(study.widths, depth, data, study.epochs, seed) for depth in study.depths])


def draw_heat_maps(figure: Any, losses: Any, study: Study) -> None:
    """The final training and validation losses over depth and width, in colours of a logarithmic scale."""
    from matplotlib.colors import LogNorm

    final = losses[:, -1, :, :2].transpose(1, 0, 2)  # width, depth, data set
    norm = LogNorm(final.min(), final.max())
    for k, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        shown = axes.imshow(final[..., k], origin="lower", norm=norm, aspect="auto")
        for (row, column), value in zip(_cells(final[..., k].shape), final[..., k].ravel(), strict=True):
            dark = norm(value) < 0.55
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", color="w" if dark else "k")
        axes.set(title=f"{LABELS[k]} loss", xlabel="hidden blocks")
        axes.set_xticks(range(len(study.depths)), study.depths)
        axes.set_yticks(range(len(study.widths)), study.widths)
        axes.grid(False)
        if k == 0:
            axes.set_ylabel("width")
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5) if norm.vmin <= tick <= norm.vmax]
    bar = figure.colorbar(shown, ax=figure.axes, label="mean squared error (log scale)", pad=0.02)
    bar.minorticks_off()
    bar.set_ticks(ticks, labels=map(str, ticks))
    figure.suptitle(f"After {study.epochs} epochs; the noise alone has {NOISE**2:.3f}")


def draw_curves(figure: Any, losses: Any, study: Study) -> None:
    """Losses over the epochs at the widths 4 and 32, and at the depths 4 and 32."""
    from matplotlib import colormaps

    panels = [
        (f"width {w}", losses[:, :, study.widths.index(w)], "blocks", study.depths) for w in (4, 32)
    ] + [
        (f"{d} blocks", losses[study.depths.index(d)].swapaxes(0, 1), "width", study.widths)
        for d in (4, 32)
        if d in study.depths
    ]
    for axes, (title, curves, varied, values) in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, panels
    ):
        for k, (value, curve) in enumerate(zip(values, curves, strict=True)):
            color = colormaps["viridis"](0.92 * k / max(len(values) - 1, 1))
            axes.plot(curve[:, 0], color=color, label=f"{value}")
            axes.plot(curve[:, 1], color=color, linestyle="--", linewidth=1.2)
        axes.axhline(NOISE**2, color="black", linestyle=":", linewidth=1.5)
        axes.set(title=title, yscale="log")
        axes.legend(title=varied, ncols=2, fontsize=10, title_fontsize=10)
    figure.supxlabel("epoch")
    figure.supylabel("mean squared error")
    figure.suptitle("Training (solid), validation (dashed) and the noise (dotted)")


def _cells(shape: tuple[int, int]) -> list[tuple[int, int]]:
    return [(row, column) for row in range(shape[0]) for column in range(shape[1])]


def show(lesson: Lesson) -> None:
    """The program."""
    study = QUICK if lesson.quick else Study()
    losses = run_study(study, lesson.seed)
    for k, name in enumerate(("training", "validation", "test")):
        lesson.table(
            f"Final {name} loss (noise alone: {NOISE**2:.3f})",
            ("width", *(f"{depth} blocks" for depth in study.depths)),
            [
                (width, *(f"{v:.4f}" for v in losses[:, -1, i, k].tolist()))
                for i, width in enumerate(study.widths)
            ],
        )
    lesson.picture("width_and_depth", draw_heat_maps, lecture.array(losses), study, size=(12, 5))
    lesson.picture("width_and_depth_curves", draw_curves, lecture.array(losses), study, size=(11, 8))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv, seed=NET_SEED, dtype=nbdl.float32)


if __name__ == "__main__":
    sys.exit(main())
