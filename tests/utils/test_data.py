"""Datasets, samplers, collation and the loader."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

import nbdl
from nbdl.utils import data


class Squares(data.Dataset):
    """Sample k is (k, k^2), as Python numbers."""

    def __init__(self, size):
        self.size = size

    def __getitem__(self, index):
        return index, float(index**2)

    def __len__(self):
        return self.size


class Stream(data.IterableDataset):
    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


class SizedStream(Stream):
    def __len__(self):
        return len(self.values)


def pairs(size=10):
    return data.TensorDataset(nbdl.arange(2 * size).reshape(size, 2), nbdl.arange(size))


def generator(seed=0):
    return nbdl.Generator().manual_seed(seed)


def labels_of(loader):
    return [batch[1].tolist() for batch in loader]


# --------------------------------------------------------------------------------------------------- datasets
def test_tensor_dataset():
    dataset = pairs()
    assert len(dataset) == 10
    row, label = dataset[3]
    assert (row.tolist(), label.item()) == ([6, 7], 3)
    assert dataset[-1][1].item() == 9
    with pytest.raises(IndexError):
        dataset[10]


def test_subset_and_concatenation():
    dataset = data.Subset(pairs(), [5, 1, 8])
    assert [dataset[k][1].item() for k in range(len(dataset))] == [5, 1, 8]
    assert dataset[[0, 2]][1].tolist() == [5, 8]
    both = dataset + Squares(4)
    assert isinstance(both, data.ConcatDataset)
    assert len(both) == 7
    assert both.cumulative_sizes == [3, 7]
    assert both[2][1].item() == 8
    assert both[3] == (0, 0.0)
    assert both[-1] == (3, 9.0)
    for index in (7, -8):
        with pytest.raises(IndexError, match="out of range for 7 samples"):
            both[index]
    chain = Stream(1, 2) + Stream(3)
    assert isinstance(chain, data.ChainDataset)
    assert list(chain) == [1, 2, 3]
    assert len(SizedStream(1, 2) + SizedStream(3)) == 3


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([7, 3], [7, 3]),
        ([10], [10]),
        ([0.5, 0.5], [5, 5]),
        ([0.33, 0.33, 0.34], [4, 3, 3]),
        ([10, 0], [10, 0]),
    ],
)
def test_random_split(lengths, sizes):
    parts = data.random_split(pairs(), lengths, generator())
    assert [len(part) for part in parts] == sizes
    assert sorted(index for part in parts for index in part.indices) == list(range(10))
    again = data.random_split(pairs(), lengths, generator())
    assert [part.indices for part in again] == [part.indices for part in parts]
    assert any(part.indices != sorted(part.indices) for part in parts)


# --------------------------------------------------------------------------------------------------- samplers
def test_random_samplers():
    sampler = data.RandomSampler(range(100), generator=generator())
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert list(data.RandomSampler(range(100), generator=generator())) == first
    assert len(list(data.RandomSampler(range(3), num_samples=8))) == 8
    drawn = list(data.RandomSampler(range(5), replacement=True, num_samples=200))
    assert len(drawn) == 200
    assert set(drawn) == set(range(5))
    subset = data.SubsetRandomSampler([4, 7, 9], generator())
    assert sorted(subset) == [4, 7, 9]
    assert len(subset) == 3


def test_weighted_sampler():
    sampler = data.WeightedRandomSampler([0.0, 3.0, 1.0], 4000, generator=generator())
    counts = np.bincount(list(sampler), minlength=3)
    assert counts[0] == 0
    assert counts[1] / counts[2] == pytest.approx(3, rel=0.15)
    assert sorted(data.WeightedRandomSampler([1.0, 2.0, 3.0], 3, replacement=False)) == [0, 1, 2]


def test_batch_sampler():
    assert list(data.BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(data.BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    for size in (0, 4, 5):
        for drop_last in (False, True):
            sampler = data.BatchSampler(range(size), 2, drop_last)
            assert len(sampler) == len(list(sampler))


# ---------------------------------------------------------------------------------------------------- collate
Point = namedtuple("Point", "x y")
COLLATED = [
    ([1, 2], nbdl.int64, [1, 2]),
    ([1.5, 2.5], nbdl.float64, [1.5, 2.5]),
    ([True, False], nbdl.bool, [True, False]),
    ([np.float32(1), np.float32(2)], nbdl.float32, [1.0, 2.0]),
    ([np.array([1, 2], np.int32)] * 2, nbdl.int32, [[1, 2], [1, 2]]),
]


@pytest.mark.parametrize(("batch", "dtype", "values"), COLLATED)
def test_collate_numbers(batch, dtype, values):
    collated = data.default_collate(batch)
    assert collated.dtype == dtype
    assert collated.tolist() == values


def test_collate_structures():
    assert data.default_collate([nbdl.ones(2), nbdl.zeros(2)]).tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert data.default_collate(["a", "b"]) == ["a", "b"]
    table = data.default_collate([{"n": 1, "s": "a"}, {"n": 2, "s": "b"}])
    assert (table["n"].tolist(), table["s"]) == ([1, 2], ["a", "b"])
    points = data.default_collate([Point(1, 2.0), Point(3, 4.0)])
    assert isinstance(points, Point)
    assert points.x.tolist() == [1, 3]
    first, second = data.default_collate([(1, [2]), (3, [4])])
    assert (first.tolist(), second[0].tolist()) == ([1, 3], [2, 4])
    with pytest.raises(RuntimeError, match=r"equal size, got lengths \[1, 2\]"):
        data.default_collate([[1], [1, 2]])
    with pytest.raises(TypeError, match="found object"):
        data.default_collate([object(), object()])


def test_convert():
    converted = data.default_convert({"a": np.ones(2), "b": ["text", (np.float32(1), 3)]})
    assert isinstance(converted["a"], nbdl.Tensor)
    assert converted["b"][0] == "text"
    assert converted["b"][1][1] == 3


# ----------------------------------------------------------------------------------------------------- loader
def test_order_batches_and_length():
    loader = data.DataLoader(pairs(), batch_size=4)
    assert labels_of(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels_of(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    assert labels_of(data.DataLoader(pairs(), batch_size=4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [len(batch[1]) for batch in data.DataLoader(pairs())] == [1] * 10


def test_each_epoch_is_a_fresh_partition():
    loader = data.DataLoader(pairs(), batch_size=4, shuffle=True, generator=generator(1))
    epochs = [labels_of(loader) for _ in range(3)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4, 2]
        assert sorted(label for batch in epoch for label in batch) == list(range(10))
    assert epochs[0] != epochs[1] != epochs[2]
    again = data.DataLoader(pairs(), batch_size=4, shuffle=True, generator=generator(1))
    assert labels_of(again) == epochs[0]
    nbdl.manual_seed(3)
    first = labels_of(data.DataLoader(pairs(), 4, shuffle=True))
    nbdl.manual_seed(3)
    assert labels_of(data.DataLoader(pairs(), 4, shuffle=True)) == first


def test_whole_batches_equal_stacked_samples():
    dataset = pairs(20)
    part = data.Subset(data.Subset(dataset, range(0, 20, 2)), [9, 3, 4, 0, 1])
    for source in (dataset, part):
        quick = list(data.DataLoader(source, batch_size=3))
        plain = [
            data.default_collate([source[k] for k in indices])
            for indices in data.BatchSampler(range(len(source)), 3, False)
        ]
        assert [[t.tolist() for t in batch] for batch in quick] == [
            [t.tolist() for t in batch] for batch in plain
        ]


def test_own_samples_are_respected():
    class Doubled(data.TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * value for value in super().__getitem__(index))

    assert labels_of(data.DataLoader(Doubled(*pairs(3).tensors), batch_size=3)) == [[0, 2, 4]]
    assert labels_of(data.DataLoader(data.Subset(Doubled(*pairs(3).tensors), [1, 2]), batch_size=3)) == [
        [2, 4]
    ]
    assert labels_of(data.DataLoader(Squares(3), batch_size=2)) == [[0.0, 1.0], [4.0]]
    assert list(data.DataLoader([5, 6, 7], batch_size=2, collate_fn=sum)) == [11, 7]


def test_samplers_of_ones_own():
    assert labels_of(data.DataLoader(pairs(), batch_size=2, sampler=[3, 1, 4])) == [[3, 1], [4]]
    assert labels_of(data.DataLoader(pairs(), batch_sampler=[[0], [5, 6, 7]])) == [[0], [5, 6, 7]]
    assert len(data.DataLoader(pairs(), batch_sampler=[[0], [5, 6, 7]])) == 2
    singles = list(data.DataLoader(pairs(3), batch_size=None))
    assert [label.item() for _, label in singles] == [0, 1, 2]
    assert len(data.DataLoader(pairs(3), batch_size=None)) == 3


def test_streams():
    assert [b.tolist() for b in data.DataLoader(Stream(1, 2, 3), batch_size=2)] == [[1, 2], [3]]
    assert [b.tolist() for b in data.DataLoader(Stream(1, 2, 3), batch_size=2, drop_last=True)] == [[1, 2]]
    assert list(data.DataLoader(Stream("a", "b"), batch_size=None)) == ["a", "b"]
    assert len(data.DataLoader(SizedStream(1, 2, 3), batch_size=2)) == 2
    assert len(data.DataLoader(SizedStream(1, 2, 3), batch_size=2, drop_last=True)) == 1
    assert len(data.DataLoader(SizedStream(1, 2, 3), batch_size=None)) == 3
    with pytest.raises(TypeError):
        len(data.DataLoader(Stream(1, 2, 3)))


def test_batches_keep_dtype_and_feed_training():
    x, y = nbdl.randn(6, 3, dtype=nbdl.float64), nbdl.arange(6)
    (batch, labels) = next(iter(data.DataLoader(data.TensorDataset(x, y), batch_size=6)))
    assert batch.dtype == np.float64
    assert labels.dtype == np.int64
    assert isinstance(batch, nbdl.Tensor)


BAD_ARGUMENTS = [
    (lambda: data.TensorDataset(), AssertionError, r"got shapes \[\]"),
    (lambda: data.TensorDataset(nbdl.ones(2), nbdl.ones(3)), AssertionError, r"\[\(2,\), \(3,\)\]"),
    (lambda: data.TensorDataset(nbdl.tensor(1.0)), AssertionError, "first axis"),
    (lambda: data.TensorDataset([1, 2]), TypeError, "argument 0 must be a tensor, got list"),
    (lambda: data.ConcatDataset([]), AssertionError, "should not be an empty iterable"),
    (lambda: data.ConcatDataset([Stream()]), AssertionError, "does not support IterableDataset"),
    (lambda: data.ChainDataset([Squares(2)]), AssertionError, "only supports IterableDataset, got Squares"),
    (lambda: data.ConcatDataset([[1, 2]])[2], IndexError, "index 2 is out of range for 2 samples"),
    (lambda: data.ConcatDataset([[1, 2]])[-3], ValueError, "index -3 is out of range for 2 samples"),
    (lambda: setattr(data.DataLoader([1, 2]), "batch_size", 3), ValueError, "batch_size attribute should"),
    (lambda: data.Dataset()[0], NotImplementedError, "must define __getitem__"),
    (lambda: data.random_split(pairs(), [5, 4]), ValueError, r"\[5, 4\] for 10 samples"),
    (lambda: data.random_split(pairs(), [2.5, 7.5]), ValueError, "does not equal"),
    (lambda: data.random_split(pairs(), [1.5, -0.5]), ValueError, "index 0 is not between 0 and 1: 1.5"),
    (lambda: data.RandomSampler(range(3), replacement=1), TypeError, "should be a boolean value, but got 1"),
    (lambda: data.RandomSampler(range(3), num_samples=0), ValueError, "positive integer .* num_samples=0"),
    (lambda: data.WeightedRandomSampler([[1.0]], 1), ValueError, r"shape \(1, 1\)"),
    (lambda: data.WeightedRandomSampler([1.0], -1), ValueError, "num_samples=-1"),
    (lambda: data.BatchSampler(range(3), True, False), ValueError, "batch_size=True"),
    (lambda: data.BatchSampler(range(3), 2, 0), ValueError, "drop_last should be a boolean"),
    (lambda: data.DataLoader(pairs(), num_workers=-1), ValueError, "num_workers .* 0 or more, got -1"),
    (lambda: data.DataLoader(pairs(), timeout=1), ValueError, "timeout=1 needs num_workers"),
    (lambda: data.DataLoader(pairs(), num_workers=1, timeout=-1), ValueError, "timeout must be 0 or more"),
    (lambda: data.DataLoader(pairs(), persistent_workers=True), ValueError, "persistent_workers=True needs"),
    (lambda: data.DataLoader(pairs(), prefetch_factor=2), ValueError, "prefetch_factor=2 needs num_workers"),
    (lambda: data.DataLoader(pairs(), num_workers=1, prefetch_factor=0), ValueError, "must be 1 or more"),
    (lambda: data.StackDataset(), ValueError, "got 0 arguments and 0 names"),
    (lambda: data.StackDataset([1], a=[1]), ValueError, "got 1 arguments and 1 names"),
    (lambda: data.StackDataset([1], [1, 2]), ValueError, r"got lengths \[1, 2\]"),
    (lambda: data.DataLoader(pairs(), batch_size=0), ValueError, "positive integer .* batch_size=0"),
    (lambda: data.DataLoader(Stream(), batch_size=0), ValueError, "batch_size=0"),
    (lambda: data.DataLoader(pairs(), shuffle=True, sampler=[1]), ValueError, "sampler .* with shuffle"),
    (lambda: data.DataLoader(pairs(), batch_size=2, batch_sampler=[[1]]), ValueError, "with batch_size"),
    (lambda: data.DataLoader(pairs(), drop_last=True, batch_sampler=[[1]]), ValueError, "with drop_last"),
    (lambda: data.DataLoader(pairs(), batch_size=None, drop_last=True), ValueError, "with drop_last"),
    (lambda: data.DataLoader(Stream(), shuffle=True), ValueError, "Iterable.* exclusive with shuffle"),
    (lambda: data.DataLoader(Stream(), sampler=[1]), ValueError, "exclusive with sampler"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind", "message"), BAD_ARGUMENTS)
def test_bad_arguments(action, kind, message):
    with pytest.raises(kind, match=message):
        action()
