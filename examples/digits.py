#!/usr/bin/env python
"""Trains a small convolutional network on scikit-learn's handwritten digits, with each backend there is.

    python examples/digits.py
    python examples/digits.py --backend numba --epochs 30 --out curve.png

The data are 1797 real images of 8 x 8 pixels (UCI optical recognition of handwritten digits); a fifth of
them is kept for the test. The script prints test accuracy and training speed for each backend and saves the
learning curves.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import application
import nbdl
from nbdl import nn
from nbdl.utils.data import DataLoader, Subset, TensorDataset, random_split

BATCH_SIZE = 64
TEST_PART = 0.2
QUICK_EPOCHS = 2


def make_model() -> nn.Module:
    """Two convolutions and two linear layers: 55 k parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 4 * 4, 96),
        nn.ReLU(),
        nn.Linear(96, 10),
    )


def load_images() -> Any:
    """The images, (1797, 8, 8) from 0 to 16, and their digits, as scikit-learn has them."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        application.refuse("scikit-learn is missing, which brings the images: pip install scikit-learn")
    return load_digits()


def make_dataset(digits: Any) -> TensorDataset:
    """The images as tensors of the backend in force, (1797, 1, 8, 8) from 0 to 1."""
    images = nbdl.tensor(digits.images, dtype=nbdl.float32).unsqueeze(1) / 16
    return TensorDataset(images, nbdl.tensor(digits.target))


@nbdl.no_grad()
def accuracy(model: nn.Module, part: Subset) -> float:
    """Which fraction of the images is recognised."""
    model.eval()
    right = 0
    for images, labels in DataLoader(part, batch_size=512):
        right += int((model(images).argmax(1) == labels).sum().item())
    return right / len(part)


def train(options: argparse.Namespace, dataset: TensorDataset) -> application.History:
    """Train a new model with the backend in force."""
    nbdl.manual_seed(options.seed)
    n_test = int(TEST_PART * len(dataset))
    train_part, test_part = random_split(dataset, [len(dataset) - n_test, n_test])
    batches = DataLoader(train_part, batch_size=BATCH_SIZE, shuffle=True)
    model = make_model()
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = nbdl.optim.AdamW(model.parameters(), lr=2e-3)
    # The learning rate falls linearly to a tenth, so that the last epochs settle.
    schedule = nbdl.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=max(options.epochs - 1, 1))

    def step(batch: list[nbdl.Tensor]) -> dict[str, float]:
        start = time.perf_counter()
        images, labels = batch
        model.train()
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "seconds": time.perf_counter() - start}

    def evaluate() -> dict[str, float]:
        schedule.step()
        return {"test accuracy": accuracy(model, test_part)}

    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    return application.fit(options, step, batches, options.epochs, parts, evaluate)


def draw_curves(histories: dict[str, application.History], left: Any, right: Any) -> None:
    """Loss and accuracy over the epochs."""
    for name, history in histories.items():
        epochs = range(1, len(history) + 1)
        left.plot(epochs, [epoch["loss"] for epoch in history], marker=".", label=name)
        right.plot(epochs, [100 * epoch["test accuracy"] for epoch in history], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy in %")
    for axes in (left, right):
        axes.legend()
    left.figure.suptitle("Handwritten digits, 1797 images of 8 x 8 pixels")


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train a small CNN on handwritten digits.")
    parser.add_argument(
        "--backend", action="append", metavar="NAME", help="numpy, numba or cupy; default: all that work"
    )
    parser.add_argument(
        "--epochs", type=application.positive, default=20, help="passes over the training images (default 20)"
    )
    parser.add_argument(
        "--seed",
        type=application.seed,
        default=0,
        help="of the split, the weights and the batches (default 0)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("digits.png"), help="where the curves go (default digits.png)"
    )
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_EPOCHS} epochs")
    application.add_checkpoint(parser)
    options = parser.parse_args(argv)
    application.check_folder(parser, "--out", options.out)
    application.check_checkpoint(parser, options)
    if options.quick:
        options.epochs = QUICK_EPOCHS
    names = application.choose_backends(parser, options.backend)
    if options.checkpoint is not None and len(names) > 1:
        parser.error(f"--checkpoint needs one --backend, got {', '.join(names)}")
    digits = load_images()
    histories = {}
    for name in names:
        with nbdl.use_backend(name), application.one_blas_thread(), application.stopping(options):
            history = histories[name] = train(options, make_dataset(digits))
        n_train = len(digits.images) - int(TEST_PART * len(digits.images))
        seconds = [epoch["seconds"] * math.ceil(n_train / BATCH_SIZE) for epoch in history]
        print(
            f"{name:6} test accuracy {history[-1]['test accuracy']:.2%}, "
            f"{n_train / statistics.median(seconds):,.0f} images/s in training, "
            f"{sum(seconds):.1f} s for {options.epochs} epochs (the first one {seconds[0]:.1f} s)"
        )
    application.save_picture(options.out, functools.partial(draw_curves, histories), columns=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
