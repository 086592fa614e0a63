"""Fixtures of the tests of CPU kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def num_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Splits all but the smallest work of the test module's `planners`, so that tasks begin inside it."""
    from nbdl.backend import registry
    from nbdl.backend.numba import threads

    backend, before = registry.load("numba"), threads.get_num_threads()
    monkeypatch.setattr(
        request.module.planners, "tasks_for", lambda work, rows: max(1, min(request.param, rows))
    )
    threads.set_num_threads(request.param)
    backend._forget_plans()
    yield request.param
    threads.set_num_threads(before)
    backend._forget_plans()


@pytest.fixture(params=[1, 2], ids=["serial", "two threads"])
def thread_count(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs the test in one thread and in two; the planners divide work as they always do."""
    from nbdl.backend.numba import threads

    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture(params=["row_major", "channels_last", "reversed_batch", "window"])
def layout(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Lays an array out in memory in one of the ways of `kernel_checks`."""
    import kernel_checks

    return getattr(kernel_checks, request.param)


@pytest.fixture(params=["native", "python"])
def entry_points(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The builtins, and what stands in for them on an interpreter of unknown layout."""
    from nbdl.backend.numba import launch, native

    if request.param == "python":
        python = native.Runtime(native.launch_in_python, {})
        monkeypatch.setattr(launch, "runtime", lambda: python)
    assert bool(launch.runtime().makers) == (request.param == "native")
    return launch.runtime()
