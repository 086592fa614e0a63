"""Fixtures of the tests of CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator

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
