"""The benchmark of training steps on a GPU: its programs run, and its report says what was found."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the benchmarks, which are no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def session(module: Any, programs: str, variant: str) -> Any:
    return module("worker").Session(programs, variant)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("variant", ["eager", "compiled"])
def test_steps_of_nbdl(module: Any, variant: str) -> None:
    worker = session(module, "gpu_nbdl", variant)
    found = worker.prepare("a")
    block = worker.measure(12)
    assert block["step_s"] > 0
    assert block["value"] < found["value"]  # it learns
    facts = worker.facts()
    if variant == "compiled":
        products = 6 * 64 * (2 * 32 + 32 * 32 + 32) - 2 * 64 * 2 * 32  # no gradient of the inputs
        assert facts["flops"] > products
        assert facts["bytes"] > 3 * 4 * 1200
    else:
        assert facts == {}


@pytest.mark.usefixtures("gpu")
def test_rates(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module("gpu_nbdl")
    monkeypatch.setattr(sys.modules["gpu_nbdl"], "ROWS", 8)
    monkeypatch.setattr(sys.modules["gpu_nbdl"], "COPIED", 64)
    worker = session(module, "gpu_nbdl", "eager")
    assert worker.prepare("copy")["value"] == 1
    assert worker.prepare("product")["value"] == 8


def test_batches_take_turns(module: Any) -> None:
    tensors = module("gpu_tensors")
    found = tensors.batches("d")
    assert len(found) == tensors.ROTATION
    (x, y), (other, _) = found[:2]
    assert x.shape == (256, 1, 28, 28)
    assert y.shape == (256,)
    assert not np.array_equal(x, other)
    assert x.sum() == pytest.approx(other.sum())
    seen = tensors.rotating(lambda x, y: (x, y), [(k, -k) for k in range(3)])
    assert [seen() for _ in range(4)] == [(0, 0), (1, -1), (2, -2), (0, 0)]


@pytest.mark.torch
def test_steps_of_pytorch(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = module("gpu_torch")
    monkeypatch.setattr(programs, "DEVICE", "cpu")
    monkeypatch.setattr(programs, "Clock", lambda events: None)
    worker = session(module, "gpu_torch", "eager")
    found = worker.prepare("a")
    assert worker.measure(12)["value"] < found["value"]


def test_steps_of_jax(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    worker = session(module, "gpu_jax", "step")
    if jax.default_backend() != "gpu":
        with pytest.raises(module("program").Unsupported, match="this JAX computes on cpu"):
            worker.prepare("a")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = worker.prepare("a")
    assert worker.measure(12)["value"] < found["value"]


@pytest.fixture
def program(module: Any) -> ModuleType:
    return module("gpu_training")


def test_the_floor_is_the_slower_of_moving_and_computing(program: ModuleType) -> None:
    worker = SimpleNamespace(ask=lambda what: {"flops": 2e9, "bytes": 1e9})
    assert program.floor(worker, {"bytes": 1e12, "flops": 1e12}) == pytest.approx(2e-3)
    assert program.floor(worker, {"bytes": 1e11, "flops": 1e12}) == pytest.approx(1e-2)
    assert program.floor(worker, {"bytes": 0.0, "flops": 0.0}) is None
    error = program.WorkerError

    def ask(what: str) -> dict[str, float]:
        raise error("gone")

    assert program.floor(SimpleNamespace(ask=ask), {"bytes": 1.0, "flops": 1.0}) is None


def test_the_table_shows_how_far_the_floor_is(module: Any, program: ModuleType) -> None:
    blocks = {"nbdl-graph": [2e-3] * 3, "torch": [4e-3] * 3}
    found = {name: {"blocks_s": times} for name, times in blocks.items()} | {"jax": {"error": "no"}}
    summary = module("report").summarize(found, {"nbdl-graph"}, "torch") | {"floor_s": 1e-3}
    text = program.table("a", summary)
    row = next(line for line in text.splitlines() if "nbdl-graph" in line)
    assert [cell.strip() for cell in row.split("|")[2:7]] == [
        "2.00", "2.00", "2.00", "2.00x", "2.00x (2.00-2.00)",
    ]  # fmt: skip
    assert "Floor: 1.00 ms." in text
    assert "jax failed: no" in text
    assert "The floor is unknown." in program.table("a", {**summary, "floor_s": None})


def test_without_a_gpu_nothing_is_measured(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "missing_device", lambda: "no driver; install it")
    assert program.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "skipped: there is no GPU to measure: no driver; install it\n"
    assert list(tmp_path.iterdir()) == []


def test_the_rates_are_the_best_of_all(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"copy": iter([4e-3, 2e-3]), "product": iter([1.0, 2.0])}
    monkeypatch.setattr(program, "make_worker", lambda *args: _Nothing())
    monkeypatch.setattr(
        program, "measure", lambda workers, name, *args: {"": {"blocks_s": [next(seconds[name])]}}
    )
    chosen = [c for c in program.CONTENDERS if c.name in ("nbdl", "torch", "nbdl-graph", "jax")]
    reached = program.rates(SimpleNamespace(chosen=chosen, rounds=1, block=0.1))
    assert reached["bytes"] == pytest.approx(8 * program.COPIED / 2e-3)
    assert reached["flops"] == pytest.approx(2 * program.ROWS**3)
    assert not math.isinf(reached["flops"])


class _Nothing:
    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass
