"""The pool for large temporaries."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from nbdl.backend.numba import pool


@pytest.mark.parametrize("shape", [(1 << 20,), (3, 1000, 1000), (0, 5), (7,), ()])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", ">f8", "c16", "?", "O"])
def test_pool_arrays_are_ordinary(shape, dtype):
    array = pool.MemoryPool(1 << 24).empty(shape, dtype)
    like = np.empty(shape, dtype)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype, array.strides) == (like.shape, like.dtype, like.strides)
    assert array.flags.carray
    assert array.nbytes < pool.MIN_BYTES or dtype == "O" or array.ctypes.data % 64 == 0
    array[...] = 1
    assert (array == 1).all()


def test_pool_keeps_dtypes_of_other_packages():
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    array = pool.MemoryPool(1 << 24).empty((1024, 1024), bfloat16)
    assert (array.dtype, array.shape) == (bfloat16, (1024, 1024))


def test_pool_waits_for_the_last_view():
    memory_pool = pool.MemoryPool(1 << 24)
    array = memory_pool.empty((1 << 20,), np.float32)
    address, view = array.ctypes.data, array[5:][::2]
    del array
    other = memory_pool.empty((1 << 20,), np.float32)
    assert other.ctypes.data != address
    del view
    assert memory_pool.empty((1 << 20,), np.float32).ctypes.data == address
    assert memory_pool.statistics()[:2] == (1, 2)


def test_pool_frees_the_oldest_beyond_its_limit():
    memory_pool = pool.MemoryPool(5 << 20)
    arrays = [memory_pool.empty((size << 20,), np.uint8) for size in (1, 2, 4)]
    while arrays:
        arrays.pop(0)
    assert memory_pool.statistics() == (0, 3, 4 << 20, 1)
    memory_pool.set_limit(0)
    assert memory_pool.statistics()[2:] == (0, 0)
    with pytest.raises(ValueError, match="set_limit: limit must not be negative, got -1"):
        memory_pool.set_limit(-1)


def test_pool_keeps_less_within_a_block():
    memory_pool = pool.MemoryPool(limit=4 * pool.MIN_BYTES)
    with memory_pool.limited(0):
        del_me = memory_pool.empty((pool.MIN_BYTES,), np.uint8)
        del del_me
        assert memory_pool.statistics().idle_bytes == 0
    del_me = memory_pool.empty((pool.MIN_BYTES,), np.uint8)
    del del_me
    assert memory_pool.statistics().idle_bytes == pool.MIN_BYTES


def test_pool_clear():
    memory_pool = pool.MemoryPool(1 << 24)
    memory_pool.empty((1 << 20,), np.uint8)
    assert memory_pool.statistics()[2:] == (1 << 20, 1)
    memory_pool.clear()
    assert memory_pool.statistics() == (0, 1, 0, 0)


@pytest.mark.parametrize("nbytes", [1 << 20, (1 << 20) + 1, 3 << 19, 12345678, (1 << 26) - 1, (1 << 26) + 1])
def test_pool_size_classes_waste_little(nbytes):
    assert nbytes <= pool._size_class(nbytes) <= nbytes * 9 / 8


def test_pool_takes_memory_back_while_it_is_locked():
    memory_pool = pool.MemoryPool(1 << 24)
    array = memory_pool.empty((1 << 20,), np.uint8)
    with memory_pool._lock:  # the garbage collector may run anywhere
        del array
        gc.collect()
    assert memory_pool.statistics().idle_blocks == 1


def test_pool_never_lends_a_block_twice():
    memory_pool = pool.MemoryPool(1 << 24)
    failures: list[int] = []

    def work(value: int) -> None:
        for _ in range(50):
            array = memory_pool.empty((1 << 20,), np.uint8)
            array.fill(value)
            if not (array[::4096] == value).all():
                failures.append(value)

    workers = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert memory_pool.statistics().idle_bytes <= 1 << 24
