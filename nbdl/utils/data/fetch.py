"""Samples of a dataset put together into batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from nbdl.utils.data.collate import default_collate
from nbdl.utils.data.dataset import IterableDataset, batch_getter
from nbdl.utils.data.sampler import batched


class Fetcher:
    """Makes batches; the same in the main process and in workers.

    Args:
        dataset: the dataset.
        collate: makes a batch of a list of samples.
        batch_size: of a stream; None for single samples.
        drop_last: leave out the last batch of a stream if it is shorter.
        by_batch: whether :meth:`fetch` is given lists of indices.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[Any], Any],
        batch_size: int | None,
        drop_last: bool,
        by_batch: bool,
    ):
        self.dataset, self.collate = dataset, collate
        self.batch_size, self.drop_last, self.by_batch = batch_size, drop_last, by_batch
        self.is_stream = isinstance(dataset, IterableDataset)

    def fetch(self, indices: Any) -> Any:
        """The batch of a list of indices, or the sample of an index.

        Raises:
            RuntimeError: the dataset raised StopIteration, which would end the epoch without a word.
        """
        try:
            return self._fetched(indices)
        except StopIteration as error:
            raise RuntimeError(
                f"DataLoader: {type(self.dataset).__name__} raised StopIteration for indices {indices!r}; "
                "a dataset with indices must give a sample for each, or raise another error"
            ) from error

    def _fetched(self, indices: Any) -> Any:
        if not self.by_batch:
            return self.collate(self.dataset[indices])
        if self._whole_batch is not None:
            return self._whole_batch(indices)
        if hasattr(self.dataset, "__getitems__"):
            return self.collate(self.dataset.__getitems__(indices))
        return self.collate([self.dataset[index] for index in indices])

    @functools.cached_property
    def _whole_batch(self) -> Callable[[Any], Any] | None:
        return batch_getter(self.dataset) if self.collate is default_collate else None

    def batches_of_stream(self) -> Iterator[Any]:
        """All batches of a stream."""
        items = iter(self.dataset)
        if self.batch_size is None:
            return map(self.collate, items)
        return map(self.collate, batched(items, self.batch_size, self.drop_last))
