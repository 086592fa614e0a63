"""The threads that share the regions of kernels."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nbdl.backend.numba import launch, native, threads, workers
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.kernels.cpu import launcher
from nbdl.kernels.cpu.memory import int64_at, load_int64


@pytest.fixture(autouse=True)
def ours():
    if threads.threading_layer() != "posix":
        pytest.skip("Numba's threads compute here")


def make_count():
    """out[row] += 1 + task, so that a row left out, done twice or done by a wrong task shows."""

    def count(args, lo, hi, task):
        out = int64_at(load_int64(args, 0), hi)
        for i in range(lo, hi):
            out[np.uint64(i)] += 1 + task

    return count


def make_nested():
    """Every task runs the plan whose block is given, on the rows that are its own."""

    def nested(args, lo, hi, task):
        for row in range(lo, hi):
            launcher.run_block(load_int64(args, 0), load_int64(args, 1 + row))

    return nested


def count_plan(rows, tasks):
    kernel = compile_kernel("test_count", make_count, "tests count")
    return Plan(kernel, inputs=0, outputs=[OutputSpec((rows,), np.dtype("i8"))], rows=rows, tasks=tasks)


def expected(rows, tasks, runs=1):
    result = np.zeros(rows, np.int64)
    for task in range(tasks):
        result[task * rows // tasks : (task + 1) * rows // tasks] = runs * (1 + task)
    return result


@pytest.fixture
def set_threads():
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("pause", [0.0, 2e-4], ids=["awake", "asleep"])
def test_every_row_is_computed_once(count, pause, set_threads):
    set_threads(count)
    for rows, tasks in [(64, 2), (1000, 3), (7, 7), (333, 16)]:
        plan, out, runs = count_plan(rows, tasks), np.zeros(rows, np.int64), 20 if pause else 3000
        for _ in range(runs):
            launch.launch(plan.block, out)
            time.sleep(pause)
        np.testing.assert_array_equal(out, expected(rows, tasks, runs))


def test_nobody_is_waited_for_that_does_not_come(set_threads):
    """Workers that have ended stand for those whose cores others keep busy."""
    set_threads(3)
    threads._pool.workers.retire()
    plan, out = count_plan(100, 3), np.zeros(100, np.int64)
    for _ in range(10):
        launch.launch(plan.block, out)
    np.testing.assert_array_equal(out, expected(100, 3, 10))


def test_a_region_within_a_region(set_threads):
    set_threads(3)
    outs = [np.zeros(100, np.int64) for _ in range(6)]
    plans = [count_plan(100, 3) for _ in outs]
    for plan, out in zip(plans, outs, strict=True):
        plan.block[launcher.HEADER_WORDS] = out.ctypes.data
    addresses = [native.state().ctypes.data, *[plan.block.ctypes.data for plan in plans]]
    kernel = compile_kernel("test_nested", make_nested, "tests nested")
    outer = Plan(kernel, inputs=0, arguments=addresses, rows=len(outs), tasks=3)
    for _ in range(50):
        launch.launch(outer.block)
    for out in outs:
        np.testing.assert_array_equal(out, expected(100, 3, 50))


def test_calls_from_several_threads(set_threads):
    set_threads(2)
    outs = [np.zeros(100, np.int64) for _ in range(4)]

    def run(out):
        plan = count_plan(100, 2)
        for _ in range(500):
            launch.launch(plan.block, out)

    callers = [threading.Thread(target=run, args=(out,)) for out in outs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for out in outs:
        np.testing.assert_array_equal(out, expected(100, 2, 500))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not list threads there")
def test_as_many_threads_as_are_wanted(set_threads):
    def alive():
        return len(os.listdir("/proc/self/task"))

    set_threads(1)
    time.sleep(0.05)
    alone = alive()
    for count in (2, 5, 3, 1):
        set_threads(count)
        deadline = time.monotonic() + 5  # the system lists a thread for a moment after its end
        while alive() != alone + count - 1 and time.monotonic() < deadline:
            time.sleep(1e-3)
        assert alive() == alone + count - 1


def test_a_process_ends_while_workers_look_for_work():
    code = (
        "import nbdl\nnbdl.set_num_threads(3)\nwith nbdl.use_backend('numba'):\n"
        " x = nbdl.ones(512, 512)\n print((x @ x).sum().item())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "134217728.0", "")


def test_without_posix_threads_numbas_compute(monkeypatch):
    """As on Windows."""

    def no_library():
        raise OSError("Workers: expected a POSIX system")

    pool = threads._Pool()
    monkeypatch.setattr(threads, "_pool", pool)
    monkeypatch.setattr(workers, "_library", no_library)
    words = native.state().copy()
    try:
        assert threads.threading_layer() in ("omp", "tbb", "workqueue")
        plan, out = count_plan(100, 2), np.zeros(100, np.int64)
        launch.launch(plan.block, out)
        np.testing.assert_array_equal(out, expected(100, 2))
    finally:
        native.state()[:] = words
