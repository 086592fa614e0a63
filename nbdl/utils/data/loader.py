"""DataLoader: a dataset in batches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbdl.ops.random import randint
from nbdl.utils.data.collate import default_collate, default_convert
from nbdl.utils.data.dataset import IterableDataset
from nbdl.utils.data.fetch import Fetcher
from nbdl.utils.data.pool import WorkerIterator, WorkerPool
from nbdl.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

# What a loader was made of: batches would not follow a change.
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class DataLoader:
    """Iterates over a dataset in batches.

    With the default ``collate_fn``, a batch of a :class:`TensorDataset` (or of a part of one) is one
    fancy index for each tensor, not a stack of samples.

    Workers are fresh processes that compute on the CPU: dataset, ``collate_fn`` and ``worker_init_fn`` are
    pickled for them, and a program keeps what it runs under ``if __name__ == "__main__":``. Batch k comes
    from worker k modulo their number, and worker k draws its random numbers (nbdl's, Python's and NumPy's)
    from a seed that ``generator`` gives plus k, so that runs can be repeated. What a worker raises is raised
    here, with its traceback; one that dies, or takes longer than ``timeout``, raises RuntimeError.

    Args:
        dataset: a dataset, a stream, or anything with ``__getitem__`` and ``__len__``.
        batch_size: samples a batch; None gives single samples.
        shuffle: visit the samples in a fresh random order each epoch.
        sampler: an order of your own, instead of ``shuffle``.
        batch_sampler: batches of indices of your own, instead of ``batch_size``, ``shuffle``, ``sampler`` and
            ``drop_last``.
        num_workers: how many processes load batches; 0: the process that asks for them does.
        collate_fn: makes a batch of a list of samples.
        pin_memory: accepted for compatibility; transfers to a GPU do not need it.
        drop_last: leave out the last batch if it is shorter.
        timeout: seconds to wait for a batch of the workers; 0: as long as it takes.
        worker_init_fn: called in each worker with its number, after it was seeded.
        multiprocessing_context: how workers are started, a name or a context of :mod:`multiprocessing`.
            Default: ``spawn``, since the threads of a process do not survive a fork.
        generator: where the random order and the workers' seed come from; default: the global generator.
        prefetch_factor: batches that each worker prepares ahead; default: 2.
        persistent_workers: keep the workers from one epoch to the next.
        pin_memory_device: accepted for compatibility.
        in_order: give the batches of workers in the order of the sampler, not as they arrive.

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
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ):
        _check_worker_options(
            num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context
        )
        self.dataset, self.generator, self.num_workers = dataset, generator, num_workers
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.timeout, self.worker_init_fn = timeout, worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers, self.in_order = persistent_workers, in_order
        self._pool: WorkerPool | None = None
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

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "collate_fn" in self.__dict__:
            raise ValueError(f"DataLoader: {name} attribute should not be set after it is initialized")
        object.__setattr__(self, name, value)

    def __iter__(self) -> Iterator[Any]:
        by_batch = self.batch_sampler is not None
        indices = None if self._is_stream else iter(self.batch_sampler if by_batch else self.sampler)  # type: ignore[arg-type]
        fetcher = Fetcher(self.dataset, self.collate_fn, self.batch_size, self.drop_last, by_batch)
        if self.num_workers:
            return WorkerIterator(
                self._workers(fetcher),
                indices,
                self.prefetch_factor or 1,
                self.timeout,
                self.in_order,
                self.persistent_workers,
            )
        return fetcher.batches_of_stream() if indices is None else map(fetcher.fetch, indices)

    def _workers(self, fetcher: Fetcher) -> WorkerPool:
        """New workers, or the persistent ones."""
        if self._pool is not None and self._pool.is_alive:
            return self._pool
        context = self.multiprocessing_context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context or "spawn")
        seed = int(randint(0, 2**62, (), generator=self.generator).item())
        pool = WorkerPool(fetcher, self.num_workers, context, seed, self.worker_init_fn)
        if self.persistent_workers:
            self._pool = pool
        return pool

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


def _check_worker_options(
    num_workers: Any, timeout: Any, prefetch_factor: Any, persistent_workers: bool, context: Any
) -> None:
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ValueError(f"DataLoader: num_workers must be an integer of 0 or more, got {num_workers!r}")
    if timeout < 0:
        raise ValueError(f"DataLoader: timeout must be 0 or more, got {timeout!r}")
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError(f"DataLoader: prefetch_factor must be 1 or more, got {prefetch_factor!r}")
    if num_workers:
        return
    for name, value in (
        ("prefetch_factor", prefetch_factor),
        ("persistent_workers", persistent_workers),
        ("multiprocessing_context", context),
        ("timeout", timeout),
    ):
        if value:
            raise ValueError(f"DataLoader: {name}={value!r} needs num_workers of 1 or more, got 0")


def _exclude(option: str, **others: Any) -> None:
    """Raise ValueError if one of ``others`` is given beside ``option``."""
    for name, value in others.items():
        if value is not None and value is not False:
            raise ValueError(f"DataLoader: {option} option is mutually exclusive with {name}")
