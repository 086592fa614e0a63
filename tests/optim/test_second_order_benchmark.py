"""The programs that compare second-order methods: do they run, and write what they promise?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "benchmarks" / "second_order.py"


def test_it_writes_its_report(tmp_path):
    pytest.importorskip("scipy.optimize")
    command = [
        sys.executable,
        str(PROGRAM),
        "--methods",
        "bfgs,levenberg-marquardt",
        "--problems",
        "Beale,Wood",
    ]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "second_order.json").read_text())["results"]
    assert set(results) == {"bfgs", "levenberg-marquardt"}
    assert set(results["bfgs"]) == {"Beale", "Wood"}
    assert "| bfgs" in (tmp_path / "second_order.md").read_text()


def test_unknown_names_are_told():
    for option in ("--methods", "--problems"):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), option, "nothing"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 2
        assert "there are" in done.stderr


@pytest.mark.parametrize(
    ("name", "options", "entries", "text"),
    [
        (
            "digits_optimizers",
            ["--methods", "adam,gauss-newton/cg,k-fac", "--seconds", "0.05"],
            {"adam", "gauss-newton/cg", "k-fac"},
            "| k-fac ",
        ),
        (
            "curvature_products",
            ["--models", "small mlp", "--repeats", "1"],
            {"small mlp"},
            "| forward over reverse ",
        ),
    ],
    ids=["digits", "products"],
)
def test_the_other_programs(name, options, entries, text, tmp_path):
    if name == "digits_optimizers":
        pytest.importorskip("sklearn")
    command = [sys.executable, str(PROGRAM.with_name(f"{name}.py")), *options, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(json.loads((tmp_path / f"{name}.json").read_text())["results"]) == entries
    assert text in (tmp_path / f"{name}.md").read_text()


def test_the_document_runs():
    blocks = (ROOT / "docs" / "second_order.md").read_text().split("```python\n")[1:]
    names: dict = {}
    for block in blocks:
        exec(block.split("```")[0], names)
    assert names["step"].shape == names["preconditioned"].x.shape == (names["risk"].layout.size,)
    assert names["loss"].item() < names["risk"].loss(names["risk"].model(names["x"]) * 0, names["y"]).item()
