"""Worker processes: order, memory, seeds, streams, errors, death."""

from __future__ import annotations

import os
import pickle
import signal
import time

import numpy as np
import pytest
import worker_datasets as samples

import nbdl
from nbdl.utils import data
from nbdl.utils.data import pool, transport


@pytest.fixture(autouse=True)
def quick_start():
    """Workers compute with the backend of the main process; this one is there at once."""
    with nbdl.use_backend("numpy"):
        yield


def troubled(*indices, **options):
    options = {"num_workers": 2, "batch_sampler": [[index] for index in indices]} | options
    return data.DataLoader(samples.Troubled(), collate_fn=samples.first, **options)


def test_batches_are_those_of_one_process():
    wide = 3000  # of float32, two rows: more than goes through the pipe
    plain = list(data.DataLoader(samples.Rows(9, wide), batch_size=2))
    loader = data.DataLoader(
        samples.Rows(9, wide), batch_size=2, num_workers=2, persistent_workers=True, prefetch_factor=1
    )
    assert len(loader) == 5
    for epoch in range(2):
        found = list(loader)
        assert [batch["text"] for batch in found] == [batch["text"] for batch in plain]
        for ours, theirs in zip(found, plain, strict=True):
            assert nbdl.equal(ours["row"], theirs["row"])
            assert ours["row"].dtype == nbdl.float32
            assert ours["index"].tolist() == theirs["index"].tolist()
            ours["row"].fill_(7.0 + epoch)  # memory of its own
    abandoned = iter(loader)
    next(abandoned)
    assert [batch["index"].tolist() for batch in loader] == [batch["index"].tolist() for batch in plain]
    with pytest.raises(RuntimeError, match="went on to another iteration"):
        next(abandoned)


def test_tensor_datasets_and_shuffling():
    dataset = data.TensorDataset(nbdl.arange(40).reshape(20, 2), nbdl.arange(20))
    options = {"batch_size": 3, "shuffle": True}
    one = data.DataLoader(dataset, generator=nbdl.Generator().manual_seed(5), **options)
    two = data.DataLoader(dataset, num_workers=1, generator=nbdl.Generator().manual_seed(5), **options)
    found = [labels.tolist() for _, labels in two]
    assert sorted(label for batch in found for label in batch) == list(range(20))
    assert [len(batch) for batch in found] == [len(labels) for _, labels in one]


def test_seeds():
    def draws():
        generator = nbdl.Generator().manual_seed(3)
        return list(data.DataLoader(samples.Draws(), batch_size=None, num_workers=2, generator=generator))

    first = draws()
    assert [row[0] for row in first] == [0, 1, 0, 1]
    assert first[1][1] == first[0][1] + 1
    for column in (2, 3, 4):
        assert len({row[column] for row in first}) == 4
    assert draws() == first


def test_init_function_and_threads():
    options = {"num_workers": 2, "worker_init_fn": samples.note_number, "batch_size": None}
    loader = data.DataLoader(samples.Environment(), multiprocessing_context="spawn", **options)
    assert list(loader) == [[0, 1, "numpy"], [1, 1, "numpy"]] * 2
    assert "NBDL_TEST_WORKER" not in os.environ


def test_streams():
    options = {"num_workers": 2, "batch_size": 2, "persistent_workers": True}
    loader = data.DataLoader(samples.Parts(7), **options)
    for _ in range(2):  # worker 0 has 0 2 4 6, worker 1 has 1 3 5
        assert [batch.tolist() for batch in loader] == [[0, 2], [1, 3], [4, 6], [5]]
    assert data.get_worker_info() is None


def test_as_they_arrive():
    loader = data.DataLoader(samples.Rows(12), batch_size=2, num_workers=2, in_order=False)
    assert sorted(index for batch in loader for index in batch["index"].tolist()) == list(range(12))


