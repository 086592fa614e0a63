#!/usr/bin/env python
"""Classifiers of 32 x 32 colour images: nearest neighbour, and linear ones with softmax and with hinge loss.

The images are made here: a pattern of soft colours for each of ten classes, shifted, dimmed, every other one
mirrored, before a random background. `nbdl.datasets.CIFAR10(folder)` has the shapes of the lecture and takes
the place of `make_images`. The rows of a linear classifier's weights are images themselves, the templates
that it looks for; it has but one for a class and its mirror image.

Source: L, classifiers (groups 47, 48, 49).
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn, optim
from nbdl.nn import functional as F
from nbdl.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from nbdl.utils.metrics import accuracy

SIDE, N_CLASSES = 32, 10
GRID, SHIFT, BACKGROUND, NOISE = 5, 4, 1.5, 0.3
PENALTY, RATE = 3e-3, 0.004
LOSSES = {"softmax": F.cross_entropy, "hinge": F.multiclass_hinge_loss}


class Images(NamedTuple):
    """Images (n, 3, 32, 32) about 0, and their classes (n,)."""

    pixels: nbdl.Tensor
    labels: nbdl.Tensor


def soft_colours(n: int, side: int) -> nbdl.Tensor:
    """n soft patterns (n, 3, side, side): random colours of a coarse grid, interpolated."""
    colours = nbdl.randn(n, 3, GRID, GRID)
    return F.interpolate(colours, size=(side, side), mode="bilinear", align_corners=True)


def patterns() -> nbdl.Tensor:
    """The pattern of each class, with room for the shifts."""
    return soft_colours(N_CLASSES, SIDE + 2 * SHIFT)


def make_images(classes: nbdl.Tensor, n: int) -> Images:
    """n images of random classes: patterns shifted, dimmed, mirrored or not, with a background and noise."""
    labels = nbdl.randint(0, N_CLASSES, (n,))
    shifts = nbdl.randint(0, 2 * SHIFT + 1, (n, 2)).tolist()
    parts = [
        classes[label, :, row : row + SIDE, column : column + SIDE]
        for label, (row, column) in zip(labels.tolist(), shifts, strict=True)
    ]
    brightness = 0.5 + nbdl.rand(n, 1, 1, 1)
    pixels = brightness * nbdl.stack(parts)
    pixels = nbdl.where(nbdl.rand(n, 1, 1, 1) < 0.5, pixels, pixels.flip(3))
    return Images(pixels + BACKGROUND * soft_colours(n, SIDE) + NOISE * nbdl.randn(*pixels.shape), labels)


def nearest_neighbour(train: Images, test: Images, p: float, k: int = 1) -> float:
    """The accuracy of the nearest training images, by the norm of order p."""
    model = nn.NearestNeighbor(k=k, p=p).train(train.pixels, train.labels)
    return (model.predict(test.pixels) == test.labels).double().mean().item()


class Trained(NamedTuple):
    """A linear classifier, its loss after each epoch, and its accuracies."""

    model: nn.Linear
    losses: list[float]
    train_accuracy: float
    test_accuracy: float

    def templates(self) -> nbdl.Tensor:
        """The rows of the weights as images (10, 32, 32, 3) with values from 0 to 1."""
        rows = self.model.weight.detach().reshape(N_CLASSES, 3, SIDE, SIDE).permute(0, 2, 3, 1)
        low, high = rows.amin((1, 2, 3), keepdim=True), rows.amax((1, 2, 3), keepdim=True)
        return (rows - low) / (high - low)


def train_linear(
    train: Images, test: Images, loss_function: Any, epochs: int, batch_size: int = 64
) -> Trained:
    """W x + b by minibatch SGD on the loss plus PENALTY times the sum of W^2."""
    model = nn.Linear(3 * SIDE * SIDE, N_CLASSES)
    nn.init.zeros_(model.weight)  # the loss is convex; from 0 the templates show nothing but what was learned
    optimizer = optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    penalty = nn.L2(PENALTY)
    dataset = TensorDataset(train.pixels.flatten(1), train.labels)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for x, y in DataLoader(dataset, batch_size=batch_size, shuffle=True):
            optimizer.zero_grad()
            loss = loss_function(model(x), y) + penalty([model.weight])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        losses.append(total / len(dataset))
    with nbdl.no_grad():
        accuracies = [accuracy(model(part.pixels.flatten(1)), part.labels).item() for part in (train, test)]
    return Trained(model, losses, *accuracies)


def minibatches(n_samples: int, batch_size: int) -> tuple[int, int, bool]:
    """Minibatches of a random order: their number, the size of the last, whether each sample comes once."""
    batches = list(BatchSampler(RandomSampler(range(n_samples)), batch_size, drop_last=False))
    once = sorted(index for batch in batches for index in batch) == list(range(n_samples))
    return len(batches), len(batches[-1]), once


def gradient_noise(train: Images, batch_size: int, n_batches: int) -> float:
    """The standard deviation of minibatch gradients about the whole gradient, relative to its length."""
    model = nn.Linear(3 * SIDE * SIDE, N_CLASSES)
    x, y = train.pixels.flatten(1), train.labels

    def gradient(indices: Any) -> nbdl.Tensor:
        (g,) = nbdl.autograd.grad(F.cross_entropy(model(x[indices]), y[indices]), [model.weight])
        return g

    whole = gradient(nbdl.arange(len(y)))
    squares = [
        ((gradient(nbdl.randint(0, len(y), (batch_size,))) - whole) ** 2).sum() for _ in range(n_batches)
    ]
    return ((sum(squares) / n_batches).sqrt() / nbdl.linalg.norm(whole)).item()


def draw_images(figure: Any, rows: dict[str, Any]) -> None:
    """A row of ten pictures for each name."""
    for row, (name, images) in zip(figure.subplots(len(rows), N_CLASSES), rows.items(), strict=True):
        for k, (ax, image) in enumerate(zip(row, images, strict=True)):
            ax.imshow(image)
            ax.set(xticks=[], yticks=[], title=f"class {k}" if row is figure.axes[0] else "")
            ax.grid(False)
        row[0].set_ylabel(name)
    for k, ax in enumerate(figure.axes[:N_CLASSES]):
        ax.set_title(f"class {k}", fontsize=12)


def show(lesson: Lesson) -> None:
    """The program."""
    n_train, n_test, epochs = (300, 60, 2) if lesson.quick else (2000, 400, 10)
    classes = patterns()
    train, test = make_images(classes, n_train), make_images(classes, n_test)
    lesson.table(
        f"Nearest neighbour: {n_train:,} images are remembered, {n_test} predicted",
        ("distance", "neighbours", "test accuracy"),
        [(f"l{p}", k, f"{nearest_neighbour(train, test, p, k):.1%}") for p, k in ((1, 1), (2, 1), (2, 5))],
    )
    trained = {name: train_linear(train, test, loss, epochs) for name, loss in LOSSES.items()}
    lesson.table(
        f"Linear classifiers 32 x 32 x 3 -> 10, {epochs} epochs of minibatches of 64",
        ("loss", "parameters", "first epoch's loss", "last", "training accuracy", "test accuracy"),
        [
            (
                name,
                sum(p.numel() for p in run.model.parameters()),
                run.losses[0],
                run.losses[-1],
                f"{run.train_accuracy:.1%}",
                f"{run.test_accuracy:.1%}",
            )
            for name, run in trained.items()
        ],
    )
    lesson.correction(
        "the gradient of a minibatch of M is (1/M) sum grad L_i + lambda grad R; theta is set once, before "
        "the first epoch, and changed once a minibatch."
    )
    n_batches = 5 if lesson.quick else 30
    lesson.table(
        f"Minibatches of {n_train:,} samples: noise of the gradient falls with the root of the size",
        ("size", "minibatches", "the last has", "every sample once", "noise / |gradient|"),
        [
            (size, *minibatches(n_train, size), gradient_noise(train, size, n_batches))
            for size in (32, 64, 128)
        ],
    )
    examples = [train.pixels[int((train.labels == k).nonzero()[0, 0])] for k in range(N_CLASSES)]
    shown = nbdl.stack(examples).permute(0, 2, 3, 1)
    rows = {"image": lecture.array(((shown + 3) / 6).clamp(0, 1))}
    rows |= {name: lecture.array(run.templates()) for name, run in trained.items()}
    lesson.picture("templates", draw_images, rows, size=(15, 5))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv, dtype=nbdl.float32)


if __name__ == "__main__":
    sys.exit(main())
