#!/usr/bin/env python
"""Trains a residual network on images in the files of CIFAR-10.

    python examples/cifar_resnet.py --data cifar-10-batches-bin --depth 20 --epochs 30
    python examples/cifar_resnet.py --quick

--data names the folder of the binary version (https://www.cs.toronto.edu/~kriz/cifar.html). Without it the
program writes such files itself, with coloured drawings of ten figures on noisy ground, and reads them back:
the same format and shapes, an easier task.

Source: He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition, section 4.2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import application
import nbdl
from nbdl import nn
from nbdl.datasets import CIFAR10
from nbdl.nn import functional as F
from nbdl.utils.data import DataLoader
from nbdl.utils.metrics import Accuracy

SIDE = 32
FIGURES = (
    "disc",
    "ring",
    "square",
    "frame",
    "triangle",
    "cross",
    "saltire",
    "stripes",
    "crescent",
    "hourglass",
)


# -------------------------------------------------------------------------------------- images of one's own
def draw_figure(kind: int, random: np.random.Generator) -> np.ndarray:
    """A figure of random place, size and colours on noisy ground, bytes (3, 32, 32)."""
    x0, y0 = random.uniform(12, 20, 2)
    size = random.uniform(7, 12)
    y, x = np.mgrid[:SIDE, :SIDE]
    x, y = (x - x0) / size, (y - y0) / size
    square, radius = np.maximum(abs(x), abs(y)), np.hypot(x, y)
    masks = (
        radius < 1,
        (radius < 1) & (radius > 0.6),
        square < 0.85,
        (square < 0.85) & (square > 0.5),
        (abs(x) < (y + 1) / 2) & (y < 0.9),
        (np.minimum(abs(x), abs(y)) < 0.25) & (square < 0.95),
        (abs(abs(x) - abs(y)) < 0.3) & (square < 0.95),
        (np.sin(5 * y) > 0) & (square < 0.95),
        (radius < 1) & (np.hypot(x - 0.5, y) > 0.8),
        (abs(x) < abs(y)) & (abs(y) < 0.95),
    )
    front, back = random.uniform(0, 255, (2, 3, 1, 1))
    back = np.where(abs(front - back).sum() < 200, 255 - front, back)
    image = np.where(masks[kind], front, back) + random.normal(0, 25, (3, SIDE, SIDE))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_files(folder: Path, per_file: int, seed: int) -> None:
    """Files of CIFAR-10's binary format: for each image a byte with its class, then its pixels."""
    random = np.random.default_rng(seed)
    for name in (*CIFAR10.train_files, *CIFAR10.test_files):
        labels = random.integers(0, len(FIGURES), per_file)
        records = [np.append(np.uint8(label), draw_figure(label, random).ravel()) for label in labels]
        (folder / name).write_bytes(b"".join(record.tobytes() for record in records))


def load(options: argparse.Namespace) -> tuple[CIFAR10, CIFAR10]:
    """The images for training and test."""
    with application.refusing(OSError, RuntimeError):
        if options.data is not None:
            return CIFAR10(options.data, train=True), CIFAR10(options.data, train=False)
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), 16 if options.quick else 1000, options.seed)
            return CIFAR10(folder, train=True), CIFAR10(folder, train=False)


# -------------------------------------------------------------------------------------------------- the model
def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, or divides it by the stride, and batch normalization."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two convolutions with a shortcut around them."""
    path = nn.Sequential(convolution(inputs, outputs, 3, stride), nn.ReLU(), convolution(outputs, outputs, 3))
    shortcut = None if (inputs, stride) == (outputs, 1) else convolution(inputs, outputs, 1, stride)
    return nn.Sequential(nn.Residual(path, shortcut), nn.ReLU())


def make_model(depth: int, width: int = 16) -> nn.Sequential:
    """A network of depth = 6 n + 2 layers: three stages of n blocks, each with half the side of the last."""
    layers: list[nn.Module] = [convolution(3, width, 3), nn.ReLU()]
    channels = width
    for stage in range(3):
        for k in range((depth - 2) // 6):
            outputs = width << stage
            layers.append(block(channels, outputs, 2 if stage and not k else 1))
            channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(FIGURES)))


