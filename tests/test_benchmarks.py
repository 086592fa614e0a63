"""The benchmark programs: do they run, measure what they say, and write what they promise? Never how fast."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nbdl

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


def test_memory_report(tmp_path: Path):
    run(
        "training.py",
        "--memory",
        "--quick",
        "--only",
        "a",
        "--contenders",
        "nbdl-numpy",
        "--out",
        str(tmp_path),
    )
    found = json.loads((tmp_path / "memory.json").read_text())["results"]["a"]["contenders"]["nbdl-numpy"]
    assert 0 < found["imported_mb"] <= found["peak_mb"]
    assert "imported MB" in (tmp_path / "memory.md").read_text()


def test_what_applications_reach(tmp_path: Path):
    options = ("--quick", "--backend", "numpy", "--only", "rbf_regression", "--out", str(tmp_path))
    printed = run("applications.py", *options)
    found = json.loads((tmp_path / "applications.json").read_text())["results"]["rbf_regression.py"]
    assert 0 < found["figures"]["error after Levenberg-Marquardt"] < found["figures"]["error at the start"]
    assert not any("seconds" in name for name in found["figures"])
    assert 0 < found["processor_seconds"] < 2 * found["seconds"] * (os.cpu_count() or 1)
    table = (tmp_path / "applications.md").read_text().partition("\n## Figures")[2]
    assert "R2" in table
    assert table in printed + "\n"


def test_an_application_that_fails(module, monkeypatch, tmp_path: Path, capsys):
    program = module("applications")
    arguments = ["--backend", "fortran", "--only", "rbf_regression", "--out", str(tmp_path)]
    assert program.main(arguments) == 1
    line = "failed: exit code 2: rbf_regression.py: error: unknown backend 'fortran'"
    assert line in (tmp_path / "applications.md").read_text()
    with pytest.raises(SystemExit):
        program.main(["--only", "poems"])
    assert "argument --only: unknown program 'poems'; there are char_gpt, " in capsys.readouterr().err


def test_neighbour_report(tmp_path: Path):
    options = ("--neighbour", "--quick", "--only", "a", "--contenders", "nbdl-numpy", "--out", str(tmp_path))
    run("training.py", *options)
    found = json.loads((tmp_path / "neighbour.json").read_text())["results"]["a"]["contenders"]["nbdl-numpy"]
    least, greatest = found["cost"][1:]
    assert 0 < least <= found["cost"][0] <= greatest
    assert found["alone_ms"] > 0
    assert "ms beside" in (tmp_path / "neighbour.md").read_text()


def test_scaling_report(tmp_path: Path):
    run(
        "training.py",
        "--scaling",
        "--quick",
        "--only",
        "a",
        "--contenders",
        "nbdl-numpy",
        "--out",
        str(tmp_path),
    )
    threads = json.loads((tmp_path / "scaling.json").read_text())["results"]["a"]["contenders"]["nbdl-numpy"][
        "threads"
    ]
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
def test_values_agree(workload: str, contenders: str):
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


SMALL_KERNELS = {
    "matmul": (3, 4, 5),
    "matmul_nt": (3, 4, 5),
    "matmul_tn": (3, 4, 5),
    "matmul_batched": (2, 3, 4, 5),
    "linear_gelu": (3, 4, 5),
    "linear_gelu_training": (3, 4, 5),
    "add": (7,),
    "multiply_add": (7,),
    "exp": (7,),
    "tanh": (7,),
    "gelu": (7,),
    "silu_chain": (7,),
    "softmax": (3, 5),
    "cross_entropy_training": (3, 5),
    "layer_norm": (3, 5),
    "layer_norm_training": (3, 5),
    "batch_norm_training": (2, 3, 4, 4),
    "conv2d": (2, 3, 4, 6, 1),
    "conv2d_training": (2, 3, 4, 6, 1),
    "conv2d_strided": (2, 4, 7),
    "conv2d_dilated": (2, 4, 7),
    "conv2d_grouped": (2, 4, 7),
    "conv2d_depthwise": (2, 4, 7),
    "conv_transpose2d": (2, 4, 7),
    "conv1d": (2, 4, 7),
    "max_pool2d": (2, 3, 5),
    "max_pool2d_training": (2, 3, 5),
    "causal_attention": (2, 2, 5, 3),
    "causal_attention_training": (2, 2, 5, 3),
    "embedding": (6, 3, 9),
    "embedding_gradient": (6, 3, 9),
    "sort": (3, 20),
    "argsort": (3, 20),
    "top_10": (3, 20),
    "median": (3, 21),
    "sum_all": (3, 5),
    "sum_rows": (3, 5),
    "sum_columns": (3, 5),
    "max_rows": (3, 5),
    "variance_rows": (3, 5),
    "clone": (3, 5),
    "transposed_copy": (3, 5),
    "concatenate": (4, 5),
}
# With random numbers or initial values, or without a result.
INCOMPARABLE = {"dropout", "lstm", "lstm_training", "adam"}


def arrays(result: Any) -> list[np.ndarray]:
    """Tensors or arrays, several of which make a tuple or list, as NumPy arrays."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in arrays(part)]
    return [np.asarray(result.detach().numpy() if hasattr(result, "detach") else result)]


