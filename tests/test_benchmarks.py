"""The benchmark programs: do they run, measure what they say, and write what they promise? Never how fast."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "benchmarks"


def run(program: str, *arguments: str, code: int = 0) -> str:
    """Run one of the programs as a user does; what it wrote."""
    # These would disturb nobody but the contenders, whose processes must not see them.
    environment = os.environ | {"OPENBLAS_CORETYPE": "Haswell", "NBDL_BACKEND": "no such backend"}
    command = [sys.executable, str(FOLDER / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks, which are no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def test_training_writes_a_report(tmp_path: Path):
    output = run(
        "training.py", "--quick", "--only", "a", "--contenders", "nbdl,nbdl-numpy", "--out", str(tmp_path)
    )
    data = json.loads((tmp_path / "training.json").read_text())
    assert {"CPU", "cores", "Python", "versions", "threads", "method"} <= set(data["machine"])
    assert list(data["results"]) == ["a"]
    contenders = data["results"]["a"]["contenders"]
    assert list(contenders) == ["nbdl", "nbdl-numpy"]
    for result in contenders.values():
        assert len(result["blocks_s"]) == 3
        assert 0 < result["min_ms"] <= result["median_ms"] <= result["max_ms"]
        assert result["steps"] >= 1
        assert result["last_value"] < result["value"]  # it learns
        assert len(result["others_cores"]) == 3
        assert result["against_baseline"] is None  # no peer took part
    assert data["results"]["a"]["best_peer"] is None
    text = (tmp_path / "training.md").read_text()
    assert text.startswith("# Training steps\n")
    assert "## a: MLP 2-32-32-1" in text
    assert text[text.index("## a") :].strip() in output


def test_startup_report(tmp_path: Path):
    run(
        "training.py",
        "--startup",
        "--quick",
        "--only",
        "a",
        "--contenders",
        "nbdl-numpy",
        "--out",
        str(tmp_path),
    )
    result = json.loads((tmp_path / "startup.json").read_text())["results"]["a"]["contenders"]["nbdl-numpy"]
    assert set(result) == {"cold", "warm"}
    for times in result.values():
        parts = times["import_s"] + times["build_s"] + times["first_step_s"]
        assert 0 < parts < times["total_s"]
    assert "first step, warm" in (tmp_path / "startup.md").read_text()


def test_losses_of_the_backends_agree():
    output = run("training.py", "--check", "--only", "d", "--contenders", "nbdl,nbdl-numpy")
    assert output.count("agrees") == 2
    assert "DIFFERS" not in output


@pytest.mark.torch
def test_losses_agree_with_pytorch():
    output = run("training.py", "--check", "--only", "a", "--contenders", "torch,nbdl")
    assert output.count("agrees") == 2


def test_kernels_write_a_report(tmp_path: Path):
    run("kernels.py", "--quick", "--only", "copy", "--contenders", "nbdl,numpy", "--out", str(tmp_path))
    results = json.loads((tmp_path / "kernels.json").read_text())["results"]
    assert "clone 128 x 512" in results
    assert all(set(summary["contenders"]) == {"nbdl", "numpy"} for summary in results.values())
    assert all(summary["best_peer"] == "numpy" for summary in results.values())
    assert "vs numpy" in (tmp_path / "kernels.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "z"], "'z' is unknown; there are a, b, c, d"),
        (
            ["--contenders", "nbdl,tensorflow"],
            "unknown contender 'tensorflow'; there are nbdl, nbdl-numpy, torch",
        ),
        (["--threads", "0"], "--threads must be greater than 0, got 0"),
        (["--rounds", "-1"], "--rounds must be greater than 0, got -1"),
        (["--block", "nan"], "--block must be greater than 0, got nan"),
        (["--check", "--startup"], "not allowed with"),
    ],
)
def test_wrong_options(arguments: list[str], message: str):
    assert message in run("training.py", *arguments, code=2)


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
    nbdl = summary["contenders"]["nbdl"]
    assert (nbdl["median_ms"], nbdl["min_ms"], nbdl["max_ms"]) == (2.0, 1.0, 4.0)
    assert nbdl["against_baseline"] == [2.0, 1.0, 4.0]
    assert nbdl["against_best"] == pytest.approx([2.0, 1.0, 3.0])
    assert summary["contenders"]["torch"]["against_baseline"] == [1.0, 1.0, 1.0]
    assert summary["contenders"]["autograd"] == {"error": "ValueError: no"}


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
