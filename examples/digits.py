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
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbdl
from nbdl import nn
from nbdl.utils.data import DataLoader, Subset, TensorDataset, random_split

BATCH_SIZE = 64
TEST_PART = 0.2
QUICK_EPOCHS = 2


@dataclass
class History:
    """What a training run leaves behind, one entry an epoch."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


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
        raise SystemExit(
            "digits: scikit-learn is missing, which brings the images: pip install scikit-learn"
        ) from None
    return load_digits()


def make_dataset(digits: Any) -> TensorDataset:
    """The images as tensors of the backend in force, (1797, 1, 8, 8) from 0 to 1."""
    images = nbdl.tensor(digits.images, dtype=nbdl.float32).unsqueeze(1) / 16
    return TensorDataset(images, nbdl.tensor(digits.target))


def train_epoch(model: nn.Module, batches: Iterable[Any], loss_function: nn.Module, optimizer: Any) -> float:
    """One pass over the training images; the mean loss."""
    model.train()
    total, count = 0.0, 0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count


@nbdl.no_grad()
def accuracy(model: nn.Module, part: Subset) -> float:
    """Which fraction of the images is recognised."""
    model.eval()
    right = 0
    for images, labels in DataLoader(part, batch_size=512):
        right += int((model(images).argmax(1) == labels).sum().item())
    return right / len(part)


def train(dataset: TensorDataset, epochs: int, seed: int, description: str) -> History:
    """Train a new model with the backend in force."""
    nbdl.manual_seed(seed)
    n_test = int(TEST_PART * len(dataset))
    train_part, test_part = random_split(dataset, [len(dataset) - n_test, n_test])
    batches = DataLoader(train_part, batch_size=BATCH_SIZE, shuffle=True)
    model = make_model()
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = nbdl.optim.AdamW(model.parameters(), lr=2e-3)
    history = History()
    with Progress(epochs * len(batches), description) as progress:
        for epoch in range(epochs):
            # The learning rate falls linearly to a tenth, so that the last epochs settle.
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - 0.9 * epoch / max(epochs - 1, 1))
            start = time.perf_counter()
            history.losses.append(train_epoch(model, progress.over(batches), loss_function, optimizer))
            history.seconds.append(time.perf_counter() - start)
            history.accuracies.append(accuracy(model, test_part))
            progress.note(f"loss {history.losses[-1]:.3f}, test accuracy {history.accuracies[-1]:.1%}")
    return history


class Progress:
    """A progress bar: tqdm's if it is installed, else a plain line; silent where nobody watches."""

    def __init__(self, total: int, description: str):
        self._total, self._description, self._done, self._note = total, description, 0, ""
        self._shown = sys.stderr.isatty()
        try:
            from tqdm import tqdm
        except ImportError:
            self._bar = None
        else:
            self._bar = tqdm(total=total, desc=description, unit="batch", disable=not self._shown)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._shown:
            sys.stderr.write("\n")

    def over(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, counted."""
        for batch in batches:
            yield batch
            self._done += 1
            if self._bar is not None:
                self._bar.update()
            else:
                self._write()

    def note(self, text: str) -> None:
        """Show ``text`` beside the bar."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self._write()

    def _write(self) -> None:
        if self._shown:
            filled = 30 * self._done // self._total
            bar = "#" * filled + "." * (30 - filled)
            sys.stderr.write(f"\r{self._description} [{bar}] {self._done}/{self._total} {self._note} ")
            sys.stderr.flush()


def save_curves(histories: dict[str, History], path: Path) -> str:
    """Draw loss and accuracy over the epochs; says what was done."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return "learning curve: not drawn, since matplotlib is missing: pip install matplotlib"
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, history in histories.items():
        epochs = range(1, len(history.losses) + 1)
        left.plot(epochs, history.losses, marker=".", label=name)
        right.plot(epochs, [100 * value for value in history.accuracies], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy in %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Handwritten digits, 1797 images of 8 x 8 pixels")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return f"learning curve: {path}"


def one_blas_thread() -> Any:
    """NumPy's BLAS with one thread: the matrices are small, and a second pool would only disturb Numba's."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    return threadpool_limits(1, user_api="blas")


def chosen_backends(parser: argparse.ArgumentParser, wanted: list[str] | None) -> list[str]:
    """The backends to train with; ends the program where one cannot be used."""
    states = {state.name: state for state in nbdl.backend.status()}
    if wanted is None:
        for state in states.values():
            if not state.available:
                print(f"{state.name:6} skipped: {state.reason} ({state.remedy})")
        return nbdl.available_backends()
    for name in wanted:
        if name not in states:
            parser.error(f"unknown backend {name!r}; there are {', '.join(states)}")
        if not states[name].available:
            parser.error(f"backend {name!r} cannot be used: {states[name].reason} ({states[name].remedy})")
    return wanted


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train a small CNN on handwritten digits.")
    parser.add_argument(
        "--backend", action="append", metavar="NAME", help="numpy, numba or cupy; default: all that work"
    )
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images (default 20)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split, the weights and the batches (default 0)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("digits.png"), help="where the curves go (default digits.png)"
    )
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_EPOCHS} epochs")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs must be 1 or more, got {options.epochs}")
    if not options.out.resolve().parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.resolve().parent}")
    epochs = QUICK_EPOCHS if options.quick else options.epochs
    names = chosen_backends(parser, options.backend)
    digits = load_images()
    histories = {}
    for name in names:
        with nbdl.use_backend(name), one_blas_thread():
            history = histories[name] = train(make_dataset(digits), epochs, options.seed, name)
        n_train = len(digits.images) - int(TEST_PART * len(digits.images))
        print(
            f"{name:6} test accuracy {history.accuracies[-1]:.2%}, "
            f"{n_train / statistics.median(history.seconds):,.0f} images/s in training, "
            f"{sum(history.seconds):.1f} s for {epochs} epochs (the first one {history.seconds[0]:.1f} s)"
        )
    print(save_curves(histories, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
