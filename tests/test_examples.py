"""The example programs: what they print, save and refuse."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from processes import run_python

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PNG = b"\x89PNG\r\n"


def run(name: str, *arguments: str, missing: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs an example as a user does, with some packages hidden from it."""
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(EXAMPLES)!r})\n"
        f"sys.modules.update(dict.fromkeys({missing!r}))\n"
        f"sys.argv = {[name, *arguments]!r}\n"
        f"runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
    )
    return run_python("-c", code)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="scikit-learn brings the images: pip install scikit-learn",
)
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib draws: pip install matplotlib"
)


@needs_sklearn
@needs_matplotlib
def test_digits_quick(tmp_path):
    picture = tmp_path / "curve.png"
    result = run("digits.py", "--quick", "--backend", "numpy", "--seed", "3", "--out", str(picture))
    assert (result.returncode, result.stderr) == (0, "")
    accuracy, speed = re.search(
        r"^numpy +test accuracy ([\d.]+)%, ([\d,]+) images/s", result.stdout, re.M
    ).groups()
    assert float(accuracy) > 85
    assert int(speed.replace(",", "")) > 0
    assert picture.read_bytes().startswith(PNG)


@needs_sklearn
def test_digits_without_optional_packages(tmp_path):
    picture = tmp_path / "curve.png"
    arguments = ("--epochs", "1", "--backend", "numpy", "--out", str(picture))
    result = run("digits.py", *arguments, missing=("matplotlib", "tqdm"))
    assert result.returncode == 0, result.stderr
    assert "matplotlib is missing: pip install matplotlib" in result.stdout
    assert not picture.exists()


REFUSALS = [
    ("digits.py", ("--backend", "fortran"), "unknown backend 'fortran'; there are numpy, numba, cupy"),
    ("digits.py", ("--epochs", "0"), "--epochs: must be 1 or more, got 0"),
    ("digits.py", ("--backend", "numpy", "--resume"), "--resume needs --checkpoint FILE"),
    ("digits.py", ("--out", "/nowhere/at/all.png"), "there is no folder /nowhere/at"),
    ("throughput.py", ("--backend", "fortran"), "unknown backend 'fortran'; there are numpy, numba, cupy"),
    ("throughput.py", ("--csv", "/nowhere/at/all.csv"), "there is no folder /nowhere/at"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSALS)
def test_refusals_are_one_line(name, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        load(name).main(list(arguments))
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["digits.py", "throughput.py"])
def test_missing_backend_is_explained(name):
    result = run(name, "--backend", "cupy", missing=("cupy",))
    assert result.returncode == 2
    assert re.search(r"backend 'cupy' cannot be used: .*pip install", result.stderr.splitlines()[-1])


def test_digits_without_sklearn():
    result = run("digits.py", "--backend", "numpy", missing=("sklearn",))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "digits: scikit-learn is missing, which brings the images: pip install scikit-learn"
    ]


def test_throughput_quick(tmp_path):
    table, picture = tmp_path / "figures.csv", tmp_path / "figures.png"
    result = run(
        "throughput.py", "--quick", "--backend", "numpy", "--compiled", "--csv", str(table),
        "--plot", str(picture),
        missing=("matplotlib",),
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert "matplotlib is missing" in result.stdout
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    throughput = load("throughput.py")
    expected = [
        (name, str(size))
        for name, workload in throughput.WORKLOADS.items()
        for size in throughput.sizes_of(workload, True)
    ]
    for backend in ("numpy", "numpy+compile"):
        found = [(row["workload"], row["size"]) for row in rows if row["backend"] == backend]
        assert found == expected
    assert all(float(row["seconds"]) > 0 for row in rows)
    for workload in throughput.WORKLOADS.values():
        assert workload.title in result.stdout


CROSSOVERS = [
    ([1.0, 1.0, 1.0], "b is faster than a at all sizes"),
    ([3.0, 1.0, 1.0], "b is faster than a from n = 32 on"),
    ([1.0, 3.0, 1.0], "b is faster than a from n = 64 on"),
    ([1.0, 1.0, 3.0], "b is not faster than a at the largest size"),
]


@pytest.mark.parametrize(("seconds", "line"), CROSSOVERS)
def test_crossovers(seconds, line):
    throughput = load("throughput.py")
    sizes = (16, 32, 64)
    results = {
        "a": {("matmul", size): 2.0 for size in sizes},
        "b": {("matmul", size): value for size, value in zip(sizes, seconds, strict=True)},
    }
    assert throughput.crossovers(results, "matmul", sizes) == [line]


def test_workers_do_not_inherit_hindering_settings(monkeypatch, tmp_path):
    throughput = load("throughput.py")
    seen = {}

    class Process:
        stdout, returncode = (), 0

        def __init__(self, command, env, **options):
            seen.update(env)

        def __enter__(self):
            return self

        def __exit__(self, *exc_info):
            return None

    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("KEPT", "yes")
    monkeypatch.setattr(throughput.subprocess, "Popen", Process)
    assert throughput.measure("numpy", quick=True) == {}
    assert "OPENBLAS_CORETYPE" not in seen
    assert seen["KEPT"] == "yes"
