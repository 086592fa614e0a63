"""What the benchmark programs are made of: contenders, measuring, tables."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest


def test_a_contender_that_is_not_installed_is_named(module):
    contenders = module("contenders")
    table = [contenders.NBDL, contenders.Contender("other", "other", "", "no_such_package_for_nbdl")]
    chosen, missing = contenders.choose(table, None)
    assert [contender.name for contender in chosen] == ["nbdl"]
    assert len(missing) == 1
    assert "pip install no_such_package_for_nbdl" in missing[0]


def test_environment_of_a_contender(module, monkeypatch: pytest.MonkeyPatch):
    contenders = module("contenders")
    for name in contenders.CLEARED:
        monkeypatch.setenv(name, "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = contenders.environment(contenders.NBDL, 2, NBDL_CACHE_DIR="cache")
    assert not set(contenders.CLEARED) & set(environment)
    assert {environment[name] for name in contenders.THREAD_COUNTS} == {"2"}
    assert (environment["NBDL_BACKEND"], environment["NBDL_CACHE_DIR"]) == ("numba", "cache")


def test_a_failing_contender_is_reported_and_the_others_go_on(module):
    harness, contenders = module("harness"), module("contenders")
    broken = contenders.Contender("broken", "missing", "", "nbdl")  # there is no workloads_missing.py
    with (
        harness.Worker(broken, "workloads", 1) as bad,
        harness.Worker(contenders.NBDL_NUMPY, "workloads", 1) as good,
    ):
        results = harness.measure({"broken": bad, "nbdl-numpy": good}, "a", 2, 1e-3)
    assert "ModuleNotFoundError" in results["broken"]["error"]
    assert len(results["nbdl-numpy"]["blocks_s"]) == 2


def test_a_crash_ends_one_program_and_no_other(module, tmp_path: Path):
    harness, contenders = module("harness"), module("contenders")
    lines = [
        "import os",
        "from program import Program",
        "PROGRAMS = {'crash': lambda variant: os._exit(3), 'works': lambda variant: Program(float, float)}",
    ]
    (tmp_path / "workloads_crashing.py").write_text("\n".join(lines))
    contender = contenders.Contender("crashing", "crashing", "", "nbdl")
    with harness.Worker(contender, "workloads", 1, PYTHONPATH=str(tmp_path)) as worker:
        found = [harness.measure({"x": worker}, name, 1, 1e-4)["x"] for name in ("works", "crash", "works")]
    assert found[1] == {"error": "the process ended with code 3"}
    assert len(found[0]["blocks_s"]) == len(found[2]["blocks_s"]) == 1


def test_what_is_clear_is_not_measured_on(module):
    harness, contenders = module("harness"), module("contenders")
    with harness.Worker(contenders.NBDL_NUMPY, "workloads", 1) as worker:
        results = harness.measure({"nbdl": worker}, "a", 5, 1e-3, lambda found: "blocks_s" in found["nbdl"])
    assert len(results["nbdl"]["blocks_s"]) == 1

    def is_clear(ours: list[float], theirs: list[float]) -> bool:
        return harness.is_clear({"nbdl": {"blocks_s": ours}, "torch": {"blocks_s": theirs}}, "nbdl", "torch")

    assert is_clear([1, 1, 1], [2, 3, 2])
    assert is_clear([2, 2, 9], [1, 1, 1])
    assert not is_clear([1, 1], [2, 3])  # too few
    assert not is_clear([1, 1, 1], [2, 0.9, 2])
    failed = {"nbdl": {"blocks_s": [1, 1, 1]}, "torch": {"error": "no"}}
    assert not harness.is_clear(failed, "nbdl", "torch")


def test_a_contender_without_the_program_is_left_out(module):
    harness, contenders = module("harness"), module("contenders")
    with harness.Worker(contenders.NBDL_NUMPY, "workloads", 1) as worker:
        assert harness.measure({"nbdl-numpy": worker}, "no such workload", 1, 1e-3) == {}


def test_summary(module):
    summarize = module("report").summarize
    results = {
        "nbdl": {"blocks_s": [0.001, 0.002, 0.004]},
        "torch": {"blocks_s": [0.004, 0.004, 0.004]},
        "jax": {"blocks_s": [0.002, 0.002, 0.012]},
        "autograd": {"error": "ValueError: no"},
    }
    summary = summarize(results, {"nbdl"}, "torch")
    assert summary["best_peer"] == "jax"
    assert summary["best_own"] == "nbdl"
    nbdl = summary["contenders"]["nbdl"]
    assert (nbdl["median_ms"], nbdl["min_ms"], nbdl["max_ms"]) == (2.0, 1.0, 4.0)
    assert nbdl["against_baseline"] == [2.0, 1.0, 4.0]
    assert nbdl["against_best"] == pytest.approx([2.0, 1.0, 3.0])
    assert summary["contenders"]["torch"]["against_baseline"] == [1.0, 1.0, 1.0]
    assert summary["contenders"]["autograd"] == {"error": "ValueError: no"}


def test_overview(module):
    results = {"nbdl": {"blocks_s": [0.001, 0.001]}, "torch": {"blocks_s": [0.002, 0.004]}}
    summarize = module("report").summarize
    summaries = {
        "a": summarize(results, {"nbdl"}, "torch"),
        "b": summarize({"nbdl": results["nbdl"]}, {"nbdl"}, "torch"),
    }
    *_, first, second = module("throughput").overview(summaries).splitlines()
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "a",
        "nbdl",
        "1.00",
        "torch",
        "3.00",
        "3.00x (2.00-4.00)",
    ]
    assert [cell.strip() for cell in second.split("|")[1:-1]] == ["b", "nbdl", "1.00", "-", "-", "-"]


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_thread_counts(module, most: int, counts: list[int]):
    assert module("scaling").thread_counts(most) == counts


def test_values_are_compared_at_the_steps_that_both_know(module):
    difference = module("agreement").difference
    assert difference({32: 2.0}, {1: 5.0, 32: 1.0}) == 1.0
    assert difference({1: 1.0, 2: 3.0}, {1: 1.0, 2: 4.0}) == 0.25
    assert math.isnan(difference({32: 2.0}, {1: 2.0}))
    assert math.isnan(difference({1: 1.5, 2: math.nan}, {1: 1.0, 2: 1.0}))


def test_memory_table(module):
    found = {
        "torch": {"imported_mb": 200.0, "peak_mb": 300.0},
        "nbdl": {"imported_mb": 50.0, "peak_mb": 75.0},
        "jax": {"imported_mb": None, "peak_mb": None},
        "autograd": {"error": "no"},
    }
    rows = module("memory").table("d", {"contenders": found}).splitlines()
    cells = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]]
        for row in rows
        if "|" in row
    }
    assert cells["torch"] == ["200", "300", "100 %", "100", "100 %"]
    assert cells["nbdl"] == ["50", "75", "25 %", "25", "25 %"]
    assert cells["jax"] == ["-"] * 5
    assert cells["autograd"] == ["failed", *["-"] * 4]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (123.4, "123"),
        (1234.5, "1,234"),
        (0.0, "0.00"),
        (None, "-"),
    ],
)
def test_numbers_have_three_digits(module, value: float | None, text: str):
    assert module("report").number(value) == text


WARNING = " This is more than 0.1: do not trust the figures."


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([None, None], []),
        ([], []),
        ([0.0, 0.1, -0.04], ["\nMeanwhile other processes kept 0.02 cores busy."]),
        ([-0.2], ["\nMeanwhile other processes kept 0.00 cores busy."]),
        ([0.5, 1.5], [f"\nMeanwhile other processes kept 1.00 cores busy.{WARNING}"]),
    ],
)
def test_disturbance_by_other_processes(module, others: list[float | None], expected: list[str]):
    results = {"contenders": {"nbdl": {"others_cores": others}, "jax": {"error": "no"}}}
    assert module("report").disturbance([results]) == expected


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="there is no /proc/stat on this system")
def test_busy_seconds_counts_all_but_idle_time(module, tmp_path: Path):
    busy_seconds = module("machine").busy_seconds
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 5000 600 7 8 9 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    assert busy_seconds(stat) == pytest.approx((100 + 20 + 30 + 7 + 8 + 9) / os.sysconf("SC_CLK_TCK"))
    assert busy_seconds(tmp_path / "missing") is None


def test_table_is_aligned(module):
    lines = module("report").table(["name", "ms"], [["a", "1.00"], ["longer", "10"]]).splitlines()
    assert lines == ["| name   |   ms |", "| ------ | ---: |", "| a      | 1.00 |", "| longer |   10 |"]
