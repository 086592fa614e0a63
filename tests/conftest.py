"""Fixtures and policies of the whole test suite.

A missing GPU or PyTorch skips the tests marked `gpu` or `torch`, with the reason in pytest's summary; under
`NBDL_REQUIRE_GPU=1` a missing GPU fails them instead.
"""

from __future__ import annotations

import importlib.util
import os

# Threads with nothing to do sleep: those of PyTorch and of NumPy's BLAS would spin, and take the cores from
# other processes of tests. The libraries read this when they are loaded, by the imports below.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import nbdl
from nbdl import backend as backends
from nbdl import config

CPU_BACKENDS = ("numpy", "numba")

# The same examples in every run; `--hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, print_blob=True
)
hypothesis.settings.register_profile("explore", max_examples=2000, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")


def missing_reason(name: str) -> str | None:
    """Why a backend cannot be used here, with the remedy; None where it can."""
    status = next(status for status in backends.status() if status.name == name)
    return None if status.available else f"backend {name} is missing: {status.reason}; {status.remedy}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gpu", choices=["standin", "real", "both"], default="both",
        help="run the GPU tests on the stand-in for CuPy, on a real device, or on both (where they are)",
    )  # fmt: skip


def pytest_report_header() -> list[str]:
    lines = [f"nbdl {nbdl.__version__}, {config.num_threads()} threads, cache {config.cache_dir()}"]
    for status in backends.status():
        state = f"on {', '.join(status.devices)}" if status.available else f"missing: {status.reason}"
        lines.append(f"backend {status.name}: {state}")
    return lines


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        reason = missing_reason("cupy")
        if reason and config.require_gpu():
            pytest.fail(f"NBDL_REQUIRE_GPU is set, but {reason}", pytrace=False)
        if reason:
            pytest.skip(reason)
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")


@pytest.fixture(params=CPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each CPU backend, and gives its name."""
    reason = missing_reason(request.param)
    if reason:
        pytest.skip(reason)
    with nbdl.use_backend(request.param):
        yield request.param


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty kernel cache for this test and the processes it starts; other tests share the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NBDL_CACHE_DIR", str(folder))
    return folder