# --------------------------------------------------------------------------------------------------- training
def augment(images: nbdl.Tensor) -> nbdl.Tensor:
    """Each image moved by up to 4 pixels, and mirrored half of the time; what comes in is black."""
    n = len(images)
    padded = F.pad(images, (4, 4, 4, 4))
    rows, columns = (nbdl.randint(0, 9, (n, 1)) + nbdl.arange(SIDE) for _ in range(2))
    columns = nbdl.where(nbdl.rand(n, 1) < 0.5, columns.flip(1), columns)
    sample = nbdl.arange(n).reshape(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[sample, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def train(options: argparse.Namespace) -> application.Figures:
    """Train on the images; returns the accuracies."""
    training, test = load(options)
    model = make_model(options.depth, 4 if options.quick else 16)
    device = next(model.parameters()).device
    for part in (training, test):  # small enough to be on a GPU as a whole
        part.data, part.targets = part.data.to(device), part.targets.to(device)
    epochs = 5 if options.quick else options.epochs
    batches = DataLoader(training, batch_size=20 if options.quick else 128, shuffle=True, drop_last=True)
    optimizer = nbdl.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = nbdl.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * len(batches))
    pixels = training.data.to(nbdl.float32) / 255
    mean, deviation = (f(pixels, (0, 2, 3)).reshape(3, 1, 1) for f in (nbdl.mean, nbdl.std))

    @application.compiled(options)
    def descend(images: nbdl.Tensor, labels: nbdl.Tensor) -> dict[str, nbdl.Tensor]:
        optimizer.zero_grad()
        scores = model(augment((images - mean) / deviation))
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
        right = (scores.argmax(1) == labels).to(nbdl.float32).mean()
        return {"loss": loss.detach(), "training accuracy": right}

    def step(batch: list[nbdl.Tensor]) -> dict[str, nbdl.Tensor]:
        model.train()
        values = descend(*batch)
        schedule.step()
        return values

    @nbdl.no_grad()
    def evaluate() -> dict[str, nbdl.Tensor]:
        model.eval()
        accuracy = Accuracy()
        for images, labels in DataLoader(test, batch_size=250):
            accuracy.update(model((images - mean) / deviation), labels)
        return {"test accuracy": accuracy.compute()}

    history = application.fit(
        options, step, batches, epochs, {"model": model, "optimizer": optimizer, "schedule": schedule},
        evaluate,
    )  # fmt: skip

    def draw(left, right):
        images, labels = zip(*[test[k] for k in range(12)])
        rows = [nbdl.cat(images[k : k + 4], 2) for k in (0, 4, 8)]
        left.imshow(nbdl.cat(rows, 1).permute(1, 2, 0).cpu().numpy())
        names = test.classes if options.data else FIGURES
        style = {"va": "top", "color": "white", "size": 8, "bbox": {"facecolor": "black", "pad": 1}}
        for k, label in enumerate(labels):
            left.text(SIDE * (k % 4) + 1, SIDE * (k // 4) + 1, names[label.item()], **style)
        left.set(title="test images", xticks=[], yticks=[])
        for name in ("training accuracy", "test accuracy"):
            right.plot(range(1, epochs + 1), [100 * epoch[name] for epoch in history], ".-", label=name)
        right.set(xlabel="epoch", ylabel="accuracy in %")
        right.legend()

    application.save_picture(options.out, draw, columns=2)
    return {
        "training loss": history[-1]["loss"],
        "training accuracy": history[-1]["training accuracy"],
        "test accuracy": history[-1]["test accuracy"],
    }


def depth(text: str) -> int:
    """The number of layers, as the command line gives it."""
    value = application.positive(text)
    if value < 8 or value % 6 != 2:
        raise argparse.ArgumentTypeError(f"must be 8, 14, 20, ..., got {value}")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "cifar_resnet.png")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="that holds data_batch_1.bin and so on")
    parser.add_argument("--depth", type=depth, default=8, help="layers: 8, 14, 20, ... (default 8)")
    parser.add_argument("--epochs", type=application.positive, default=10, help="default 10")
    return application.run(parser, argv, train)


if __name__ == "__main__":
    sys.exit(main())