def test_errors_come_with_their_traceback_and_the_rest_goes_on():
    batches = iter(troubled("value", 1, "key", "odd", "lambda", 5))
    with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker process 0") as raised:
        next(batches)
    assert "this sample is bad" in str(raised.value)
    assert "worker_datasets.py" in str(raised.value)
    assert next(batches) == 1
    with pytest.raises(KeyError, match="Original Traceback") as raised:
        next(batches)
    assert "\\n" not in str(raised.value)
    with pytest.raises(RuntimeError, match="Caught Local"):
        next(batches)
    with pytest.raises((AttributeError, pickle.PicklingError, RuntimeError), match="lambda"):
        next(batches)
    assert next(batches) == 5
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_no_sample_ends_the_epoch_without_a_word(num_workers):
    batches = iter(troubled(0, "stop", 2, num_workers=num_workers))
    assert next(batches) == 0
    with pytest.raises(RuntimeError, match="Troubled raised StopIteration for indices"):
        next(batches)


def test_an_error_of_the_init_function_comes_too():
    batches = iter(troubled(0, 1, worker_init_fn=samples.fail_in_worker_one))
    assert next(batches) == 0
    with pytest.raises(OSError, match="no disk in worker 1"):
        next(batches)


def test_a_worker_that_dies_is_an_error_and_no_hang():
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+: exit code 3\) exited"):
        list(troubled(0, "exit", 2, 3))
    loader = data.DataLoader(samples.Rows(6), num_workers=1, persistent_workers=True, prefetch_factor=1)
    batches = iter(loader)
    next(batches)
    os.kill(loader._pool._processes[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exit code -9"):
        list(batches)
    assert len(list(loader)) == 6  # with a new worker


def test_timeout_and_end_of_workers(monkeypatch):
    monkeypatch.setattr(pool, "_PATIENCE", 0.2)
    batches = iter(troubled("sleep", num_workers=1, timeout=1))
    processes = batches._pool._processes
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
        next(batches)
    assert time.monotonic() - start < 30  # it would sleep for a minute
    assert not any(process.is_alive() for process in processes)


# ---------------------------------------------------------------------------------------------- the transport
@pytest.fixture
def channel():
    sender, receiver = transport.Sender(), transport.Receiver()
    yield sender, receiver
    receiver.close()
    sender.close()


def test_blocks_of_a_sender_that_has_ended(channel):
    sender, receiver = channel
    first, second = sender.pack(np.zeros(5000)), sender.pack(np.ones(5000))
    receiver.unpack(first)
    receiver.close(orphaned=True)
    with pytest.raises(FileNotFoundError):
        transport.SharedMemory(name=first.block)
    sender.close()
    with pytest.raises(EOFError, match=second.block):
        receiver.unpack(second)


def test_blocks_are_used_again(channel):
    sender, receiver = channel
    names = []
    for k in range(4):
        sent = {"x": nbdl.full((100, 100), float(k)), "y": [np.arange(7), "text"], "z": np.float64(3)}
        message = pickle.loads(pickle.dumps(sender.pack(sent)))
        found = receiver.unpack(message)
        sender.release(message.block)
        names.append(message.block)
        assert nbdl.equal(found["x"], sent["x"])
        assert found["y"][0].tolist() == list(range(7))
        found["x"] += 1  # writable
    assert len(set(names)) == 1
    larger = sender.pack(np.zeros(100_000))
    assert larger.block not in names
    assert receiver.unpack(larger).shape == (100_000,)


def test_small_messages_and_short_memory_go_through_the_pipe(channel, monkeypatch):
    sender, receiver = channel
    message = sender.pack(np.arange(3))
    assert message.block is None
    assert receiver.unpack(message).tolist() == [0, 1, 2]
    monkeypatch.setattr(transport, "_SHARED_FOLDER", "/")
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    message = sender.pack(np.arange(100_000))
    assert message.block is None
    found = receiver.unpack(message)
    found[0] = 5  # writable
    assert found.sum() == 100_000 * 99_999 // 2 + 5