def assert_equal_kernels(ours: Any, others: Any, operations: Iterable[str]) -> None:
    for operation in operations:
        sizes = SMALL_KERNELS[operation]
        results = [arrays(getattr(kernels, operation)(*sizes)()) for kernels in (ours, others)]
        for result, expected in zip(*results):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5, err_msg=operation)


def test_all_kernels_have_a_small_example(module):
    operations = {case.operation for case in module("kernel_cases").CASES}
    assert operations == SMALL_KERNELS.keys() | INCOMPARABLE


def test_kernels_agree_with_numpy(module):
    numpy_kernels = module("kernels_numpy").Kernels()
    common = [name for name in SMALL_KERNELS if hasattr(numpy_kernels, name)]
    assert len(common) > 25
    # A gradient alone stands beside a loss with its gradient.
    common.remove("cross_entropy_training")
    common.remove("layer_norm_training")
    assert_equal_kernels(module("kernels_tensors").Kernels(nbdl), numpy_kernels, common)


@pytest.mark.torch
def test_kernels_agree_with_pytorch(module):
    torch = pytest.importorskip("torch")
    kernels = module("kernels_tensors").Kernels
    assert_equal_kernels(kernels(nbdl), kernels(torch), SMALL_KERNELS)


def test_kernels_write_a_report(tmp_path: Path):
    run("kernels.py", "--quick", "--only", "copy", "--contenders", "nbdl,numpy", "--out", str(tmp_path))
    results = json.loads((tmp_path / "kernels.json").read_text())["results"]
    assert "clone 128 x 512" in results
    assert all(set(summary["contenders"]) == {"nbdl", "numpy"} for summary in results.values())
    assert all(summary["best_peer"] == "numpy" for summary in results.values())
    assert "vs numpy" in (tmp_path / "kernels.md").read_text()


def test_the_zoo_is_complete(module):
    """Every module is measured but those that hold others, wait for shapes, or PyTorch has not."""
    cases = module("zoo_cases").CASES
    classes = {name: getattr(nbdl.nn, name) for name in nbdl.nn.__all__}
    layers = {
        name for name, kind in classes.items() if isinstance(kind, type) and issubclass(kind, nbdl.nn.Module)
    }
    containers = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}
    bases = {"RNNBase", "RNNCellBase"}
    own = {
        "BinaryStep", "DenselyConnected", "Gaussian", "Maxout", "RBF", "RBFNetwork", "Residual",
        "ResidualLinear", "SobolevaTanh",
    }  # fmt: skip
    lazy = {name for name in layers if name.startswith("Lazy")}
    assert {case.module for case in cases} == layers - containers - bases - own - lazy
    names = [case.name("small") for case in cases]
    assert len(names) == len(set(names))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*NLLLoss2d")
def test_the_zoo_gives_gradients_of_the_same_shapes(module):
    import torch

    zoo = module("zoo_cases")
    with nbdl.use_backend("numpy"):
        for case in zoo.CASES:
            shapes = [
                [None if g is None else tuple(g.shape) for g in zoo.build(lib, case, "small")()]
                for lib in (nbdl, torch)
            ]
            assert shapes[0] == shapes[1], case.name("small")


def test_the_zoo_writes_a_report(tmp_path: Path):
    output = run("zoo.py", "--quick", "--only", "dropout", "--contenders", "nbdl", "--out", str(tmp_path))
    results = json.loads((tmp_path / "zoo.json").read_text())["results"]
    assert {"Dropout small", "Dropout large", "Dropout3d small"} <= set(results)
    assert all(len(s["contenders"]["nbdl"]["blocks_s"]) == 2 for s in results.values())
    text = (tmp_path / "zoo.md").read_text()
    assert text.startswith("# The layer zoo\n")
    assert "## dropout" in text
    assert "failed" not in output


def test_slower_modules_are_marked(module):
    zoo = module("zoo")
    names = zoo.names_of("dropout")
    blocks = {"nbdl": {"blocks_s": [2e-6, 2e-6]}, "torch": {"blocks_s": [1e-6, 1e-6]}}
    faster = {"nbdl": {"blocks_s": [1e-6, 1e-6]}, "torch": {"blocks_s": [3e-6, 3e-6]}}
    summarize = module("report").summarize
    results = {name: summarize(faster, {"nbdl"}, "torch") for name in names}
    results[names[0]] = summarize(blocks, {"nbdl"}, "torch")
    table = zoo.group_table("dropout", results)
    assert [line.split("|")[1].strip() for line in table.splitlines() if "slower" in line] == [names[0]]
    text = zoo.overview(results)
    assert "- small: 6 modules, median ratio 3.00x, 1 below 1" in text
    assert "  - Dropout 0.50x" in text
    assert "- large: 6 modules, median ratio 3.00x, 0 below 1" in text


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
