"""DataLoader: a dataset in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbdl.utils.data.collate import default_collate, default_convert
from nbdl.utils.data.dataset import IterableDataset, batch_getter
from nbdl.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, batched


class DataLoader:
    """Iterates over a dataset in batches.

    With the default ``collate_fn``, a batch of a :class:`TensorDataset` (or of a part of one) is one
    fancy index for each tensor, not a stack of samples.

    Args:
        dataset: a dataset, a stream, or anything with ``__getitem__`` and ``__len__``.
        batch_size: samples a batch; None gives single samples.
        shuffle: visit the samples in a fresh random order each epoch.
        sampler: an order of your own, instead of ``shuffle``.
        batch_sampler: batches of indices of your own, instead of ``batch_size``, ``shuffle``, ``sampler`` and
            ``drop_last``.
        num_workers: must be 0: samples are loaded by the process that asks for them.
        collate_fn: makes a batch of a list of samples.
        pin_memory: accepted for compatibility; batches are made on the device of the dataset's tensors.
        drop_last: leave out the last batch if it is shorter.
        generator: where the random order comes from; default: the global generator.

    Raises:
        ValueError: options exclude each other, or have a value that is not allowed.

    Example:
        >>> import nbdl
        >>> from nbdl.utils.data import DataLoader, TensorDataset
        >>> loader = DataLoader(TensorDataset(nbdl.arange(5)), batch_size=2)
        >>> [batch.tolist() for (batch,) in loader]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        generator: Any = None,
    ):
        if num_workers != 0:
            raise ValueError(
                f"DataLoader: num_workers must be 0 (samples are loaded in this process), got {num_workers!r}"
            )
        self.dataset, self.generator, self.num_workers, self.pin_memory = dataset, generator, 0, pin_memory
        self._is_stream = isinstance(dataset, IterableDataset)
        if self._is_stream:
            _exclude(
                "a dataset that is an IterableDataset",
                shuffle=shuffle,
                sampler=sampler,
                batch_sampler=batch_sampler,
            )
        if batch_sampler is not None:
            _exclude(
                "batch_sampler",
                batch_size=batch_size != 1,
                shuffle=shuffle,
                sampler=sampler,
                drop_last=drop_last,
            )
            batch_size = None
        elif batch_size is None:
            _exclude("batch_size=None", drop_last=drop_last)
        if sampler is not None:
            _exclude("sampler", shuffle=shuffle)
        elif not self._is_stream:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None:
            # For a stream only the check of the arguments is of use: it has no indices.
            batches = BatchSampler(() if sampler is None else sampler, batch_size, drop_last)
            batch_sampler = None if self._is_stream else batches
        self.batch_size, self.drop_last = batch_size, drop_last
        self.sampler, self.batch_sampler = sampler, batch_sampler
        if collate_fn is None:
            collate_fn = default_convert if batch_size is None and batch_sampler is None else default_collate
        self.collate_fn = collate_fn

    def __iter__(self) -> Iterator[Any]:
        collate = self.collate_fn
        if self._is_stream:
            items = iter(self.dataset)
            return map(
                collate, items if self.batch_size is None else batched(items, self.batch_size, self.drop_last)
            )
        if self.batch_sampler is None:
            return (collate(self.dataset[index]) for index in self.sampler)  # type: ignore[union-attr]
        whole_batch = batch_getter(self.dataset) if collate is default_collate else None
        if whole_batch is not None:
            return map(whole_batch, self.batch_sampler)
        return (collate(self._samples(indices)) for indices in self.batch_sampler)

    def _samples(self, indices: list[Any]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(indices)
        return [self.dataset[index] for index in indices]

    def __len__(self) -> int:
        """Number of batches.

        Raises:
            TypeError: the dataset is a stream that does not know its length.
        """
        if self._is_stream:
            size = len(self.dataset)
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]


def _exclude(option: str, **others: Any) -> None:
    """Raise ValueError if one of ``others`` is given beside ``option``."""
    for name, value in others.items():
        if value is not None and value is not False:
            raise ValueError(f"DataLoader: {option} option is mutually exclusive with {name}")
