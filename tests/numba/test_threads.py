"""How many threads launch what, which library's they are, and forked processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
from processes import run_python
from sample_plans import add_plan

from nbdl.backend.numba import launch, threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan, PlanTable
from nbdl.kernels.cpu.memory import int64_at, load_int64


def make_record_task() -> Callable[..., Any]:
    """out[row] += 1 + task, so that a row left out, done twice or done by a wrong task shows."""

    def record_task(args, lo, hi, task):
        out = int64_at(load_int64(args, 0), hi)
        for i in range(lo, hi):
            out[np.uint64(i)] += 1 + task

    return record_task


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
def test_every_row_once(two_threads, entry_points, rows, tasks):
    kernel = compile_kernel("record_task", make_record_task, "tests record_task")
    plan = Plan(kernel, inputs=0, outputs=[OutputSpec((rows,), np.dtype("i8"))], rows=rows, tasks=tasks)
    out = np.zeros(rows, np.int64)
    entry_points.launch(plan.block, out)
    tasks = max(1, min(rows, tasks))
    bounds = [task * rows // tasks for task in range(tasks + 1)]
    expected = np.repeat(np.arange(1, tasks + 1), np.diff(bounds))
    np.testing.assert_array_equal(out, expected)


def test_numbas_own_thread_count_is_left_alone(two_threads):
    plan = add_plan(tasks=2)
    x = np.ones(64, np.float32)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        launch.launch(plan.block, x, x, plan.allocate())
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)


def test_python_threads_launch_at_once(two_threads):
    def work(value: int, failures: list[int]) -> None:
        plan = add_plan(100, tasks=2)
        x, out = np.full(100, value, np.float32), np.empty(100, np.float32)
        for _ in range(300):
            out.fill(-1)
            launch.launch(plan.block, x, x, out)
            if not (out == 2 * value).all():
                failures.append(value)

    failures: list[int] = []
    workers = [threading.Thread(target=work, args=(value, failures)) for value in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_set_num_threads(two_threads):
    table = PlanTable()
    table.add(add_plan(), (np.zeros(64, np.float32),))
    threads.set_num_threads(3)
    assert threads.get_num_threads() == 3
    assert len(table) == 0
    for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error):
            threads.set_num_threads(value)
    assert threads.get_num_threads() == 3


FORK = """
import os, numpy as np
from nbdl.backend.numba import pool, threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan, launch
from nbdl.kernels.cpu.memory import array_at, load_int64
def make():
    def ones(args, lo, hi, task):
        array_at(load_int64(args, 0) + 8 * lo, hi - lo, np.int64)[:] = 1
    return ones
def check():
    spec = OutputSpec((1 << 18,), np.dtype("i8"))
    plan = Plan(compile_kernel("ones", make, "ones"), inputs=0, outputs=[spec], rows=1 << 18, tasks=2)
    out = plan.allocate()
    launch(plan.block, out)
    assert out.sum() == 1 << 18
if {before}:
    check()
child = os.fork()
if child == 0:
    check()
    os._exit(0 if threads.get_num_threads() == 1 and threads.threading_layer() == "none" else 1)
print(os.waitpid(child, 0)[1])
check()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("before", [False, True])
def test_forked_child_computes_in_one_thread(before):
    result = run_python("-c", FORK.format(before=before), PYTHONWARNINGS="ignore")
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "0", "")


def test_numbas_pool_where_it_is_named():
    """It does what ours does."""
    code = FORK.format(before=True) + "print(threads.threading_layer())"
    result = run_python("-c", code, NUMBA_THREADING_LAYER="threadsafe", PYTHONWARNINGS="ignore")
    assert result.stdout.split() in (["0", "omp"], ["0", "tbb"]), result.stderr


def test_workqueue_warns_once():
    code = """
import warnings
from nbdl.backend.numba import threads
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(threads.threading_layer(), threads.threading_layer())
print([str(warning.message)[:26] for warning in caught])
"""
    result = run_python("-c", code, NUMBA_THREADING_LAYER="workqueue")
    assert result.stdout.splitlines() == ["workqueue workqueue", "['Numba found neither OpenMP']"], (
        result.stderr
    )


def test_a_broken_tbb_in_the_environment_is_passed_over(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtbb.so.12").write_text("no library")
    code = f"""
import sys
from nbdl.backend.numba import threads
sys.prefix = {str(tmp_path)!r}
print(threads.threading_layer())
"""
    result = run_python("-c", code, NUMBA_THREADING_LAYER="threadsafe")
    assert result.stdout.strip() in ("omp", "tbb"), result.stderr
