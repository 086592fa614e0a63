"""The program that compares second-order methods: does it run, and write what it promises?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "second_order.py"


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
