"""Readers of well-known file formats: MNIST, CIFAR, CSV, and scikit-learn's digits."""

from __future__ import annotations

from nbdl.datasets.idx import read_idx
from nbdl.datasets.images import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, ImageDataset
from nbdl.datasets.table import Table, read_csv

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "ImageDataset",
    "Table",
    "read_csv",
    "read_idx",
]
