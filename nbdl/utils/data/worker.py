"""A process that loads batches for a DataLoader."""

from __future__ import annotations

import pickle
import queue
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.registry import set_backend
from nbdl.random import manual_seed
from nbdl.threads import set_num_threads
from nbdl.utils.data.fetch import Fetcher
from nbdl.utils.data.transport import Message, Sender


@dataclass(frozen=True)
class WorkerInfo:
    """What a dataset may ask about the process that it is in.

    Attributes:
        id: number of the worker, from 0.
        num_workers: how many there are.
        seed: what the generators of this worker were seeded with.
        dataset: the copy of the dataset in this process.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Which worker this process is; None in the main process.

    A stream uses it to give each worker a part of its own.

    Example:
        >>> from nbdl.utils.data import get_worker_info
        >>> get_worker_info() is None
        True
    """
    return _info


class Task(NamedTuple):
    """What a worker is asked for.

    Attributes:
        number: the batch's number in its epoch.
        epoch: which epoch; results of an earlier one are of no use any more.
        indices: the samples; None for the next ones of a stream.
        released: blocks of shared memory that are free again.
    """

    number: int
    epoch: int
    indices: Any
    released: list[str]


class Setup(NamedTuple):
    """What a worker is.

    Attributes:
        number: its number.
        total: how many there are.
        seed: of its generators.
        backend: name of the CPU backend it computes with.
    """

    number: int
    total: int
    seed: int
    backend: str


class Failure(NamedTuple):
    """An exception of a worker."""

    kind: type[Exception]
    text: str

    def raised(self) -> Exception:
        """The exception to raise in the main process: of the same kind, if one can be made of a text."""
        try:
            return self.kind(_Text(self.text))
        except TypeError:
            return RuntimeError(self.text)


class _Text(str):
    """A text that is its own repr, since KeyError prints the repr of its argument."""

    __slots__ = ()
    __repr__ = str.__str__


class Result(NamedTuple):
    """A worker's answer: a packed batch, a failure, or None where a stream is at its end."""

    number: int
    epoch: int
    content: Message | Failure | None


def work(
    connection: Connection,
    fetcher: Fetcher,
    setup: Setup,
    worker_init_fn: Callable[[int], None] | None,
) -> None:
    """Answer tasks until None comes, or the main process is gone.

    Args:
        connection: where tasks come from and results go.
        fetcher: what loads a batch.
        setup: what this worker is.
        worker_init_fn: called first, with the number of the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process, which gets it too, ends the workers
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    sender = Sender()
    try:
        failure = _set_up(fetcher, setup, worker_init_fn)
        stream: Iterator[Any] | None = None
        epoch = -1
        while (task := tasks.get()) is not None:
            for name in task.released:
                sender.release(name)
            if task.epoch != epoch:
                stream, epoch = None, task.epoch
            content: Message | Failure | None
            try:
                if failure is not None:
                    content = failure
                elif fetcher.is_stream:
                    stream = fetcher.batches_of_stream() if stream is None else stream
                    batch = next(stream, _END)
                    content = None if batch is _END else sender.pack(batch)
                else:
                    content = sender.pack(fetcher.fetch(task.indices))
            except Exception as error:
                content = _failure(error, setup.number)
            connection.send(Result(task.number, task.epoch, content))
    except (BrokenPipeError, ConnectionResetError):
        return  # nobody waits for the result any more
    finally:
        sender.close()


_END = object()


def _receive(connection: Connection, tasks: queue.SimpleQueue) -> None:
    """Take tasks at once: the main process never waits for a worker that waits for it."""
    task: Task | None = None
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            task = None
        tasks.put(task)
        if task is None:
            return


def _set_up(fetcher: Fetcher, setup: Setup, worker_init_fn: Callable[[int], None] | None) -> Failure | None:
    """Seed, and run the user's function; what it raised, if it did."""
    global _info
    set_backend(setup.backend)
    set_num_threads(1)  # the workers are the parallelism
    manual_seed(setup.seed)
    random.seed(setup.seed)
    np.random.seed(setup.seed % (1 << 32))  # noqa: NPY002  (what datasets of others draw from)
    _info = WorkerInfo(setup.number, setup.total, setup.seed, fetcher.dataset)
    try:
        if worker_init_fn is not None:
            worker_init_fn(setup.number)
    except Exception as error:
        return _failure(error, setup.number)
    return None


def _failure(error: Exception, number: int) -> Failure:
    kind: type[Exception] = type(error)
    try:
        pickle.dumps(kind)
    except (pickle.PicklingError, AttributeError):  # a class that the main process cannot find
        kind = RuntimeError
    return Failure(
        kind,
        f"Caught {type(error).__name__} in DataLoader worker process {number}.\nOriginal "
        f"{''.join(traceback.format_exception(error))}",
    )
