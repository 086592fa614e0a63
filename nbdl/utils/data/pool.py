"""Worker processes of a DataLoader, and the iteration over what they load."""

from __future__ import annotations

import contextlib
import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from nbdl.backend import registry
from nbdl.utils.data.fetch import Fetcher
from nbdl.utils.data.transport import Message, Receiver
from nbdl.utils.data.worker import Failure, Result, Setup, Task, work

_PATIENCE = 5.0  # seconds that workers get to end by themselves


class Arrival(NamedTuple):
    """What a worker has sent.

    Attributes:
        number: of the batch.
        worker: who sent it.
        batch: the batch.
        failure: the exception that came instead of it.
        is_end: whether it is the end of a stream instead.
    """

    number: int
    worker: int
    batch: Any
    failure: Failure | None
    is_end: bool


class WorkerPool:
    """Processes that load batches.

    Args:
        fetcher: what loads a batch; every process gets a copy.
        count: how many processes.
        context: of :mod:`multiprocessing`.
        seed: worker k is seeded with ``seed + k``.
        worker_init_fn: called first in each process, with its number.

    Attributes:
        epoch: how often the batches were asked for.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        count: int,
        context: Any,
        seed: int,
        worker_init_fn: Callable[[int], None] | None,
    ):
        self.epoch = 0
        self._receivers = [Receiver() for _ in range(count)]
        self._released: list[list[str]] = [[] for _ in range(count)]
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        self._finalizer = weakref.finalize(
            self, _shut_down, self._connections, self._processes, self._receivers
        )
        backend = registry.select().name  # of the CPU: workers leave GPUs alone
        for k in range(count):
            ours, theirs = context.Pipe()
            setup = Setup(k, count, seed + k, backend)
            process = context.Process(target=work, args=(theirs, fetcher, setup, worker_init_fn), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process ends the pipe
            self._connections.append(ours)
            self._processes.append(process)

    def __len__(self) -> int:
        return len(self._receivers)

    @property
    def is_alive(self) -> bool:
        """Whether it was not closed."""
        return self._finalizer.alive

    def send(self, worker: int, number: int, indices: Any) -> None:
        """Ask a worker for a batch.

        Raises:
            RuntimeError: it is gone.
        """
        task = Task(number, self.epoch, indices, self._released[worker])
        try:
            self._connections[worker].send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death([worker]) from None
        self._released[worker] = []

    def receive(self, timeout: float) -> list[Arrival]:
        """Results of this epoch that have arrived, their batches unpacked; waits for one at least.

        Raises:
            RuntimeError: ``timeout`` seconds passed (0: any number may), or a worker is gone.
        """
        found: list[Arrival] = []
        end = time.monotonic() + timeout
        while not found:
            sentinels = {process.sentinel: k for k, process in enumerate(self._processes)}
            pipes = {connection: k for k, connection in enumerate(self._connections)}
            ready = wait([*pipes, *sentinels], max(0.0, end - time.monotonic()) if timeout else None)
            if not ready:
                self.close()
                raise RuntimeError(f"DataLoader timed out after {timeout} seconds")
            for connection in ready:
                if connection in pipes:
                    self._take(pipes[connection], found)
            if not found:
                gone = [sentinels[source] for source in ready if source in sentinels]
                if gone:
                    raise self._death(gone)
        return found

    def close(self) -> None:
        """End the processes."""
        self._finalizer()

    def _take(self, worker: int, found: list[Arrival]) -> None:
        try:
            result: Result = self._connections[worker].recv()
        except (EOFError, OSError):
            raise self._death([worker]) from None
        content = result.content
        if isinstance(content, Message) and content.block is not None:
            self._released[worker].append(content.block)
        if result.epoch != self.epoch:
            return
        try:
            batch = self._receivers[worker].unpack(content) if isinstance(content, Message) else None
        except EOFError:
            raise self._death([worker]) from None
        failure = content if isinstance(content, Failure) else None
        found.append(Arrival(result.number, worker, batch, failure, content is None))

    def _death(self, workers: list[int]) -> RuntimeError:
        """The error for workers that are gone; the others are ended."""
        gone = [self._processes[k] for k in workers]
        for process in gone:
            process.join(_PATIENCE)
        described = ", ".join(f"{process.pid}: exit code {process.exitcode}" for process in gone)
        self.close()
        return RuntimeError(
            f"DataLoader worker (pid(s) {described}) exited unexpectedly. If its own message above speaks of "
            "bootstrapping, the program needs 'if __name__ == \"__main__\":' around what it runs"
        )


def _shut_down(connections: list[Connection], processes: list[Any], receivers: list[Receiver]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.send(None)
        connection.close()  # a worker that is sending gives up
    end = time.monotonic() + _PATIENCE
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.terminate()
            process.join()
    for process, receiver in zip(
        processes, receivers, strict=False
    ):  # there are fewer processes if one did not start
        receiver.close(orphaned=process.exitcode != 0)


class WorkerIterator:
    """One epoch, loaded by workers ahead of its use.

    Args:
        pool: the workers.
        indices: what :meth:`Fetcher.fetch` is to be given, batch by batch; None for streams.
        prefetch: how many batches each worker works on or has ready.
        timeout: seconds to wait for a batch; 0: any time.
        in_order: give the batches in the order of ``indices``, and a stream's worker by worker in turn;
            otherwise as they arrive.
        keep: leave the workers alive at the end.
    """

    def __init__(
        self,
        pool: WorkerPool,
        indices: Iterator[Any] | None,
        prefetch: int,
        timeout: float,
        in_order: bool,
        keep: bool,
    ):
        pool.epoch += 1
        self._pool, self._epoch = pool, pool.epoch
        self._indices = itertools.repeat(None) if indices is None else indices
        self._timeout, self._in_order, self._keep = timeout, in_order, keep
        self._active = list(range(len(pool)))  # whose turn it is stands first
        self._sent = self._next = 0
        self._outstanding = 0
        self._arrived: dict[int, Arrival] = {}
        for _ in range(prefetch * len(pool)):
            self._send()

    def __iter__(self) -> WorkerIterator:
        return self

    def __next__(self) -> Any:
        if self._epoch != self._pool.epoch:
            raise RuntimeError("DataLoader: its persistent workers went on to another iteration over it")
        while True:
            arrival = self._pop()
            if arrival is None:
                if not self._outstanding:
                    self._finish()
                    raise StopIteration
                for found in self._pool.receive(self._timeout):
                    self._arrived[found.number] = found
                continue
            self._outstanding -= 1
            if arrival.is_end:
                if arrival.worker in self._active:
                    self._active.remove(arrival.worker)
                continue
            self._send(None if self._in_order else arrival.worker)
            if arrival.failure is not None:
                raise arrival.failure.raised()
            return arrival.batch

    def _pop(self) -> Arrival | None:
        """The batch that is next, if it is there."""
        number = self._next if self._in_order else next(iter(self._arrived), -1)
        arrival = self._arrived.pop(number, None)
        self._next += arrival is not None
        return arrival

    def _send(self, worker: int | None = None) -> None:
        """Ask for one more batch: this worker if it still has any, or the one whose turn it is."""
        if not self._active:
            return
        try:
            indices = next(self._indices)
        except StopIteration:
            return
        if worker not in self._active:
            worker = self._active[0]
        assert worker is not None
        self._active.remove(worker)
        self._active.append(worker)
        self._pool.send(worker, self._sent, indices)
        self._sent += 1
        self._outstanding += 1

    def _finish(self) -> None:
        if not self._keep:
            self._pool.close()
