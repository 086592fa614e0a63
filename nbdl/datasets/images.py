"""Datasets of small labelled images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.datasets.idx import read_bytes, read_idx
from nbdl.ops.creation import as_tensor
from nbdl.ops.joining import concatenate, stack
from nbdl.utils.data.dataset import Dataset

_Path = str | os.PathLike


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Images and their labels in memory.

    Sample k is (image, label): a tensor (channels, height, width) of the default floating dtype with values
    from 0 to 1, and an integer tensor; or what the transforms make of them.

    Args:
        data: (n, channels, height, width), the values of the pixels.
        targets: (n,), the labels.
        classes: their names.
        transform: applied to every image, and
        target_transform: to every label.
        white: the value of a white pixel.

    Attributes:
        data: the pixels as they are in the file.
        targets: the labels.
        classes: their names.

    Raises:
        ValueError: there are not as many labels as images.
    """

    def __init__(
        self,
        data: Tensor,
        targets: Tensor,
        classes: Sequence[str],
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[Tensor], Any] | None = None,
        white: float = 255.0,
    ):
        if data.shape[0] != targets.shape[0]:
            raise ValueError(
                f"{type(self).__name__}: there are {data.shape[0]} images, but {targets.shape[0]} labels"
            )
        self.data, self.targets, self.classes = data, targets, list(classes)
        self.transform, self.target_transform = transform, target_transform
        self._white = white

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        image, label = self._scaled(self.data[index]), self.targets[index]
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def gather(self, indices: Sequence[int]) -> list[Any]:
        """The batch of some samples: one fancy index, unless there are transforms to apply one by one."""
        if self.transform is None and self.target_transform is None:
            positions = as_tensor(indices, device=self.data.device)
            return [self._scaled(self.data[positions]), self.targets[positions]]
        images, labels = zip(*[self[k] for k in indices], strict=True)
        return [stack(list(images)), stack([as_tensor(label) for label in labels])]

    def _scaled(self, image: Tensor) -> Tensor:
        return image / self._white

    def __len__(self) -> int:
        return self.data.shape[0]


class MNIST(ImageDataset):
    """Handwritten digits, 28 x 28: 60000 for training, 10000 for the test.

    Args:
        root: a folder that holds the four IDX files, packed by gzip or not, directly or in ``MNIST/raw`` as
            torchvision lays them out.
        train: the part for training, or for the test.
        transform: as for :class:`ImageDataset`.
        target_transform: likewise.

    Raises:
        FileNotFoundError: a file is missing; the message names what was looked for.
        RuntimeError: a file is truncated or corrupt.
    """

    names: ClassVar[Sequence[str]] = [str(k) for k in range(10)]

    def __init__(
        self,
        root: _Path,
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[Tensor], Any] | None = None,
    ):
        part = "train" if train else "t10k"
        folders = (".", f"{type(self).__name__}/raw", "raw")
        pixels = _read_idx_of(root, folders, f"{part}-images-idx3-ubyte", 3)
        labels = _read_idx_of(root, folders, f"{part}-labels-idx1-ubyte", 1)
        super().__init__(pixels.unsqueeze(1), labels.long(), self.names, transform, target_transform)


class FashionMNIST(MNIST):
    """Clothes, in the format of :class:`MNIST`."""

    names: ClassVar[Sequence[str]] = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip


class CIFAR10(ImageDataset):
    """Small colour photographs, 3 x 32 x 32, of 10 classes: the binary version of the data set.

    The pickled version is not read: unpickling runs code.

    Args:
        root: a folder that holds the .bin files, directly or in the folder of the archive.
        train: the part for training, or for the test.
        transform: as for :class:`ImageDataset`.
        target_transform: likewise.

    Raises:
        FileNotFoundError: a file is missing; the message names what was looked for.
        RuntimeError: a file is truncated or corrupt.
    """

    folder: ClassVar[str] = "cifar-10-batches-bin"
    train_files: ClassVar[Sequence[str]] = [f"data_batch_{k}.bin" for k in range(1, 6)]
    test_files: ClassVar[Sequence[str]] = ["test_batch.bin"]
    n_labels: ClassVar[int] = 1  # bytes before the pixels of an image; the last is the class
    names: ClassVar[Sequence[str]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def __init__(
        self,
        root: _Path,
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[Tensor], Any] | None = None,
    ):
        files = self.train_files if train else self.test_files
        parts = [_read_cifar(_find(root, (".", self.folder), name), self) for name in files]
        pixels, labels = (concatenate([part[k] for part in parts]) for k in (0, 1))
        super().__init__(pixels, labels[:, -1].long(), self.names, transform, target_transform)
        self.labels = labels


class CIFAR100(CIFAR10):
    """Small colour photographs of 100 classes, as :class:`CIFAR10`.

    Attributes:
        labels: (n, 2), the superclass (of 20) and the class of each image.
    """

    folder = "cifar-100-binary"
    train_files: ClassVar[Sequence[str]] = ["train.bin"]
    test_files: ClassVar[Sequence[str]] = ["test.bin"]
    n_labels = 2
    names: ClassVar[Sequence[str]] = [str(k) for k in range(100)]


class Digits(ImageDataset):
    """The 1797 handwritten digits, 1 x 8 x 8, that come with scikit-learn.

    Args:
        transform: as for :class:`ImageDataset`.
        target_transform: likewise.

    Raises:
        ImportError: scikit-learn is not installed.
    """

    def __init__(
        self,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[Tensor], Any] | None = None,
    ):
        try:
            from sklearn.datasets import load_digits  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError("Digits: the images come with scikit-learn: pip install scikit-learn") from None
        images, labels = load_digits(return_X_y=True)
        pixels = as_tensor(images.reshape(-1, 1, 8, 8).astype(np.uint8))
        super().__init__(pixels, as_tensor(labels), MNIST.names, transform, target_transform, white=16.0)


def _find(root: _Path, folders: Sequence[str], name: str) -> Path:
    """The file ``name``, or the same packed by gzip, in one of the folders below ``root``."""
    for folder in folders:
        for candidate in (name, f"{name}.gz"):
            path = Path(root, folder, candidate)
            if path.is_file():
                return path
    looked = ", ".join(str(Path(root, folder)) for folder in folders)
    raise FileNotFoundError(f"there is no file {name} (or {name}.gz) in {looked}")


def _read_idx_of(root: _Path, folders: Sequence[str], name: str, ndim: int) -> Tensor:
    path = _find(root, folders, name)
    found = read_idx(path)
    if found.ndim != ndim or found.dtype != np.uint8:
        raise RuntimeError(
            f"'{path}' holds {found.dtype} of shape {tuple(found.shape)}, expected uint8 with {ndim} axes"
        )
    return found


def _read_cifar(path: Path, dataset: CIFAR10) -> tuple[Tensor, Tensor]:
    """Pixels (n, 3, 32, 32) and labels (n, 1 or 2) of one file; source: README of the data set."""
    content = np.frombuffer(read_bytes(path), np.uint8)
    record = dataset.n_labels + 3 * 32 * 32
    if content.size == 0 or content.size % record:
        raise RuntimeError(
            f"'{path}' is truncated or corrupt: {content.size} bytes are no multiple of {record}, an image"
        )
    rows = content.reshape(-1, record)
    labels, pixels = rows[:, : dataset.n_labels], rows[:, dataset.n_labels :]
    if labels[:, -1].max() >= len(dataset.names):
        raise RuntimeError(f"'{path}' is corrupt: there is a label {labels[:, -1].max()}")
    return as_tensor(pixels.reshape(-1, 3, 32, 32).copy()), as_tensor(labels.copy())
