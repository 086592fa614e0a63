"""The benchmark of training steps: does it run, and write what it promises? Never how fast."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbdl

Run = Callable[..., str]


def test_training_writes_a_report(run: Run, tmp_path: Path):
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
        assert result["calls"] >= 1
        assert result["last_value"] < result["value"]  # it learns
        assert len(result["others_cores"]) == 3
        assert result["against_baseline"] is None  # no peer took part
    assert data["results"]["a"]["best_peer"] is None
    assert data["results"]["a"]["best_own"] in contenders
    text = (tmp_path / "training.md").read_text()
    assert text.startswith("# Training steps\n")
    assert "## Overview" in text
    assert "## a: MLP 2-32-32-1" in text
    assert text[text.index("## a") :].strip() in output


def quick_report(run: Run, folder: Path, kind: str) -> dict[str, Any]:
    """What a kind of report says of one workload on the NumPy backend; its page is in the folder, too."""
    choice = ("--quick", "--only", "a", "--contenders", "nbdl-numpy", "--out", str(folder))
    run("training.py", f"--{kind}", *choice)
    return json.loads((folder / f"{kind}.json").read_text())["results"]["a"]["contenders"]["nbdl-numpy"]


def test_startup_report(run: Run, tmp_path: Path):
    result = quick_report(run, tmp_path, "startup")
    assert set(result) == {"cold", "warm"}
    for times in result.values():
        parts = times["import_s"] + times["build_s"] + times["first_step_s"]
        assert 0 < parts < times["total_s"]
    assert "first step, warm" in (tmp_path / "startup.md").read_text()


def test_memory_report(run: Run, tmp_path: Path):
    found = quick_report(run, tmp_path, "memory")
    assert 0 < found["imported_mb"] <= found["peak_mb"]
    assert "imported MB" in (tmp_path / "memory.md").read_text()


def test_neighbour_report(run: Run, tmp_path: Path):
    found = quick_report(run, tmp_path, "neighbour")
    least, greatest = found["cost"][1:]
    assert 0 < least <= found["cost"][0] <= greatest
    assert found["alone_ms"] > 0
    assert "ms beside" in (tmp_path / "neighbour.md").read_text()


def test_scaling_report(run: Run, tmp_path: Path):
    threads = quick_report(run, tmp_path, "scaling")["threads"]
    assert list(threads) == ["1", "2"]
    assert threads["1"]["gain"] == [1, 1, 1]
    assert threads["2"]["median_ms"] > 0
    assert "gain, 2" in (tmp_path / "scaling.md").read_text()


@pytest.mark.parametrize(
    ("workload", "contenders"),
    [
        ("a", "nbdl,nbdl-compiled,nbdl-numpy"),
        pytest.param("a", "nbdl,torch", marks=pytest.mark.torch),
        pytest.param("a", "nbdl,nbdl-scan", marks=pytest.mark.slow),
        pytest.param("d", "nbdl,nbdl-numpy", marks=pytest.mark.slow),
        pytest.param("i1", "nbdl-compiled,nbdl-numpy", marks=pytest.mark.slow),
        pytest.param("h", "nbdl-compiled,torch", marks=[pytest.mark.torch, pytest.mark.slow]),
        *(
            pytest.param(name, "nbdl,nbdl-compiled,torch", marks=[pytest.mark.torch, pytest.mark.slow])
            for name in ("b", "c", "d", "e", "f", "g", "i2", "i3")
        ),
    ],
)
def test_values_agree(run: Run, workload: str, contenders: str):
    output = run("training.py", "--check", "--only", workload, "--contenders", contenders)
    if "is left out" in output:
        pytest.skip("a contender is not installed")
    assert output.count("agrees") == len(contenders.split(","))


def test_every_workload_has_its_weights_and_is_built(module):
    tensors, data = module("workloads_tensors"), module("data")
    for name in data.WORKLOADS:
        model, x, y = tensors.load(nbdl, name)  # loading is strict
        assert len(x) == len(y)
        assert {str(p.dtype) for p in model.parameters()} == {"float64" if name[0] in "hi" else "float32"}


def test_several_steps_a_call_are_for_one_workload(module):
    build, unsupported = module("workloads_nbdl").build, module("program").Unsupported
    assert build("a", "scan").steps == module("data").SCAN
    with pytest.raises(unsupported, match="workload a only"):
        build("b", "scan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "z"], "'z' is unknown; there are a, b, c, d, e, f, g, h, i1, i2, i3"),
        (
            ["--contenders", "nbdl,tensorflow"],
            "unknown contender 'tensorflow'; there are nbdl, nbdl-compiled, nbdl-scan, nbdl-numpy, torch",
        ),
        (["--threads", "0"], "--threads must be greater than 0, got 0"),
        (["--rounds", "-1"], "--rounds must be greater than 0, got -1"),
        (["--block", "nan"], "--block must be greater than 0, got nan"),
        (["--check", "--startup"], "not allowed with"),
    ],
)
def test_wrong_options(run: Run, arguments: list[str], message: str):
    assert message in run("training.py", *arguments, code=2)
