"""Datasets for worker processes, which import them by name."""

from __future__ import annotations

import os
import random
import time

import numpy as np

import nbdl
from nbdl.utils import data


class Rows(data.Dataset):
    """Sample k: a row of k's, k, and a text."""

    def __init__(self, size, width=3):
        self.size, self.width = size, width

    def __getitem__(self, index):
        return {"row": np.full(self.width, index, np.float32), "index": index, "text": f"row {index}"}

    def __len__(self):
        return self.size


class Draws(data.Dataset):
    """What the generators of the process give."""

    def __getitem__(self, index):
        info = data.get_worker_info()
        numpy_draw = np.random.rand()  # noqa: NPY002
        return info.id, info.seed, nbdl.rand(()).item(), random.random(), numpy_draw

    def __len__(self):
        return 4


class Parts(data.IterableDataset):
    """0 ... size - 1, each worker every n-th; without sharing, everything from each worker."""

    def __init__(self, size, share=True):
        self.size, self.share = size, share

    def __iter__(self):
        info = data.get_worker_info()
        if info is None or not self.share:
            return iter(range(self.size))
        assert info.dataset is self
        return iter(range(info.id, self.size, info.num_workers))


class Troubled(data.Dataset):
    """Samples that do what their index says."""

    class Local(Exception):
        def __init__(self, first, second):
            super().__init__(first, second)

    def __getitem__(self, index):
        if index == "value":
            raise ValueError("this sample is bad")
        if index == "key":
            raise KeyError("missing")
        if index == "odd":
            raise self.Local(1, 2)
        if index == "lambda":
            return lambda: 0
        if index == "stop":
            raise StopIteration
        if index == "exit":
            os._exit(3)
        if index == "sleep":
            time.sleep(60)
        return index

    def __len__(self):
        return 1


def first(batch):
    return batch[0]


def fail_in_worker_one(number):
    if number == 1:
        raise OSError("no disk in worker 1")


def note_number(number):
    os.environ["NBDL_TEST_WORKER"] = str(number)


class Environment(data.Dataset):
    def __getitem__(self, index):
        return int(os.environ["NBDL_TEST_WORKER"]), nbdl.get_num_threads(), nbdl.get_backend()

    def __len__(self):
        return 4
